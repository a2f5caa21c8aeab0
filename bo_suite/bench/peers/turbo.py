"""TuRBO, as the tutorial of BoTorch has it."""

import math
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from bo_suite.bench.method import Task
from bo_suite.bench.peers.seeded import Penalty, SeededPeer
from bo_suite.space.parameters import Choice
from bo_suite.space.space import Params

if TYPE_CHECKING:  # BoTorch is imported when a run starts
    from botorch.models import SingleTaskGP

_LONGEST, _SHORTEST = 1.6, 0.5**7
_SUCCESSES = 10
_EXACT_NOISE, _NOISE = (1e-8, 1e-3), (5e-4, 0.2)


@dataclass(frozen=True)
class Turbo:
    """TuRBO-1: Thompson sampling in one trust region, a point at a time.

    As BoTorch's tutorial "Trust Region Bayesian Optimization" has it: the first side length 0.8 of the unit
    cube, doubled up to 1.6 after 10 successes in a row, halved after max(4, d) failures in a row, the end of
    a region below 2^-7. A success is less than the smallest value of the region by more than 0.1% of it. A
    Matérn 5/2 process with a length scale a column in [0.005, 4] and noise in [1e-8, 1e-3], on standardised
    values, fitted by fit_gpytorch_mll. At least 2000 and at most 5000 Sobol candidates in the box about the
    best point, with sides in proportion to the length scales; each coordinate is taken from the box with
    probability min(1, 20 / d), the others from the best point. The next point is the smallest of one joint
    draw of the process at all candidates.

    As Eriksson et al. have it: between these bounds, 100 d candidates (the tutorial has twice as many); after
    the end of a region a new one starts, with initial points and data of its own; of noisy observations, the
    best point is the one with the smallest posterior mean, and the noise is in [5e-4, 0.2].

    Chosen here: the tutorial's 2 d initial Sobol points are at most a quarter of the budget. Candidates are
    rounded to levels. Unordered options are one-hot for the process, and the box has all of them. Without
    noise no point is suggested twice in a region, which ends once it has no new point. If a fit fails, the
    hyperparameters of the fit before are taken. A failure counts as the worst value so far.

    Eriksson et al. (2019), "Scalable Global Optimization via Local Bayesian Optimization".
    """

    name: str = "turbo"

    def start(self, task: Task) -> SeededPeer:
        """The first region before its first point."""
        return SeededPeer(_Loop, task)


@dataclass(frozen=True)
class TrustRegion:
    """The state of a trust region.

    Attributes:
        patience: failures in a row after which the length is halved.
        length: side of the box before it is stretched.
        successes: in a row, since the last change of the length.
        failures: in a row, since the last change of the length.
    """

    patience: int
    length: float = 0.8
    successes: int = 0
    failures: int = 0

    @property
    def ended(self) -> bool:
        """Whether the region is so small that a new one starts."""
        return self.length < _SHORTEST

    def after(self, success: bool) -> "TrustRegion":
        """The region after one more value."""
        if success:
            if self.successes + 1 < _SUCCESSES:
                return replace(self, successes=self.successes + 1, failures=0)
            return TrustRegion(self.patience, min(2 * self.length, _LONGEST))
        if self.failures + 1 < self.patience:
            return replace(self, successes=0, failures=self.failures + 1)
        return TrustRegion(self.patience, self.length / 2)


class _Loop:
    def __init__(self, task: Task) -> None:
        self._task = task
        self._encoding = task.space.encoding
        parameters = [parameter for _, parameter in task.space]
        self._levels = [p.levels if isinstance(p, Choice) and not p.ordered else 0 for p in parameters]
        self._hyperparameters: dict[str, Any] | None = None
        self._outcomes = Penalty(self._observe_suggestion)
        self._start_region(task.seed)

    def _start_region(self, seed: int) -> None:
        from botorch.utils.sampling import draw_sobol_samples

        dim = self._task.space.dim
        self._region = TrustRegion(max(4, dim))
        unit = torch.tensor([[0.0] * dim, [1.0] * dim], dtype=torch.float64)
        count = max(2, min(2 * dim, self._task.budget // 4))
        sobol = draw_sobol_samples(unit, n=count, q=1, seed=seed).squeeze(1)
        self._initial = self._encoding.sample_from_unit(sobol)
        self._rows: list[Tensor] = []
        self._values: list[float] = []

    def _observe(self, params: Params, value: float) -> None:
        self._rows.append(self._task.space.encode([params])[0])
        self._values.append(value)

    def _observe_suggestion(self, params: Params, value: float) -> None:
        if len(self._values) >= len(self._initial):
            smallest = min(self._values)
            self._region = self._region.after(value < smallest - 1e-3 * abs(smallest))
        self._observe(params, value)
        if self._region.ended:
            self._start_region(_drawn_seed())

    def ask(self) -> Params:
        row = self._next_initial()
        if row is None and self._values:
            row = self._suggestion()
            if row is None:
                self._start_region(_drawn_seed())
                row = self._next_initial()
        if row is None:  # every initial point has failed
            uniform = torch.rand(1, self._task.space.dim, dtype=torch.float64)
            row = self._encoding.sample_from_unit(uniform)[0]
        return self._task.space.decode(row.unsqueeze(0))[0]

    def _next_initial(self) -> Tensor | None:
        index = len(self._values) + self._outcomes.waiting
        return self._initial[index] if index < len(self._initial) else None

    def _suggestion(self) -> Tensor | None:
        from gpytorch.settings import max_cholesky_size

        rows = torch.stack(self._rows)
        values = torch.tensor(self._values, dtype=torch.float64)
        spread = values.std() if len(values) > 1 else values.new_tensor(0.0)
        gains = (values.mean() - values) / (spread if spread > 0 else 1.0)
        with max_cholesky_size(math.inf):
            process = self._fitted(self._features(rows), gains.unsqueeze(-1))
            with torch.no_grad():
                best = gains
                if self._task.noisy:
                    best = process.posterior(self._features(rows)).mean.squeeze(-1)
                candidates = self._candidates(rows[best.argmax()], self._stretch(process))
                if not self._task.noisy:
                    seen = (candidates.unsqueeze(1) == rows).all(-1).any(-1)
                    candidates = candidates[~seen]
                if not len(candidates):
                    return None
                draw = process.posterior(self._features(candidates)).rsample()
        return candidates[draw.squeeze(-1).argmax()]

    def _fitted(self, features: Tensor, gains: Tensor) -> "SingleTaskGP":
        from botorch.exceptions import ModelFittingError
        from botorch.fit import fit_gpytorch_mll
        from botorch.models import SingleTaskGP
        from gpytorch.constraints import Interval
        from gpytorch.kernels import MaternKernel, ScaleKernel
        from gpytorch.likelihoods import GaussianLikelihood
        from gpytorch.mlls import ExactMarginalLogLikelihood

        noise = _NOISE if self._task.noisy else _EXACT_NOISE
        matern = MaternKernel(
            nu=2.5, ard_num_dims=features.shape[-1], lengthscale_constraint=Interval(0.005, 4.0)
        )
        process = SingleTaskGP(
            features,
            gains,
            covar_module=ScaleKernel(matern),
            likelihood=GaussianLikelihood(noise_constraint=Interval(*noise)),
            outcome_transform=None,
        )
        try:
            fit_gpytorch_mll(ExactMarginalLogLikelihood(process.likelihood, process))
            self._hyperparameters = process.state_dict()
        except ModelFittingError:
            process.load_state_dict(self._hyperparameters or process.state_dict())
        return process

    def _features(self, rows: Tensor) -> Tensor:
        """The inputs of the process: rows with unordered options one-hot."""
        features = []
        for column, levels in enumerate(self._levels):
            if levels:
                level = torch.from_numpy(self._encoding.nearest_levels(column, rows[:, column]))
                features.append(torch.eye(levels, dtype=rows.dtype)[level.long()])
            else:
                features.append(rows[:, [column]])
        return torch.cat(features, dim=-1)

    def _stretch(self, process: "SingleTaskGP") -> Tensor:
        """The factor of each side of the box, of geometric mean 1 over columns that are not one-hot."""
        covariance: Any = process.covar_module
        scales = covariance.base_kernel.lengthscale[0].split([levels or 1 for levels in self._levels])
        logarithms = torch.stack([own.log().mean() for own in scales])
        ordered = torch.tensor([not levels for levels in self._levels])
        return (logarithms - logarithms[ordered].mean()).exp() if ordered.any() else logarithms.exp()

    def _candidates(self, center: Tensor, stretch: Tensor) -> Tensor:
        """Points of the space in the box, each with some coordinates of the center."""
        dim = len(center)
        count = min(5000, max(2000, 100 * dim))
        half = stretch * self._region.length / 2
        unordered = torch.tensor([levels > 0 for levels in self._levels])
        low = torch.where(unordered, 0.0, (center - half).clamp(0.0, 1.0))
        high = torch.where(unordered, 1.0, (center + half).clamp(0.0, 1.0))
        sobol = torch.quasirandom.SobolEngine(dim, scramble=True, seed=_drawn_seed())
        uniform = sobol.draw(count, dtype=torch.float64)
        options = torch.where(unordered, self._encoding.sample_from_unit(uniform), 0.0)
        box = torch.where(unordered, options, low + (high - low) * uniform)
        perturbed = torch.rand(count, dim) <= min(1.0, 20.0 / dim)
        without = (~perturbed.any(dim=-1)).nonzero().squeeze(-1)
        perturbed[without, torch.randint(dim, (len(without),))] = True
        rounded = self._encoding.round_to_levels(torch.where(perturbed, box, center))
        candidates: Tensor = rounded.unique(dim=0)
        return candidates

    def tell(self, params: Params, value: float) -> None:
        self._outcomes.tell(params, value)

    def fail(self, params: Params) -> None:
        self._outcomes.fail(params)

    def add(self, params: Params, value: float) -> None:
        self._observe(params, value)


def _drawn_seed() -> int:
    return int(torch.randint(2**31 - 1, (1,)))
