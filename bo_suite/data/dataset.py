"""Observations as a surrogate sees them."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import jaxtyping as jt
import torch
from torch import Tensor

from bo_suite.data.columns import Columns
from bo_suite.data.curves import Curves
from bo_suite.data.outcomes import Outcomes
from bo_suite.errors import DataError
from bo_suite.linalg.environment import differentiable

_NO_ROWS = torch.empty(0, 0, dtype=torch.float64, device="cpu")
"""Default of `pending`: no rows, for any number of columns."""


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
        curves: outcomes after earlier steps of these and other configurations; None if none was reported.
        stopped: other rows whose evaluation was stopped or paused; None if none was.
        gradient: derivatives of y by the columns of x, NaN where unknown; None when all are unknown.
        x_std: standard deviations, about x, of what was really evaluated; 0 where exact, None when all are.

    Raises:
        DataError: the shapes do not fit together, or a value is not finite.
    """

    x: jt.Float[Tensor, "*b n d"]
    y: jt.Float[Tensor, "*b n"]
    noise: jt.Float[Tensor, "*b n"] | None = None
    pending: jt.Float[Tensor, "*b p d"] = _NO_ROWS
    columns: Columns = field(default_factory=Columns)
    outcomes: Outcomes | None = None
    violation: jt.Float[Tensor, "*b n"] | None = None
    failures: jt.Float[Tensor, "*b f d"] | None = None
    outside: jt.Bool[Tensor, "*b n"] | None = None
    curves: Curves | None = None
    stopped: jt.Float[Tensor, "*b s d"] | None = None
    gradient: jt.Float[Tensor, "*b n d"] | None = None
    x_std: jt.Float[Tensor, "*b n d"] | None = None

    def __post_init__(self) -> None:
        if not isinstance(self.columns, Columns):
            raise DataError(f"columns must be a Columns, got {self.columns!r:.100}")
        if self.pending is _NO_ROWS:
            object.__setattr__(self, "pending", self.x[..., :0, :])
        for name in ("x", "y", "noise", "pending", "gradient", "x_std"):
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
        for name in ("gradient", "x_std"):
            if (tensor := getattr(self, name)) is not None and tensor.shape != self.x.shape:
                raise DataError(f"{name} must have the shape of x, got {tuple(tensor.shape)}")
        if self.gradient is not None and bool(self.gradient.isinf().any()):
            raise DataError("derivatives must be finite, or NaN where unknown")
        if self.x_std is not None and not bool(((self.x_std >= 0.0) & (self.x_std < torch.inf)).all()):
            raise DataError("standard deviations of x must be at least 0 and finite")
        for name in ("failures", "stopped"):
            if (tensor := getattr(self, name)) is not None and tensor.shape[-1] != self.x.shape[-1]:
                raise DataError(f"{name} must be (*b, {name[0]}, d), got {tuple(tensor.shape)}")
        levels, d = self.columns.levels, self.x.shape[-1]
        if levels and len(levels) != d:
            raise DataError(f"levels must have one entry per column, got {levels} for {d} columns")
        if (of := self.curves) is not None and (*of.x.shape[:-2], of.x.shape[-1]) != (*self.batch_shape, d):
            raise DataError(f"x of curves must be (*b, m, {d}) with the batch of x, got {tuple(of.x.shape)}")
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
        curves = None if self.curves is None else self.curves.mapped(change)
        return replace(self, outcomes=outcomes, curves=curves, **_changed(self, change))

    def with_pending(self, rows: Sequence[jt.Float[Tensor, "*b d"]]) -> "Dataset":
        """The data with more pending rows."""
        more = [row[..., None, :].to(self.pending) for row in rows]
        return replace(self, pending=torch.cat((self.pending, *more), -2))

    @property
    def taken(self) -> jt.Float[Tensor, "*b t d"]:
        """Rows that must not be suggested: observed, failed, stopped and pending ones."""
        observed = self.x if self.outcomes is None else self.outcomes.x
        others = (rows for rows in (self.failures, self.stopped) if rows is not None)
        return torch.cat((observed, *others, self.pending), -2)

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
