"""Observations as a surrogate sees them, and the random numbers of a step."""

import hashlib
import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import cached_property, lru_cache
from importlib import import_module
from itertools import chain
from typing import Any

import jaxtyping as jt
import torch
from torch import Tensor
from torch.quasirandom import SobolEngine

from bo_suite.errors import DataError
from bo_suite.linalg.environment import differentiable

Parent = tuple[int, tuple[tuple[float, float], ...]]


@dataclass(frozen=True)
class Condition:
    """When a column is active: all its parents are, and each has a position in one of its intervals.

    Attributes:
        column: the column.
        parents: columns, each with closed intervals of positions; a single position is an interval too.
    """

    column: int
    parents: tuple[Parent, ...]


@dataclass(frozen=True)
class Columns:
    """What kinds of columns rows have; by default all are continuous and always active.

    Attributes:
        unordered: columns of categories, whose codes are only equal or different.
        levels: number of values of each column, None for a continuous one; () if all are continuous.
        fidelities: columns of fidelities; 1 is the target.
        fixed: columns that are fixed in the next row, each with its position.
        between: columns with evenly spaced levels between which observed rows may lie: options were retired.
        narrowed: whether observed rows may lie outside of the space, which was larger before.
        conditions: of columns that are not always active, parents first; an inactive column is at 0.
        region: moves rows to where the constraints of the space are met, mostly; None without constraints.
        descriptors: of categories: the column, its number of levels, and numbers in [0, 1] of each level.
    """

    unordered: tuple[int, ...] = ()
    levels: tuple[int | None, ...] = ()
    fidelities: tuple[int, ...] = ()
    fixed: tuple[tuple[int, float], ...] = ()
    between: tuple[int, ...] = ()
    narrowed: bool = False
    conditions: tuple[Condition, ...] = ()
    region: Callable[[Tensor], Tensor] | None = None
    descriptors: tuple[tuple[int, int, tuple[tuple[float, ...], ...]], ...] = ()

    def active(self, x: jt.Float[Tensor, "*b d"]) -> jt.Bool[Tensor, "*b d"]:
        """Which columns of rows are active, by the positions of their parents."""
        active = torch.ones_like(x, dtype=torch.bool)
        if self.conditions:
            parents, columns, low, high, tests, required = (each.to(x.device) for each in self._tests)
            position = x.detach().index_select(-1, parents)
            failed = ((low.to(x) <= position) & (position <= high.to(x))).to(x) @ tests.to(x) == 0.0
            active.index_copy_(-1, columns, failed.to(x) @ required.to(x) == 0.0)
        return active

    def canonical(self, rows: jt.Float[Tensor, "*b d"]) -> jt.Float[Tensor, "*b d"]:
        """The rows with inactive columns at 0."""
        return torch.where(self.active(rows), rows, 0.0) if self.conditions else rows

    @cached_property
    def requirements(self) -> dict[int, tuple[Parent, ...]]:
        """What each conditional column requires of its parents and of theirs."""
        required: dict[int, tuple[Parent, ...]] = {}
        for condition in self.conditions:
            above = (required.get(parent, ()) for parent, _ in condition.parents)
            required[condition.column] = tuple(dict.fromkeys(chain(condition.parents, *above)))
        return required

    @cached_property
    def _tests(self) -> tuple[Tensor, ...]:
        """Parents of intervals, conditional columns, ends of intervals, their tests, the tests of columns."""
        tests = dict.fromkeys(chain(*self.requirements.values()))
        rows = [(test[0], *ends, [float(test == one) for one in tests]) for test in tests for ends in test[1]]
        needed = [[float(test in one) for one in self.requirements.values()] for test in tests]
        parents, *rest = (torch.tensor(each, **CPU_DOUBLES) for each in (*zip(*rows, strict=True), needed))
        return parents.long(), torch.tensor([*self.requirements], device="cpu"), *rest

    @property
    def discrete(self) -> tuple[int, ...]:
        """Columns that have levels."""
        return tuple(column for column, levels in enumerate(self.levels) if levels is not None)


_NO_ROWS = torch.empty(0, 0, dtype=torch.float64, device="cpu")
"""Default of `pending`: no rows, for any number of columns."""


@dataclass(frozen=True)
class LinearObjectives:
    """Several objectives on a scale that is linear in the user's units, beside that of `Outcomes.y`.

    Attributes:
        y: outcomes of mean 0 and variance 1, NaN where one was not measured.
        log_slope: log of the derivative of `Outcomes.y` by y.
        scaled: values of the objectives in the user's units on this scale.
    """

    y: jt.Float[Tensor, "*b k n"]
    log_slope: jt.Float[Tensor, "*b k n"]
    scaled: Callable[[Sequence[float]], Sequence[float]]


@dataclass(frozen=True)
class Outcomes:
    """Named outcomes of the same rows: objectives first, then those that must lie in intervals.

    With one objective it holds the constrained outcomes alone: the objective is `Dataset.y`.

    Attributes:
        x: rows with at least one outcome.
        y: outcomes, NaN where one was not measured: objectives on the surrogate's scale, minimised; numbers
            that must lie in an interval as distances from its boundary, of which the typical one is 1.
        objectives: number of objectives in y, the first outcomes: 0, or at least 2.
        low: lower end of the interval of each outcome, on the scale of y; -inf for an objective.
        high: upper end of the interval; inf for an objective.
        noise: known observation variances on that scale, NaN where unknown; None when all are unknown.
        labels: number of labels, the last outcomes: 1 if a constraint is met, else 0.
        violation: by how much rows violate constraints: 0 if all that were measured are met, summed over
            constraints otherwise, inf if none was measured; None without constraints.
        scaled: values of the objectives in the user's units on the scale of y; None if the scales are equal.
        linear: the objectives on a linear scale; None if there is none.

    Raises:
        DataError: the shapes do not fit together, or an outcome is infinite.
    """

    x: jt.Float[Tensor, "*b n d"]
    y: jt.Float[Tensor, "*b o n"]
    objectives: int
    low: jt.Float[Tensor, "*b o"]
    high: jt.Float[Tensor, "*b o"]
    noise: jt.Float[Tensor, "*b o n"] | None = None
    labels: int = 0
    violation: jt.Float[Tensor, "*b n"] | None = None
    scaled: Callable[[Sequence[float]], Sequence[float]] | None = None
    linear: LinearObjectives | None = None

    def __post_init__(self) -> None:
        lead, n = self.x.shape[:-2], self.x.shape[-2]
        if self.y.shape[:-2] != lead or self.y.shape[-1] != n or self.low.shape != self.y.shape[:-1]:
            raise DataError(
                "x must be (*b, n, d), y (*b, o, n), low and high (*b, o), got "
                f"{tuple(self.x.shape)}, {tuple(self.y.shape)} and {tuple(self.low.shape)}"
            )
        if bool(self.y.isinf().any()):
            raise DataError("outcomes must be finite, or NaN where one was not measured")

    @property
    def constraints(self) -> int:
        """Number of constrained outcomes."""
        return self.y.shape[-2] - self.objectives


@dataclass(frozen=True)
class Dataset:
    """Encoded inputs and standardised outcomes, smaller is better, of `*b` replicates.

    Attributes:
        x: observed rows in [0, 1]^d, or around it if the space was narrowed.
        y: outcomes on the surrogate's scale; with several objectives, a number by which rows are ranked.
        noise: known observation variances on that scale, NaN where unknown; None when all are unknown.
        pending: rows that are being evaluated.
        columns: kinds of the columns.
        outcomes: several objectives, and constrained outcomes; None with one objective and no constraint.
        violation: of the constraints by the observations, as in `Outcomes`; None without constraints.
        failures: rows whose evaluation has failed; None if none has.
        outside: which observations lie outside of the space, which was larger before; None if none does.

    Raises:
        DataError: the shapes do not fit together, or a value is not finite.
    """

    x: jt.Float[Tensor, "*b n d"]
    y: jt.Float[Tensor, "*b n"]
    noise: jt.Float[Tensor, "*b n"] | None = None
    pending: jt.Float[Tensor, "*b p d"] = _NO_ROWS
    columns: Columns = Columns()
    outcomes: Outcomes | None = None
    violation: jt.Float[Tensor, "*b n"] | None = None
    failures: jt.Float[Tensor, "*b f d"] | None = None
    outside: jt.Bool[Tensor, "*b n"] | None = None

    def __post_init__(self) -> None:
        if not isinstance(self.columns, Columns):
            raise DataError(f"columns must be a Columns, got {self.columns!r:.100}")
        if self.pending is _NO_ROWS:
            object.__setattr__(self, "pending", self.x[..., :0, :])
        for name in ("x", "y", "noise", "pending"):
            if (tensor := getattr(self, name)) is not None:
                object.__setattr__(self, name, differentiable(tensor))
        if self.x.shape[:-1] != self.y.shape or self.pending.shape[-1] != self.x.shape[-1]:
            raise DataError(
                "x must be (*b, n, d), y (*b, n) and pending (*b, p, d), got "
                f"{tuple(self.x.shape)}, {tuple(self.y.shape)} and {tuple(self.pending.shape)}"
            )
        for name in ("noise", "violation"):
            if (tensor := getattr(self, name)) is not None and tensor.shape != self.y.shape:
                raise DataError(f"{name} must have the shape of y, got {tuple(tensor.shape)}")
        if self.noise is not None and not bool((self.noise < torch.inf).logical_or(self.noise.isnan()).all()):
            raise DataError("noise variances must be finite, or NaN where unknown")
        if self.failures is not None and self.failures.shape[-1] != self.x.shape[-1]:
            raise DataError(f"failures must be (*b, f, d), got {tuple(self.failures.shape)}")
        levels, d = self.columns.levels, self.x.shape[-1]
        if levels and len(levels) != d:
            raise DataError(f"levels must have one entry per column, got {levels} for {d} columns")
        if not bool(torch.isfinite(self.y).all()) or not bool(torch.isfinite(self.x).all()):
            raise DataError("inputs and outcomes must be finite")

    @property
    def batch_shape(self) -> torch.Size:
        """Shape of the replicate dimensions `*b`."""
        return self.x.shape[:-2]

    def replicates(self, indices: jt.Int64[Tensor, " k"] | int) -> "Dataset":
        """Some replicates, or one without a batch dimension, by index into the flattened `*b`."""
        count, lead = self.batch_shape.numel(), len(self.batch_shape)
        return self._mapped(lambda tensor: tensor.reshape(count, *tensor.shape[lead:])[indices])

    def to(self, device: torch.device) -> "Dataset":
        """The data moved to a device."""
        return self._mapped(lambda tensor: tensor.to(device))

    def _mapped(self, change: Callable[[Tensor], Tensor]) -> "Dataset":
        """The data with another form of each tensor."""
        if (outcomes := self.outcomes) is not None:
            linear = outcomes.linear and replace(outcomes.linear, **_changed(outcomes.linear, change))
            outcomes = replace(outcomes, linear=linear, **_changed(outcomes, change))
        return replace(self, outcomes=outcomes, **_changed(self, change))

    def with_pending(self, rows: Sequence[jt.Float[Tensor, "*b d"]]) -> "Dataset":
        """The data with more pending rows."""
        more = [row[..., None, :].to(self.pending) for row in rows]
        return replace(self, pending=torch.cat((self.pending, *more), -2))

    @property
    def taken(self) -> jt.Float[Tensor, "*b t d"]:
        """Rows that must not be suggested: observed, failed and pending ones."""
        observed = self.x if self.outcomes is None else self.outcomes.x
        failed = () if self.failures is None else (self.failures,)
        return torch.cat((observed, *failed, self.pending), -2)

    def within_space(self, rows: jt.Float[Tensor, "*b m d"]) -> jt.Float[Tensor, "*b m d"]:
        """The rows moved to where the next row may be: into the space, the fixed columns and the region."""
        if self.columns.narrowed:
            rows = rows.clamp(0.0, 1.0)
            rows[..., [column for column, levels in enumerate(self.columns.levels) if levels == 1]] = 0.0
            for column in self.columns.between:
                last = max((self.columns.levels[column] or 1) - 1, 1)
                rows[..., column] = (rows[..., column] * last).round() / last
        if self.columns.fixed:
            columns, positions = zip(*self.columns.fixed, strict=True)
            rows = rows.clone()
            rows[..., list(columns)] = rows.new_tensor(positions)
        return self.within_region(self.columns.canonical(rows))

    def within_region(self, rows: jt.Float[Tensor, "*b m d"]) -> jt.Float[Tensor, "*b m d"]:
        """The rows moved to where the constraints are met, as far as that is possible nearby."""
        return rows if self.columns.region is None else self.columns.region(rows)

    @property
    def reachable(self) -> jt.Bool[Tensor, "*b n"]:
        """Which observed rows are in the space; all of a replicate that has none."""
        if self.outside is None:
            return torch.ones_like(self.y, dtype=torch.bool)
        return ~self.outside | self.outside.all(-1, keepdim=True)

    @property
    def aspects(self) -> frozenset[str]:
        """What an acquisition must support, of "fidelities", "constraints" and "objectives"."""
        of, fidelities = self.outcomes, bool(self.fidelities)
        constrained, several = of is not None and of.constraints > 0, of is not None and of.objectives > 0
        aspects = {"fidelities": fidelities, "constraints": constrained, "objectives": several}
        return frozenset(name for name, present in aspects.items() if present)

    @property
    def unordered(self) -> tuple[int, ...]:
        """Columns of categories."""
        return self.columns.unordered

    @property
    def levels(self) -> tuple[int | None, ...]:
        """Number of values of each column; () if all are continuous."""
        return self.columns.levels

    @property
    def fidelities(self) -> tuple[int, ...]:
        """Columns of fidelities."""
        return self.columns.fidelities

    @property
    def eligible(self) -> jt.Bool[Tensor, "*b n"]:
        """Which observations are in the space and feasible: the best of these is what to improve on."""
        return self.reachable if self.violation is None else self.reachable & (self.violation == 0.0)

    @property
    def merit(self) -> jt.Float[Tensor, "*b n"]:
        """A number by which observations are ranked, smaller is better; infinite outside of the space.

        It is y or, of an observation that violates constraints, larger than all y by the violation.
        """
        merit = self.y
        if self.violation is not None:
            worse = self.y.amax(-1, keepdim=True) + self.violation
            merit = torch.where(self.violation > 0.0, worse, self.y)
        return merit if self.outside is None else torch.where(self.reachable, merit, torch.inf)


def _changed(holder: object, change: Callable[[Tensor], Tensor]) -> dict[str, Any]:
    """The tensors of a dataclass by name, changed."""
    return {name: change(value) for name, value in vars(holder).items() if isinstance(value, Tensor)}


CPU_DOUBLES: Any = {"dtype": torch.float64, "device": "cpu"}
"""Dtype and device of draws, of encoded trials and of constants, whatever the defaults are."""


@lru_cache(maxsize=64)
def _sobol(count: int, dim: int) -> Tensor:
    with torch.device("cpu"):
        return SobolEngine(dim, scramble=False).draw(count, dtype=torch.float64)


@dataclass(frozen=True)
class Seeds:
    """Keys of the random numbers of one step, one per replicate. Equal keys give equal numbers.

    Numbers are drawn on the CPU and moved, so they are equal on every device.
    """

    keys: tuple[int, ...]
    batch_shape: tuple[int, ...] = ()

    @staticmethod
    def of(seed: int, trial: int) -> "Seeds":
        """The key of trial `trial` in a run with seed `seed`."""
        return Seeds((_hash(seed, trial),))

    @staticmethod
    def of_each(seeds: Sequence[int], trial: int) -> "Seeds":
        """The keys of trial `trial` in several runs, as one replicate dimension."""
        return Seeds(tuple(_hash(seed, trial) for seed in seeds), (len(seeds),))

    def split(self, purpose: str) -> "Seeds":
        """Independent keys for a named purpose within the step."""
        return Seeds(tuple(_hash(key, purpose) for key in self.keys), self.batch_shape)

    def sobol(self, count: int, like: jt.Float[Tensor, "*b n d"]) -> jt.Float[Tensor, "*b count d"]:
        """Sobol points in [0, 1)^d, shifted modulo one by a uniform vector drawn from each key."""
        return self._shifted_sobol(count, like.shape[-1]).to(like)

    def normal(self, shape: tuple[int, ...], like: Tensor) -> Tensor:
        """Standard normal draws of shape (*b, *shape)."""
        return self._stack(lambda g: torch.randn(shape, generator=g, **CPU_DOUBLES)).to(like)

    def uniform(self, shape: tuple[int, ...], like: Tensor) -> Tensor:
        """Uniform draws on [0, 1) of shape (*b, *shape)."""
        return self._stack(lambda g: torch.rand(shape, generator=g, **CPU_DOUBLES)).to(like)

    def quasi_normal(self, count: int, dim: int, like: Tensor) -> Tensor:
        """Normal quantiles of randomly shifted Sobol points: shape (*b, count, dim)."""
        points = self._shifted_sobol(count, dim)
        quantiles: Tensor = torch.special.ndtri(points.clamp(1e-12, 1 - 1e-12))
        return quantiles.to(like)

    def _shifted_sobol(self, count: int, dim: int) -> Tensor:
        shift = self._stack(lambda generator: torch.rand(1, dim, generator=generator, **CPU_DOUBLES))
        return torch.remainder(_sobol(count, dim) + shift, 1.0)

    def _stack(self, draw: Callable[[torch.Generator], Tensor]) -> Tensor:
        draws = [draw(torch.Generator("cpu").manual_seed(key)) for key in self.keys]
        return torch.stack(draws).reshape(*self.batch_shape, *draws[0].shape)


def _hash(*parts: object) -> int:
    """A 63-bit integer that depends on every part."""
    text = "/".join(map(str, parts)).encode("utf-8", "surrogatepass")
    return int.from_bytes(hashlib.blake2b(text, digest_size=8).digest(), "big") >> 1


def __getattr__(name: str) -> Any:
    if name == "OutcomeTransform":  # as of version 0.8
        warnings.warn("OutcomeTransform is now in bo_suite.study.outcomes", DeprecationWarning, stacklevel=2)
        return import_module("bo_suite.study.outcomes").OutcomeTransform
    raise AttributeError(f"module 'bo_suite.data' has no attribute {name!r}")
