"""A small neural network as the classifier, fitted to all replicates at once."""

import math
from collections.abc import Iterator
from dataclasses import dataclass, field
from itertools import pairwise
from typing import ClassVar

import jaxtyping as jt
import torch
from torch import Tensor
from torch.nn.functional import elu, logsigmoid, pad, softplus

from bo_suite.classifiers.base import WeightedExamples
from bo_suite.classifiers.features import features_of
from bo_suite.data import Columns, Seeds
from bo_suite.errors import DataError
from bo_suite.linalg.environment import outside_inference_mode
from bo_suite.surrogates.process import Hyperparameters, WarmStart
from bo_suite.surrogates.subsample import rows_at

_BATCH = 512
"""Largest number of rows in a gradient step."""

_LANES = 16
"""Rows of no weight are added up to a multiple of this. Vectorised loops then have no scalar remainder, and a
network gets the same weights to the last bit whether it is fitted alone or beside others. Several hundred
steps of Adam would amplify rounding errors."""

_WINDOW = 25
"""Number of steps over which the mean loss is compared with that of as many steps before."""

_LEAST_CHANGE = 1e-3
"""Relative change of the mean loss below which a network stops."""

_FIRST, _SECOND = 0.9, 0.95
"""Decay rates of Adam's moments."""

_LOW = -1.0
"""Ordered columns are seen on [-1, 1]."""

_SMALL = 1e-8
"""Size of a gradient below which steps become smaller than the rate."""


@dataclass(frozen=True, eq=False)
class MLPLogOdds:
    """Logit of the class probability that fitted networks give, averaged over the members of an ensemble.

    Attributes:
        theta: weights of member 1, then of member 2, and so on; of each layer by layer, a matrix
            (inputs, outputs) before its biases.
        hidden: units of each hidden layer.
        members: number of networks.
        warm: whether the next fit may start from theta.
        columns: kinds of the columns.
    """

    theta: Hyperparameters
    hidden: tuple[int, ...]
    members: int
    warm: bool = False
    columns: Columns = field(default_factory=Columns)
    differentiable: bool = field(default=True, init=False)

    @property
    def hyperparameters(self) -> Hyperparameters | None:
        """Theta, or None if every fit starts anew."""
        return self.theta if self.warm else None

    def __call__(self, x: jt.Float[Tensor, "*b m d"]) -> jt.Float[Tensor, "*b m"]:
        """log Σ_k π_k(x) - log Σ_k (1 - π_k(x)) over the members k, by the logarithms of each."""
        rows = features_of(x, self.columns, _LOW)[..., None, :, :]
        theta = self.theta.unflatten(-1, (self.members, -1))
        layers = _layers(theta, (rows.shape[-1], *self.hidden, 1))
        logit = _outputs(layers, rows)[-1][..., 0]
        if self.members == 1:
            return logit[..., 0, :]
        return logsigmoid(logit).logsumexp(-2) - logsigmoid(-logit).logsumexp(-2)


@dataclass(frozen=True)
class MLPClassifier:
    """A multi-layer perceptron with ELU units, the classifier of BORE (Tiao et al. 2021, section 4).

    Each member minimises Σ_i (positive_i softplus(-f(x_i)) + negative_i softplus(f(x_i))) / Σ_i (positive_i +
    negative_i) + weight_decay / (2 n) Σ w², over the n rows that have a weight and the entries w of the
    matrices; biases are free. Ordered columns are seen on [-1, 1], unordered ones as indicators.

    Adam (Kingma and Ba 2015), at a rate that falls to zero over the last half of the steps, uses all rows in
    each step if there are at most 512. Otherwise it uses 512 a step, drawn in proportion to their weights,
    one from each of 512 equal shares of the total, which leaves the gradient unbiased. If all rows are used,
    a network stops when its mean loss over 25 steps differs by less than a thousandth from that over the 25
    before; the others continue.

    A warm start of the same length replaces the random weights.

    Attributes:
        hidden: units of each hidden layer; () is logistic regression.
        steps: gradient steps at most.
        rate: largest step of a weight.
        weight_decay: precision of the weights under their prior, for n rows of weight one.
        members: networks from different random weights, whose probabilities are averaged.
        warm_steps: gradient steps, at most, of a fit from the weights of an earlier one; when None, every fit
            starts anew, and no weights are stored in the history.
    """

    hidden: tuple[int, ...] = (32, 32)
    steps: int = 500
    rate: float = 0.03
    weight_decay: float = 0.003
    members: int = 1
    warm_steps: int | None = None

    batched: ClassVar[bool] = True

    def __post_init__(self) -> None:
        counts = ("steps", self.steps), ("members", self.members), ("warm_steps", self.warm_steps)
        for name, count in counts:
            if count is not None and not (isinstance(count, int) and count >= 1):
                raise DataError(f"`{name} >= 1` must hold, got {count}")
        object.__setattr__(self, "hidden", tuple(self.hidden))
        if not all(isinstance(units, int) and units >= 1 for units in self.hidden):
            raise DataError(f"every hidden layer needs at least one unit, got {self.hidden}")
        if not 0 < self.rate < math.inf:
            raise DataError(f"`0 < rate < inf` must hold, got {self.rate}")
        if not 0 <= self.weight_decay < math.inf:
            raise DataError(f"`0 <= weight_decay < inf` must hold, got {self.weight_decay}")

    @outside_inference_mode
    def fit(self, data: WeightedExamples, seeds: Seeds, start: WarmStart | None = None) -> MLPLogOdds:
        """The log odds given the data. They start from the weights of `start` if their number is the same."""
        with torch.no_grad():
            rows = _Rows.of(data)
            sizes = (rows.x.shape[-1], *self.hidden, 1)
            theta = self._fresh(data, seeds, sizes)
            steps = self.steps
            if self.warm_steps and start is not None and start.hyperparameters.shape[-1] == theta.shape[-1]:
                earlier = start.hyperparameters.to(theta).expand_as(theta)
                theta = torch.where(earlier.isfinite().all(-1, keepdim=True), earlier, theta)
                steps = self.warm_steps
            members = theta.reshape(-1, theta.shape[-1] // self.members)
            loss = _Loss(sizes, _matrices(sizes, theta) * (self.weight_decay / rows.count(self.members)))
            batches = rows.batches(self.members, steps, seeds.split("rows"))
            stops = rows.x.shape[-2] <= _BATCH
            theta = _descend(members, loss, batches, self.rate, steps, stops).reshape(theta.shape)
        warm = self.warm_steps is not None
        return MLPLogOdds(theta, self.hidden, self.members, warm, data.columns)

    def _fresh(self, data: WeightedExamples, seeds: Seeds, sizes: tuple[int, ...]) -> Hyperparameters:
        """N(0, 1 / inputs) for the weights and biases of a layer; the last bias is the classes' log odds."""
        scale = torch.cat([data.x.new_full(((i + 1) * o,), 1.0 / math.sqrt(i)) for i, o in pairwise(sizes)])
        draws = seeds.split("weights").normal((self.members, scale.shape[-1]), data.x)
        theta = draws.expand(*data.batch_shape, *draws.shape[-2:]) * scale
        odds = data.positive.sum(-1, keepdim=True).log() - data.negative.sum(-1, keepdim=True).log()
        theta[..., -1] = odds
        return theta.flatten(-2)


@dataclass(frozen=True, eq=False)
class _Rows:
    """Rows of replicates, in one dimension r.

    Attributes:
        x: features.
        label: share of a row's weight that is that of a positive example.
        weight: share of a row in the total weight.
    """

    x: jt.Float[Tensor, "r n f"]
    label: jt.Float[Tensor, "r n"]
    weight: jt.Float[Tensor, "r n"]

    @staticmethod
    def of(data: WeightedExamples) -> "_Rows":
        """All rows of the data, and some without weight up to a multiple of `_LANES`."""
        x = features_of(data.x, data.columns, _LOW)
        total = data.positive + data.negative
        label = data.positive / torch.where(total > 0, total, 1.0)
        weight = total / total.sum(-1, keepdim=True)
        n, more = x.shape[-2], -x.shape[-2] % _LANES
        x = pad(x.reshape(-1, n, x.shape[-1]), (0, 0, 0, more))
        return _Rows(x, pad(label.reshape(-1, n), (0, more)), pad(weight.reshape(-1, n), (0, more)))

    def count(self, members: int) -> jt.Float[Tensor, "rk 1"]:
        """Number of rows that have a weight, for each member."""
        return (self.weight > 0).to(self.x).sum(-1, keepdim=True).repeat_interleave(members, 0)

    def batches(self, members: int, steps: int, seeds: Seeds) -> Iterator["_Rows"]:
        """The rows of each step, for the members of replicate 1, then of replicate 2, and so on."""
        r, n = self.weight.shape
        if n <= _BATCH:
            everything = _Rows(*(t.repeat_interleave(members, 0) for t in (self.x, self.label, self.weight)))
            yield from (everything for _ in range(steps))
            return
        cumulative = self.weight.cumsum(-1)
        cumulative /= cumulative[:, -1:].clone()
        share = torch.arange(_BATCH, device=self.x.device, dtype=self.x.dtype)
        weight = self.weight.new_full((r * members, _BATCH), 1.0 / _BATCH)
        for step in range(steps):
            if step % _WINDOW == 0:
                draws = seeds.split(f"{step}").uniform((_WINDOW, members, _BATCH), self.x)
                draws = ((draws + share) / _BATCH).clamp(max=1.0 - torch.finfo(self.x.dtype).eps)
                draws = draws.reshape(-1, _WINDOW * members * _BATCH).expand(r, -1).contiguous()
                indices = torch.searchsorted(cumulative, draws, right=True).unflatten(1, (_WINDOW, -1))
            index = indices[:, step % _WINDOW]
            x, label = rows_at(self.x, index), self.label.gather(1, index)
            yield _Rows(x.reshape(r * members, _BATCH, -1), label.reshape(r * members, _BATCH), weight)


@dataclass(frozen=True, eq=False)
class _Loss:
    """The regularised loss of networks, one a row of theta.

    Attributes:
        sizes: of the layers, from the features to the logit.
        decay: precision of each entry of theta.
    """

    sizes: tuple[int, ...]
    decay: jt.Float[Tensor, "r p"]

    def __call__(
        self, theta: jt.Float[Tensor, "r p"], rows: _Rows
    ) -> tuple[jt.Float[Tensor, " r"], jt.Float[Tensor, "r p"]]:
        """Σ_i weight_i (softplus(f_i) - label_i f_i) + ½ Σ_j decay_j theta_j², and its gradient."""
        layers = _layers(theta, self.sizes)
        *hidden, logit = _outputs(layers, rows.x)
        shrink, logit = self.decay * theta, logit[..., 0]
        value = (rows.weight * (softplus(logit) - rows.label * logit)).sum(-1)
        value = value + 0.5 * (shrink * theta).sum(-1)
        back = (rows.weight * (logit.sigmoid() - rows.label))[..., None]
        below = [rows.x, *hidden]
        gradients = [back.sum(-2), (below[-1] * back).sum(-2)]
        for (matrix, _), units, inputs in zip(layers[:0:-1], below[:0:-1], below[-2::-1], strict=True):
            back = back * matrix.mT if matrix.shape[-1] == 1 else back @ matrix.mT
            back.mul_(units.clamp(max=0.0).add_(1.0))  # ELU' = 1 + min(ELU, 0)
            gradients += [back.sum(-2), (inputs.mT @ back).flatten(-2)]
        return value, torch.cat(gradients[::-1], -1).add_(shrink)


def _descend(
    theta: Tensor, loss: _Loss, batches: Iterator[_Rows], rate: float, steps: int, stops: bool
) -> Tensor:
    """Weights after the steps of Adam; if `stops`, a network stops once its loss hardly changes."""
    theta, mean, square = theta.clone(), torch.zeros_like(theta), torch.zeros_like(theta)
    moving = torch.ones_like(theta[:, :1])
    before, now = torch.full_like(theta[:, 0], torch.inf), torch.zeros_like(theta[:, 0])
    for step, rows in enumerate(batches, 1):
        value, gradient = loss(theta, rows)
        mean.lerp_(gradient, 1.0 - _FIRST)
        square.mul_(_SECOND).addcmul_(gradient, gradient, value=1.0 - _SECOND)
        size = rate * min(1.0, 2.0 * (1.0 - (step - 1) / steps)) / (1.0 - _FIRST**step)
        root = square.sqrt().div_(math.sqrt(1.0 - _SECOND**step)).add_(_SMALL)
        theta.addcdiv_(mean * moving, root, value=-size)
        now += value
        if step % _WINDOW == 0 and stops:
            moving = moving * ((before - now).abs() > _LEAST_CHANGE * now)[:, None]
            if not bool(moving.any()):
                break
            before, now = now, torch.zeros_like(now)
    return theta


def _layers(theta: Tensor, sizes: tuple[int, ...]) -> list[tuple[Tensor, Tensor]]:
    """Matrix (inputs, outputs) and biases (1, outputs) of each layer, views of theta."""
    pieces = theta.split([count for i, o in pairwise(sizes) for count in (i * o, o)], -1)
    shapes = zip(pairwise(sizes), pieces[::2], pieces[1::2], strict=True)
    return [(matrix.unflatten(-1, shape), bias[..., None, :]) for shape, matrix, bias in shapes]


def _outputs(layers: list[tuple[Tensor, Tensor]], x: Tensor) -> list[Tensor]:
    """Outputs of each hidden layer, and the logit (..., 1)."""
    outputs = []
    for matrix, bias in layers[:-1]:
        x = elu(x @ matrix + bias)
        outputs.append(x)
    matrix, bias = layers[-1]
    # no matrix product: with one column, it rounds differently for one network and for several
    return [*outputs, (x * matrix.mT).sum(-1, keepdim=True) + bias]


def _matrices(sizes: tuple[int, ...], like: Tensor) -> Tensor:
    """1 for an entry of a matrix, 0 for a bias."""
    return torch.cat([like.new_tensor([1.0] * (i * o) + [0.0] * o) for i, o in pairwise(sizes)])
