"""Changes of the space of a history."""

from collections.abc import Callable, Mapping
from dataclasses import replace

from bo_suite.errors import SpaceError
from bo_suite.space.parameters import Choice, Float, Int, Parameter
from bo_suite.space.space import Params, Space
from bo_suite.space.table import digest_of
from bo_suite.space.when import Interval
from bo_suite.storage.protocol import Storage
from bo_suite.study.arguments import check_judgeable
from bo_suite.values.describe import described


def extend(
    history: Storage,
    parameters: Mapping[str, Parameter] | Space,
    values: Params,
    check: Callable[[Space], None],
) -> Space:
    """Changes and returns the space of a history.

    Args:
        history: stores the space.
        parameters: as in `extended`.
        values: of the new parameters.
        check: raises an error if the acquisition cannot search a space.
    """
    before = history.header.space
    after, complete = extended(before, parameters, values)
    check(after)
    if history.header.scheduler is not None:
        check_judgeable(after, history.header.goals)
    if after != before:
        history.extend(before, after, complete)
    return after


def extended(
    space: Space, parameters: Mapping[str, Parameter] | Space, values: Params
) -> tuple[Space, Params]:
    """A space with changed and new parameters, and the values of the new ones in earlier trials.

    Args:
        space: the present one.
        parameters: by name; those that are not named stay, and so do the candidates. A Space names them all,
            and has the candidates, of which some may be new and others left out.
        values: of the new parameters. One that is active in no earlier trial needs none.

    Raises:
        SpaceError: a parameter is left out of a Space, becomes one of another kind, has a single number left
            or gets another condition; a new one has no value in earlier trials, or one that it does not have
            a place for; or the constraints become others.
    """
    for what, given in (("parameters", parameters), ("values", values)):
        if not isinstance(given, Mapping | Space):
            raise SpaceError(f"`{what}` must be a dict by name, got {described(given)}")
    named = dict(parameters) if isinstance(parameters, Mapping) else dict(iter(parameters))
    for name, after in named.items():  # a condition may be on an option that is retired now
        before = dict(space).get(name)
        if isinstance(before, Choice) and isinstance(after, Choice):
            named[name] = after.with_past(before)
    if isinstance(parameters, Space) and (lost := [name for name in space.names if name not in named]):
        raise SpaceError(f"a parameter cannot be removed (fix it at ask, or narrow it), got none of {lost}")
    if isinstance(parameters, Space) and parameters.constraints.form != space.constraints.form:
        raise SpaceError(
            f"the constraints of a space must stay {space.constraints!r}, got {parameters.constraints!r}"
        )
    new = Space(dict(space) | named)  # checks names, kinds and conditions
    added = [name for name in named if name not in space]
    if (without := [name for name in added if name not in values and new[name].when is None]) or (
        unknown := [name for name in values if name not in added]
    ):
        wrong = f"none for {without}" if without else f"one for {unknown}"
        raise SpaceError(f"`values` must have one value for each new parameter and no other, got {wrong}")
    for name in space.names:
        if _accepted(space[name], new) != _accepted(new[name], new):
            raise SpaceError(
                f"the condition of {name!r} must stay {space[name].when}, got {new[name].when}; "
                "add a parameter with a new name instead"
            )
    changed = {
        name: replace(_changed(name, space[name], new[name]), when=space[name].when) for name in space.names
    }
    whole = {name: changed.get(name, parameter) for name, parameter in new}
    candidates = parameters.candidates if isinstance(parameters, Space) else space.candidates
    if candidates is not space.candidates and (missing := space.constraints.missing):
        raise SpaceError(
            "candidates can only be changed with the constraint functions, as in "
            f"Optimizer.resume(path, functions=[{missing[0]}]), got none for {list(missing)}"
        )
    complete = Space(whole, space.constraints.stated, candidates)
    return complete, {name: _value(name, complete[name], values[name]) for name in added if name in values}


def _accepted(parameter: Parameter, space: Space) -> dict[str, object]:
    """What a condition accepts of each parent, without retired options and in no order."""
    accepted: dict[str, object] = {}
    for name, values in (parameter.when or {}).items():
        parent = space[name]
        if isinstance(values, Interval):
            accepted[name] = values
        else:
            kept = (value for value in values if not isinstance(parent, Choice) or value in parent.options)
            accepted[name] = frozenset(kept)
    return accepted


def _changed(name: str, before: Parameter, after: Parameter) -> Parameter:
    """A parameter in place of another one, whose lost options are retired."""
    if type(before) is not type(after):
        raise SpaceError(
            f"a parameter must stay of its kind, got {name!r}: {before!r}, to become {after!r}; add one "
            "with a new name instead"
        )
    if isinstance(before, Choice) and isinstance(after, Choice):
        return after.with_past(before)
    if isinstance(before, Float | Int) and isinstance(after, Float | Int):
        if before.fidelity != after.fidelity:
            raise SpaceError(f"`fidelity` of {name!r} must stay {before.fidelity}, got {after.fidelity}")
        if after.levels == 1 and (before.levels != 1 or after.low != before.low):
            raise SpaceError(
                f"{name!r} must have more than one value left, got {described(after)}; ask(fixed=...) keeps "
                "it at one"
            )
    return after


def _value(name: str, parameter: Parameter, value: object) -> object:
    try:
        accepted = parameter.accept(value)
    except SpaceError as error:
        raise SpaceError(f"the value of {name!r} in earlier trials: {error}") from error
    if parameter.levels == 1 and accepted != parameter.decode(0.0):
        raise SpaceError(f"{name!r} must have more than one value, as earlier trials have another one")
    return accepted


def differences(before: Space, after: Space) -> list[str]:
    """The parameters in which two spaces differ, one line each; retired options are not shown."""
    old, new = dict(before.current), dict(after.current)
    lines = [
        f"{name}: {old.get(name, 'new')} -> {new.get(name, 'removed')}"
        for name in {**old, **new}
        if repr(old.get(name)) != repr(new.get(name))
    ]
    tables = before.candidates, after.candidates
    if digest_of(tables[0]) != digest_of(tables[1]):
        lines.append(f"candidates: {tables[0]} -> {tables[1]}")
    return lines
