"""What a point is worth if what is really set varies about it."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, fields, replace

import jaxtyping as jt
import torch
from torch import Tensor

from bo_suite.data import Columns, Dataset
from bo_suite.errors import SpaceError
from bo_suite.space.parameters import Choice, Float, Int
from bo_suite.space.space import Space
from bo_suite.storage.trial import Trial
from bo_suite.study.outcomes import OutcomeTransform
from bo_suite.study.suggest import Suggester
from bo_suite.surrogates.averaged import AveragedProcess
from bo_suite.surrogates.normal_rule import normal_rule
from bo_suite.surrogates.process import Hyperparameters, Process
from bo_suite.values.describe import described
from bo_suite.values.numbers import is_mapping, number_of

_NODES = 64
"""Most nodes of an average: up to three noisy parameters its error is that of the model, and far below."""

_EARLY = 6
"""Number of early outcomes, at least: the usual number of points that are spread over the space."""

_LARGEST_LOG = 600.0
"""Largest log of a deviation relative to the value: what is set is then at an end of the range anyway."""


@dataclass(frozen=True, eq=False)
class Settings:
    """What is really set if a point is asked for: its values plus normal noise, cut off at their ranges.

    Attributes:
        columns: kinds of the columns of rows.
        noisy: columns with noise.
        parameters: of these columns.
        std: standard deviations of the noise, in the user's units.
    """

    columns: Columns
    noisy: tuple[int, ...]
    parameters: tuple[Float | Int, ...]
    std: tuple[float, ...]

    @staticmethod
    def of(std: Mapping[str, float], space: Space) -> "Settings":
        """The settings of the searched space of a run, by checked deviations; a parameter may be missing."""
        noisy = [name for name in space.names if std.get(name, 0.0) > 0.0]
        parameters = [(name, space[name]) for name in noisy]
        numeric = [(name, one) for name, one in parameters if isinstance(one, Float | Int)]
        return Settings(
            space.columns,
            tuple(space.names.index(name) for name, _ in numeric),
            tuple(one for _, one in numeric),
            tuple(std[name] for name, _ in numeric),
        )

    @property
    def weights(self) -> jt.Float64[Tensor, " k"]:
        """Weights of the nodes."""
        return normal_rule(len(self.noisy), _NODES)[1]

    def nodes(self, x: jt.Float[Tensor, "*b m d"]) -> jt.Float[Tensor, "*b m k d"]:
        """Rows of what may be set, whose weighted mean is the average over the noise; differentiable by x.

        A value v, on a linear or a log scale, becomes the position of v + std z_k or of the end of the range
        that this is beyond. Inactive parameters stay inactive, and no node changes what is active.
        """
        z = normal_rule(len(self.noisy), _NODES)[0].to(x)
        positions = [
            _moved(x[..., column, None], std * z[:, index], parameter)
            for index, (column, parameter, std) in enumerate(
                zip(self.noisy, self.parameters, self.std, strict=True)
            )
        ]
        where = torch.tensor(self.noisy, device=x.device)
        rows = x[..., None, :].expand(*x.shape[:-1], len(z), x.shape[-1])
        nodes = rows.index_copy(-1, where, torch.stack(positions, -1))
        if not self.columns.conditions:
            return nodes
        return torch.where(self.columns.active(x)[..., None, :], nodes, rows)


def _moved(unit: Tensor, noise: Tensor, parameter: Float | Int) -> Tensor:
    """The positions of values plus noise, given those of the values, and at most the ends of the range."""
    low, high = parameter.low, parameter.high
    if not parameter.log:
        return (unit + noise / (high - low)).clamp(0.0, 1.0)
    width = math.log(high) - math.log(low)
    by_value = (noise.abs().log() - math.log(low) - unit * width).clamp(max=_LARGEST_LOG).exp() * noise.sign()
    beyond = by_value <= torch.expm1(-unit * width)  # below the range, where the logarithm may not exist
    return torch.where(beyond, 0.0, unit + torch.log1p(torch.where(beyond, 0.0, by_value)) / width).clamp(
        max=1.0
    )


@dataclass(frozen=True, eq=False)
class RobustScore:
    """Minus the mean outcome over what may be set, minus the standard deviation of this mean.

    -T(Σ_k w_k T⁻¹(mean(z_k))) - √var(Σ_k w_k f(z_k)), on the surrogate's scale, with T the transform of the
    outcomes: the mean is that of outcomes in the user's units. A mean on the surrogate's scale, on which the
    tail of bad outcomes is shorter, stays too near to cliffs. Outcomes above the cap of T count as the cap.

    Attributes:
        process: averaged over what may be set.
        transform: T.
    """

    process: AveragedProcess
    transform: OutcomeTransform
    differentiable: bool = field(default=True, init=False)

    @property
    def hyperparameters(self) -> Hyperparameters:
        """Those of the process."""
        return self.process.hyperparameters

    def __call__(self, x: jt.Float[Tensor, "m d"]) -> jt.Float[Tensor, " m"]:
        """The score of each row."""
        means, var = self.process.at_nodes(x)
        return -self.transform.average(means, self.process.weights) - var.clamp(min=1e-20).sqrt()


@dataclass(frozen=True, eq=False)
class Robustness:
    """What `recommend` needs to judge points by the mean outcome over what may be set.

    Attributes:
        settings: what may be set.
        transform: of the outcomes of the run. Its cap is not below that of the early ones: what lies about a
            point that a search has converged to must be known, too.
        usual: the transform of the data that other models of the run see; None if it is the same.
        losses: the outcomes in the user's units, smaller is better; None with the usual transform.
    """

    settings: Settings
    transform: OutcomeTransform
    usual: OutcomeTransform | None = None
    losses: jt.Float64[Tensor, " n"] | None = None

    @staticmethod
    def of(std: Mapping[str, float], suggester: Suggester, trials: Sequence[Trial]) -> "Robustness | None":
        """That of a run; None if no parameter that varies has noise.

        Args:
            std: `checked_deviations` of the space.
            suggester: of the run.
            trials: all trials, some of them with a value.
        """
        settings, of = Settings.of(std, suggester.searched), suggester.observations
        if not settings.noisy:
            return None
        usual = of.transform(trials)
        if of.curves(trials) is not None:
            return Robustness(settings, usual)
        losses = of.losses([trial for trial in trials if trial.measured])
        early = max(_EARLY, len(losses) // 4)
        return Robustness(settings, of.transform(trials, early), usual, losses)

    def data(self, data: Dataset) -> Dataset:
        """The data on the scale of the transform, which has other bad outcomes below its cap."""
        if self.usual is None or self.losses is None or len(self.losses) != data.y.shape[-1]:
            return data
        losses, wide, usual = self.losses, self.transform, self.usual
        ratio = (wide.log_slope(losses) - usual.log_slope(losses)).exp() * usual.scale / wide.scale
        y, ratio = wide(losses).to(data.y), ratio.to(data.y)
        noise = None if data.noise is None else data.noise * ratio.square()
        gradient = None if data.gradient is None else data.gradient * ratio[..., None]
        return replace(data, y=y, noise=noise, gradient=gradient)

    def score(self, process: Process, like: Tensor) -> RobustScore:
        """The score by a fitted process, on the device of the data."""
        transform = OutcomeTransform(
            *(getattr(self.transform, one.name).to(like) for one in fields(self.transform))
        )
        averaged = AveragedProcess(
            process, self.settings.nodes, self.settings.weights.to(like), process.noise
        )
        return RobustScore(averaged, transform)


def checked_deviations(robust: object, space: Space) -> dict[str, float]:
    """The standard deviations of what is set as floats, by name.

    Raises:
        SpaceError: it is no dict, a name is not that of a Float or an Int, or is that of a fidelity, or a
            number is below 0 or not finite.
    """
    law = "robust must be a dict of standard deviations by name of a Float or an Int"
    if not is_mapping(robust):
        raise SpaceError(f"{law}, such as {{{next(iter(space.names))!r}: 0.1}}, got {described(robust)}")
    deviations = {}
    for name, value in robust.items():
        if name not in space:
            raise SpaceError(f"{law}, one of {described(list(space.names))}, got {described(name)}")
        parameter = space[name]
        if isinstance(parameter, Choice):
            raise SpaceError(f"{law}, got one of {name!r}, which is a Choice")
        if parameter.fidelity:
            raise SpaceError(f"{law}, got one of {name!r}, which is a fidelity, and always at its target")
        number = number_of(value)
        if number is None or not 0.0 <= number < math.inf:
            raise SpaceError(
                f"the standard deviation of {name!r} must be finite and >= 0, got {described(value)}"
            )
        deviations[name] = number
    return deviations
