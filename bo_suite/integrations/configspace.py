"""Search spaces of ConfigSpace, the library of SMAC3 and of many benchmarks, as ours and back."""

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch

from bo_suite.data import Seeds
from bo_suite.errors import SpaceError
from bo_suite.space.candidates import sample_random
from bo_suite.space.constraints import Predicate
from bo_suite.space.parameters import Choice, Float, Int, Parameter
from bo_suite.space.space import Params, Space
from bo_suite.space.when import Accepted, Interval, When
from bo_suite.values.describe import described

try:
    import ConfigSpace as cs
except ModuleNotFoundError as missing:
    raise ImportError(
        "spaces of ConfigSpace need this library, which `pip install 'bo-suite[configspace]'` brings"
    ) from missing

_MOST_VALUES = 1000
"""Most values of a parameter that are listed."""

_BESIDE = 1e-10
"""A distance of positions that leads to another value of a Float."""


def from_configspace(theirs: "cs.ConfigurationSpace") -> Space:
    """Return a ConfigurationSpace as a Space.

    Ranges, log scales, categories, ordinals, constants, conditions and forbidden clauses are those of
    ConfigSpace; default values, weights and distributions within a range have no counterpart. A clause is a
    function among the constraints, by which its points are refused.

    Args:
        theirs: the ConfigurationSpace.

    Raises:
        SpaceError: a hyperparameter has values that no parameter has, or a condition is no conjunction of
            conditions on one parent each.
    """
    if not isinstance(theirs, cs.ConfigurationSpace):
        raise SpaceError(f"the space must be a ConfigurationSpace, got {described(theirs)}")
    parameters: dict[str, Any] = {one.name: _parameter(one) for one in theirs.values()}
    parts: dict[str, list[Any]] = {}
    for condition in theirs.conditions:
        parts.setdefault(condition.child.name, []).extend(_conjuncts(condition))
    for name, conditions in parts.items():
        parameters[name] = replace(parameters[name], when=_when(name, conditions, parameters))
    return Space(parameters, [_Allowed(one) for one in theirs.forbidden_clauses])


def to_configspace(space: Space, seed: int | None = None) -> "cs.ConfigurationSpace":
    """Return a Space as a ConfigurationSpace.

    The values of a number with a step become an ordinal, and descriptors of options are left out. If there
    are clauses, the default values are a point that they allow.

    Args:
        space: ours.
        seed: of the ConfigurationSpace.

    Raises:
        SpaceError: ConfigSpace has no counterpart of fidelities, contexts, candidates, more than 1000
            steps, or constraints other than those of `from_configspace`.
    """
    if not isinstance(space, Space):
        raise SpaceError(f"the space must be a Space, got {described(space)}")
    if space.candidates is not None:
        raise SpaceError(f"ConfigSpace has no candidates, got {space.candidates}; `space.unlisted` has none")
    if space.fidelities or space.contexts:
        names = [*space.target_fidelity, *space.contexts]
        raise SpaceError(f"ConfigSpace has no fidelities and contexts, got {names}")
    space, clauses = space.current, _clauses(space)
    made, default = cs.ConfigurationSpace(seed=seed), _allowed_point(space) if clauses else {}
    for name, parameter in space:
        made.add(_hyperparameter(name, parameter, default))
    conditions: dict[str, list[Any]] = {}
    for name in space.conditions.order:
        conditions[name] = list(_conditions(name, space, made, conditions))
        if conditions[name]:
            made.add(
                conditions[name][0] if len(conditions[name]) == 1 else cs.AndConjunction(*conditions[name])
            )
    for clause in clauses:
        made.add(_rebound(clause, made))
    return made


@dataclass(frozen=True)
class _Allowed:
    """Whether a clause allows a point.

    Attributes:
        clause: ConfigSpace's.
    """

    clause: Any

    @property
    def __name__(self) -> str:
        return str(self.clause)

    def __call__(self, params: Params) -> bool:
        return not self.clause.is_forbidden_value(params)


def _parameter(theirs: Any) -> Parameter:
    try:
        if isinstance(theirs, cs.hyperparameters.FloatHyperparameter):
            return Float(theirs.lower, theirs.upper, theirs.log)
        if isinstance(theirs, cs.hyperparameters.IntegerHyperparameter):
            return Int(theirs.lower, theirs.upper, theirs.log)
        if isinstance(theirs, cs.OrdinalHyperparameter):
            return Choice(list(theirs.sequence), ordered=True)
        return Choice([theirs.value] if isinstance(theirs, cs.Constant) else list(theirs.choices))
    except (AttributeError, SpaceError) as error:
        raise SpaceError(f"parameter {theirs.name!r}: {error}") from error


def _conjuncts(condition: Any) -> Iterator[Any]:
    """The conditions that must hold together."""
    if isinstance(condition, cs.AndConjunction):
        for component in condition.components:
            yield from _conjuncts(component)
    else:
        yield condition


def _when(name: str, conditions: Sequence[Any], parameters: dict[str, Any]) -> dict[str, object]:
    """The condition of a parameter in our form."""
    by_parent: dict[str, list[Any]] = {}
    for condition in conditions:
        parents = condition.parents if isinstance(condition, cs.OrConjunction) else [condition.parent]
        names = {parent.name for parent in parents}
        if len(names) > 1:
            law = f"each condition of {name!r} must be on one parameter, and all must hold together"
            raise SpaceError(f"{law}, got {condition}")
        by_parent.setdefault(names.pop(), []).append(condition)
    return {parent: _accepted(parent, some, parameters[parent]) for parent, some in by_parent.items()}


def _accepted(name: str, conditions: Sequence[Any], parameter: Parameter) -> object:
    """What conditions accept of a parent: a list of its values, or an interval (low, high)."""
    levels = parameter.levels
    if levels is not None and levels <= _MOST_VALUES:
        values = [
            one for one in _values(parameter) if all(c.satisfied_by_value({name: one}) for c in conditions)
        ]
        whole = isinstance(parameter, Int) and len(values) > 2 and values[-1] - values[0] == len(values) - 1
        return (values[0], values[-1]) if whole else values
    assert not isinstance(parameter, Choice), "a Choice has fewer options"
    low, high = parameter.low, parameter.high
    for condition in conditions:
        if isinstance(condition, cs.GreaterThanCondition):
            low = max(low, _beside(parameter, condition.value, 1))
        elif isinstance(condition, cs.LessThanCondition):
            high = min(high, _beside(parameter, condition.value, -1))
        elif isinstance(condition, cs.EqualsCondition) and levels is not None:
            low, high = max(low, condition.value), min(high, condition.value)
        else:
            law = f"conditions on {name!r}, of more than {_MOST_VALUES} values, must be > or < a number"
            raise SpaceError(f"{law}, got {condition}")
    if low > high:
        raise SpaceError(f"conditions must hold for a value of {name!r}, got {list(conditions)}")
    return low, high


def _beside(parameter: Float | Int, number: float, side: int) -> float:
    """The value next to a number, above or below it."""
    if isinstance(parameter, Int):
        return int(number) + side
    place = parameter.encode(float(number))
    nearest = parameter.decode(place)
    return nearest if side * (nearest - number) > 0.0 else parameter.decode(place + side * _BESIDE)


def _values(parameter: Parameter) -> list[Any]:
    """All values of a parameter, in order."""
    if isinstance(parameter, Choice):
        return list(parameter.options)
    return [parameter.value(level) for level in range(parameter.levels or 0)]


def _clauses(space: Space) -> list[Any]:
    """The clauses of a space; raises SpaceError if it has other constraints."""
    functions = [one.function if isinstance(one, Predicate) else None for one in space.constraints.stated]
    if not all(isinstance(one, _Allowed) for one in functions):
        law = "ConfigSpace has no constraints but the clauses that `from_configspace` has read"
        raise SpaceError(f"{law}, got {space.constraints!r}")
    return [one.clause for one in functions if isinstance(one, _Allowed)]


def _allowed_point(space: Space) -> Params:
    taken = torch.empty(0, space.dim, dtype=torch.float64, device="cpu")
    return space.decode(sample_random(space, 1, taken, Seeds.of(0, 0)))[0]


def _hyperparameter(name: str, parameter: Parameter, default: Params) -> Any:
    """The hyperparameter of a parameter, whose default is that of a point if it is active there."""
    given: dict[str, Any] = {"default_value": default[name]} if name in default else {}
    if parameter.levels == 1:
        return cs.Constant(name, _values(parameter)[0])
    if isinstance(parameter, Choice) and not parameter.ordered:
        return cs.CategoricalHyperparameter(name, list(parameter.options), **given)
    if isinstance(parameter, Choice) or parameter.has_step:
        if parameter.levels is None or parameter.levels > _MOST_VALUES:
            law = (
                f"parameter {name!r}: as an ordinal of ConfigSpace it must have at most {_MOST_VALUES} values"
            )
            raise SpaceError(f"{law}, got {parameter.levels}")
        return cs.OrdinalHyperparameter(name, _values(parameter), **given)
    number = (
        cs.UniformFloatHyperparameter if isinstance(parameter, Float) else cs.UniformIntegerHyperparameter
    )
    return number(name, parameter.low, parameter.high, log=parameter.log, **given)


def _conditions(name: str, space: Space, made: Any, above: dict[str, list[Any]]) -> Iterator[Any]:
    """The conditions of a parameter that must hold together.

    Args:
        name: of the parameter.
        space: ours.
        made: ConfigSpace's, with its hyperparameters.
        above: conditions of the parents.
    """
    for parent, accepted in When.of(space[name].when).parents:
        parameter, child = space[parent], made[name]
        values = _listed(parameter, accepted)
        if values is not None:
            one = len(values) == 1
            yield (
                cs.EqualsCondition(child, made[parent], values[0])
                if one
                else cs.InCondition(child, made[parent], values)
            )
            continue
        assert isinstance(accepted, Interval), "values are listed"
        assert not isinstance(parameter, Choice), "an interval is of numbers"
        if accepted.low <= parameter.low and parameter.high <= accepted.high:  # active if the parent is
            for condition in above.get(parent, []):
                yield type(condition)(child, condition.parent, _compared(condition))
        if accepted.low > parameter.low:
            yield cs.GreaterThanCondition(child, made[parent], _outside(parameter, accepted.low, -1))
        if accepted.high < parameter.high:
            yield cs.LessThanCondition(child, made[parent], _outside(parameter, accepted.high, 1))


def _listed(parameter: Parameter, accepted: Accepted) -> list[Any] | None:
    """The values that a condition accepts; None for an interval of a number without a step."""
    if not isinstance(accepted, Interval):
        return list(accepted)
    assert not isinstance(parameter, Choice), "an interval is of numbers"
    if not parameter.has_step and parameter.levels != 1:
        return None
    return [value for value in _values(parameter) if accepted.low <= value <= accepted.high]


def _compared(condition: Any) -> Any:
    """What a condition compares with."""
    return list(condition.values) if isinstance(condition, cs.InCondition) else condition.value


def _outside(parameter: Float | Int, end: float, side: int) -> float:
    """The number next to the end of an interval, outside of it."""
    if isinstance(parameter, Int):
        return (math.ceil(end) if side < 0 else math.floor(end)) + side
    return math.nextafter(end, side * math.inf)


def _rebound(clause: Any, made: Any) -> Any:
    """A clause on the hyperparameters of another ConfigurationSpace."""
    if hasattr(clause, "components"):
        return type(clause)(*(_rebound(one, made) for one in clause.components))
    if hasattr(clause, "left"):
        return type(clause)(made[clause.left.name], made[clause.right.name])
    compared = clause.values if isinstance(clause, cs.ForbiddenInClause) else clause.value
    return type(clause)(made[clause.hyperparameter.name], compared)
