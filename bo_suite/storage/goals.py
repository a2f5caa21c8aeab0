"""What a run aims at: objectives with their directions, and intervals in which outcomes must lie, by name."""

import json
import logging
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, SupportsFloat

from bo_suite.errors import TrialError
from bo_suite.values.describe import described
from bo_suite.values.numbers import bool_of, is_mapping, number_of, refusal, require_finite

logger = logging.getLogger("bo_suite")

VALUE = "value"
"""Name of the only objective if the user gives it none."""

DIRECTIONS = ("minimize", "maximize")

Direction = str | Mapping[str, str]
"""What `direction=` takes: "minimize" or "maximize", or one of these by name of an objective."""

Constraints = Mapping[str, tuple[float | None, float | None] | bool]
"""What `constraints=` takes: intervals by name of an outcome, or True for one that must be True."""

Told = SupportsFloat | Mapping[str, SupportsFloat | None]
"""An outcome as a user tells it: a number, or numbers by name."""

Noise = SupportsFloat | Mapping[str, SupportsFloat | None] | None
"""Standard deviations as a user tells them."""


@dataclass(frozen=True)
class Objective:
    """An outcome that is optimised; `direction` is "minimize" or "maximize"."""

    name: str
    direction: str

    @property
    def sign(self) -> float:
        """1 if smaller is better, or else -1."""
        return 1.0 if self.direction == "minimize" else -1.0


@dataclass(frozen=True)
class Constraint:
    """An outcome that must lie in an interval.

    Attributes:
        name: of the outcome.
        low: smallest allowed value; -inf if there is none.
        high: largest allowed value; inf if there is none.
        binary: whether the outcome is True if the constraint is met, or else False.
    """

    name: str
    low: float
    high: float
    binary: bool = False

    def allows(self, value: float) -> bool:
        """Whether a value meets the constraint."""
        return self.low <= value <= self.high

    @property
    def form(self) -> Any:
        """The constraint in JSON values, as `constraints=` takes it."""
        return True if self.binary else [end if math.isfinite(end) else None for end in (self.low, self.high)]

    def __str__(self) -> str:
        if self.binary:
            return f"{self.name} is true"
        low = f"{self.low:g} <= " if self.low > -math.inf else ""
        return f"{low}{self.name}" + (f" <= {self.high:g}" if self.high < math.inf else "")


@dataclass(frozen=True)
class Goals:
    """The objectives and the constraints of a run.

    Attributes:
        objectives: at least one.
        constraints: of outcomes, which may be objectives too.
        named: whether outcomes are stored by name; False for one objective without a name and no constraint.
    """

    objectives: tuple[Objective, ...]
    constraints: tuple[Constraint, ...] = ()
    named: bool = True

    @staticmethod
    def of(direction: object, constraints: object = None) -> "Goals":
        """The goals that a user states.

        Args:
            direction: "minimize", "maximize", or one of these by name of an objective.
            constraints: (low, high) by name of an outcome, None for an end that is open; True instead of an
                interval for an outcome that is True or False. None if there are none.

        Raises:
            TrialError: an argument is something else.
        """
        limits = _constraints(constraints)
        if isinstance(direction, str) and direction in DIRECTIONS:
            return Goals((Objective(VALUE, str(direction)),), limits, named=bool(limits))
        if not isinstance(direction, Mapping) or not direction:
            law = "direction must be 'minimize' or 'maximize', or a dict of these by name of an objective"
            raise TrialError(f"{law}, got {described(direction)}")
        for name, one in direction.items():
            _check_name(name)
            if one not in DIRECTIONS:
                law = f"the direction of {name!r} must be 'minimize' or 'maximize'"
                raise TrialError(f"{law}, got {described(one)}")
        return Goals(tuple(Objective(name, one) for name, one in direction.items()), limits)

    @property
    def names(self) -> tuple[str, ...]:
        """Names of all outcomes: the objectives first."""
        names = [one.name for one in self.objectives] + [one.name for one in self.constraints]
        return tuple(dict.fromkeys(names))

    @property
    def several(self) -> bool:
        """Whether there are several objectives."""
        return len(self.objectives) > 1

    @property
    def direction(self) -> Any:
        """The directions in JSON values, as `direction=` takes them."""
        if self.objectives[0].name == VALUE and not self.several:
            return self.objectives[0].direction
        return {objective.name: objective.direction for objective in self.objectives}

    @property
    def limits(self) -> dict[str, Any] | None:
        """The constraints in JSON values, as `constraints=` takes them; None without any."""
        return {one.name: one.form for one in self.constraints} or None

    @property
    def aspects(self) -> frozenset[str]:
        """What an acquisition must support: of "constraints" and "objectives"."""
        aspects = {"constraints": bool(self.constraints), "objectives": self.several}
        return frozenset(name for name, present in aspects.items() if present)

    def __str__(self) -> str:
        if not self.named:
            return self.objectives[0].direction
        aims = [f"{objective.direction} {objective.name}" for objective in self.objectives]
        return ", ".join([*aims, *map(str, self.constraints)])

    def violated(self, outcomes: Mapping[str, float | None]) -> tuple[Constraint, ...]:
        """The constraints that measured outcomes violate; one that has no number is not violated."""
        return tuple(
            one
            for one in self.constraints
            if (value := outcomes.get(one.name)) is not None and not one.allows(value)
        )

    def is_feasible(self, outcomes: Mapping[str, float | None]) -> bool:
        """Whether all constraints are measured and met."""
        values = [(one, outcomes.get(one.name)) for one in self.constraints]
        return all(value is not None and one.allows(value) for one, value in values)

    def losses(self, outcomes: Mapping[str, float | None]) -> tuple[float, ...] | None:
        """The objectives, smaller is better; None if one was not measured."""
        values = [(objective.sign, outcomes.get(objective.name)) for objective in self.objectives]
        if any(value is None for _, value in values):
            return None
        return tuple(sign * value for sign, value in values if value is not None)

    def stored(self, told: Told, std: Noise = None) -> dict[str, Any]:
        """The fields of the row of a finished trial with an outcome: `value`, `std`, `outcomes` and `stds`.

        Of outcomes by name, None and a missing name mean that one was not measured, and NaN that its
        measurement failed, which is stored as null. The first two fields are those of the only objective.

        Args:
            told: a number, or numbers by name.
            std: standard deviation of the noise, or those by name; None if unknown.

        Raises:
            TrialError: a name is unknown, a number is infinite or none, a label is neither True nor False,
                or nothing was measured.
        """
        outcomes = self.check(self._by_name("an outcome", told))
        if failed := [name for name, value in outcomes.items() if value is None]:
            logger.warning("no number was measured for %s; the other outcomes are stored", _listed(failed))
        stds = self._stds(std)
        only = None if self.several else self.objectives[0].name
        fields: dict[str, Any] = {
            "value": None if only is None else outcomes.get(only),
            "std": None if only is None else stds.get(only),
        }
        if fields["value"] is None:
            fields["std"] = None
        if not self.named:
            return {**fields, "outcomes": None, "stds": None}
        stds = {name: stds[name] for name, one in outcomes.items() if one is not None and name in stds}
        return {**fields, "outcomes": json.dumps(outcomes), "stds": json.dumps(stds) if stds else None}

    def check(self, told: Mapping[str, Any]) -> dict[str, float | None]:
        """The measured outcomes in the order of `names`, None for one whose measurement failed.

        Raises:
            TrialError: as `stored`.
        """
        self._check_names("an outcome", told)
        if not self.named:
            law = "a value must be a finite number (use fail() if there is none)"
            return {VALUE: require_finite(law, told.get(VALUE))}
        labels = {one.name for one in self.constraints if one.binary}
        outcomes = {
            name: _measured(name, told[name], name in labels)
            for name in self.names
            if told.get(name) is not None
        }
        if not any(value is not None for value in outcomes.values()):
            law = "at least one outcome must be a finite number (use fail() if there is none)"
            raise TrialError(f"{law}, got {described(dict(told))}")
        return outcomes

    def amended(
        self, told: Told, std: Noise, outcomes: Mapping[str, float | None], stds: Mapping[str, float]
    ) -> dict[str, Any]:
        """As `stored`, of an outcome that corrects stored ones by name: those that are not told stay."""
        if not self.named or not outcomes:
            return self.stored(told, std)
        earlier = {name: math.nan if one is None else one for name, one in outcomes.items()}
        new_stds = {} if std is None else self._by_name("std", std)
        return self.stored({**earlier, **self._by_name("an outcome", told)}, {**stds, **new_stds})

    def _stds(self, std: Noise) -> dict[str, float]:
        """Standard deviations by name, of those that are known."""
        requirement = "a std must be a finite number >= 0"
        told = {} if std is None else self._by_name("std", std)
        self._check_names("std", told)
        stds = {name: require_finite(requirement, one) for name, one in told.items() if one is not None}
        if negative := [one for one in stds.values() if one < 0]:
            raise TrialError(f"{requirement}, got {negative[0]}")
        return stds

    def _by_name(self, what: str, told: object) -> Mapping[str, Any]:
        """Numbers by name: those that were told, or one that is of the only objective."""
        if is_mapping(told):
            return told
        if self.several:
            law = f"{what} must be a dict of {_listed(self.names)}, as there are several objectives"
            raise TrialError(f"{law}, got {described(told)}")
        return {self.objectives[0].name: told}

    def _check_names(self, what: str, told: Mapping[str, Any]) -> None:
        if unknown := [name for name in told if name not in self.names]:
            advice = ""
            if self.objectives[0].name == VALUE and VALUE not in told:
                advice = f'; name the objective by direction={{{unknown[0]!r}: "minimize"}}'
            raise TrialError(f"{what} must be one of {_listed(self.names)}, got {_listed(unknown)}{advice}")


MINIMIZE = Goals((Objective(VALUE, "minimize"),), named=False)
"""The goals of a run with one objective and no constraint, smaller is better."""


def _measured(name: str, value: object, is_label: bool) -> float | None:
    """The number of an outcome, of a label 0 or 1; None for NaN."""
    label = bool_of(value)
    number = number_of(value) if label is None else float(label)
    if number is not None and math.isnan(number):
        return None
    kind = "True or False" if is_label else "a finite number"
    if number is None or math.isinf(number) or (is_label and number not in (0.0, 1.0)):
        requirement = f"the outcome {name!r} must be {kind}, or NaN if its measurement failed"
        raise TrialError(refusal(requirement, value))
    return number + 0.0


def _check_name(name: object) -> None:
    if not isinstance(name, str) or not name:
        raise TrialError(f"the name of an outcome must be a non-empty string, got {described(name)}")


def _constraints(constraints: object) -> tuple[Constraint, ...]:
    if constraints is None:
        return ()
    if not isinstance(constraints, Mapping):
        law = "constraints must be intervals of outcomes by name, such as {'memory': (None, 8.0)}"
        raise TrialError(f"{law}, got {described(constraints)}; {_ELSEWHERE}")
    return tuple(_constraint(name, interval) for name, interval in constraints.items())


_ELSEWHERE = (
    "a rule that follows from the parameters alone belongs to the space, as in "
    "Space(..., constraints=['a + b <= 1'])"
)


def _constraint(name: object, interval: object) -> Constraint:
    _check_name(name)
    if interval is True:
        return Constraint(str(name), 0.5, math.inf, binary=True)
    law = f"the constraint on {name!r} must be an interval (low, high), with None for an open end"
    if callable(interval) or isinstance(interval, str):
        raise TrialError(f"{law}, got {described(interval)}; {_ELSEWHERE}")
    if not isinstance(interval, Sequence) or len(interval) != 2:
        raise TrialError(f"{law}, got {described(interval)}")
    low, high = (
        _end(law, end, default) for end, default in zip(interval, (-math.inf, math.inf), strict=True)
    )
    if low == -math.inf and high == math.inf:
        raise TrialError(f"{law}, got one without ends, {described(interval)}")
    if low == high:
        advice = f"an equality needs a tolerance, such as ({low:g} - 0.01, {high:g} + 0.01)"
        raise TrialError(f"{law}, got {described(interval)}: {advice}")
    if low > high:
        raise TrialError(f"{law}, the smaller first, got {described(interval)}")
    return Constraint(str(name), low, high)


def _end(law: str, end: object, default: float) -> float:
    if end is None:
        return default
    number = number_of(end)
    if number is None or math.isnan(number) or (math.isinf(number) and number != default):
        raise TrialError(f"{law}, got {described(end)}")
    return number


def _listed(names: Sequence[str]) -> str:
    return ", ".join(map(repr, names))
