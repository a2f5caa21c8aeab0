"""Translation of search spaces of scikit-learn and scikit-optimize: distributions, lists and tuples."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from itertools import pairwise
from numbers import Integral, Real
from typing import Any

import numpy as np

from bo_suite.errors import SpaceError
from bo_suite.integrations.branches import joined
from bo_suite.integrations.translate import Dimension, Translation, listed, stepped
from bo_suite.space.parameters import Choice, Float, Int
from bo_suite.space.space import Space
from bo_suite.values.describe import described
from bo_suite.values.scalars import python_scalar

_LOG = ("loguniform", "reciprocal")
_PRIORS = {"uniform": False, "log-uniform": True}
_KINDS = (
    "a Float, Int or Choice, a frozen scipy distribution, a list of options, a range or a tuple (low, high)"
)


def translated(space: Any) -> Translation:
    """Translate a search space.

    A dict holds for each name one of

    - a Float, Int or Choice;
    - a scipy distribution of bounded support: `uniform` is a Float, `loguniform` a Float on a log scale, and
      a discrete distribution an Int, without its weights; for any other continuous distribution the quantile
      level in [0, 1] is searched, so that likely values get more room;
    - a list or an array of options, which may be any objects; it is ordered if they are ascending or
      descending numbers;
    - a range of integers, in order;
    - a tuple (low, high) or (low, high, "uniform" or "log-uniform"): an Int if both are integers, or else a
      Float; any other tuple is a list of options;
    - a Dimension of scikit-optimize.

    In a list of these each point is of one of them, which is chosen too. A parameter that several of them
    define equally is one parameter.

    Args:
        space: a Space, such a dict, or a list of these.

    Raises:
        SpaceError: the space is none of these, a parameter breaks a rule, a support has no bounds, or a
            parameter is a fidelity or a context, across which cross-validated scores cannot be compared.
    """
    dimensions: dict[int, Dimension] = {}  # by the identity of what defines them
    if isinstance(space, list | tuple) and len(space) > 1:
        parts = [_part(one, dimensions) for one in space]
        choice = "branch"
        while any(choice in part.dimensions for part in parts):
            choice += "_"
        translation = joined(choice, parts)
    else:
        translation = _part(space[0] if isinstance(space, list | tuple) and space else space, dimensions)
    if translation.space.fidelities:
        raise SpaceError(f"parameters must be no fidelities, got {list(translation.space.target_fidelity)}")
    if translation.space.contexts:
        raise SpaceError(f"parameters must be no contexts, got {list(translation.space.contexts)}")
    return translation


def _part(space: Any, known: dict[int, Dimension]) -> Translation:
    """Translate a Space or a dict; add its dimensions to the known ones."""
    if not isinstance(space, Space | Mapping):
        law = "a search space must be a Space, a dict of parameters or a list of these"
        raise SpaceError(f"{law}, got {described(space, 100)}")
    dimensions = {}
    for name, values in space if isinstance(space, Space) else space.items():
        try:
            dimensions[name] = known[id(values)] = known.get(id(values)) or _dimension(values)
        except (TypeError, ValueError) as error:
            raise SpaceError(f"parameter {name!r}: {error}") from error
    return Translation(dimensions, constraints=space.constraints if isinstance(space, Space) else ())


def _dimension(values: Any) -> Dimension:
    if isinstance(values, Float | Int | Choice):
        return Dimension(
            replace(values)
        )  # a copy: a parameter caches results, and the user's must not change
    if isinstance(values, tuple):
        return _of_tuple(values)
    if isinstance(values, list | np.ndarray):
        return _options(list(values))
    if isinstance(values, range):
        return _of_range(values)
    if all(hasattr(values, name) for name in ("ppf", "cdf", "support")):
        return _of_distribution(values)
    if hasattr(values, "categories"):
        return _options(list(values.categories))
    if all(hasattr(values, name) for name in ("low", "high", "prior", "dtype")):
        return _range(
            values.low, values.high, values.prior, np.issubdtype(np.dtype(values.dtype), np.integer)
        )
    raise SpaceError(f"must be {_KINDS}, got {described(values, 100)}")


def _is_number(value: Any) -> bool:
    return isinstance(value, Real) and not isinstance(value, bool)


def _of_tuple(values: tuple[Any, ...]) -> Dimension:
    """Read (low, high[, prior[, base]]), or else options."""
    if not (2 <= len(values) <= 4 and all(map(_is_number, values[:2]))):
        return _options(values)
    if len(values) > 2 and not isinstance(values[2], str):
        return _options(values)
    whole = isinstance(values[0], Integral) and isinstance(values[1], Integral)
    return _range(values[0], values[1], values[2] if len(values) > 2 else "uniform", whole)


def _range(low: Any, high: Any, prior: Any, whole: bool) -> Dimension:
    if prior not in _PRIORS:
        raise SpaceError(f"a prior must be one of {list(_PRIORS)}, got {described(prior)}")
    if whole:
        return Dimension(Int(int(low), int(high), _PRIORS[prior]))
    return Dimension(Float(float(low), float(high), _PRIORS[prior]))


def _of_range(values: range) -> Dimension:
    """Return an Int of the integers; with a step, of the number of steps."""
    ascending = values if values.step > 0 else values[::-1]
    if len(ascending) < 2 or ascending.step == 1:
        return Dimension(Int(ascending[0], ascending[-1])) if ascending else _options([])
    return stepped(ascending[0], ascending.step, len(ascending))


def _options(options: Sequence[Any]) -> Dimension:
    if not options:
        raise SpaceError("must have at least one option, got none")
    return listed(options, len(options) > 2 and all(map(_is_number, options)) and _in_order(options))


def _in_order(numbers: Sequence[Any]) -> bool:
    """Whether they ascend or descend; compared as Python numbers, whose integers are unbounded."""
    steps = list(pairwise(python_scalar(number) for number in numbers))
    return all(a < b for a, b in steps) or all(a > b for a, b in steps)


def _of_distribution(distribution: Any) -> Dimension:
    name = getattr(getattr(distribution, "dist", distribution), "name", "a distribution")
    low, high = (float(bound) for bound in distribution.support())
    if not (np.isfinite(low) and np.isfinite(high)):
        raise SpaceError(f"a distribution must have bounds, got {name} on [{low}, {high}]; truncate it")
    if hasattr(distribution, "pmf"):
        support = getattr(distribution, "xk", getattr(getattr(distribution, "dist", None), "xk", None))
        if support is not None:
            return _options([value.item() for value in support])
        return listed([int(low)]) if low == high else Dimension(Int(int(low), int(high)))
    if name == "uniform":
        return Dimension(Float(low, high))
    if name in _LOG and np.isclose(
        distribution.median(), np.sqrt(low * high), rtol=1e-9, atol=0.0
    ):  # without loc
        return Dimension(Float(low, high, log=True))
    return Dimension(
        Float(0.0, 1.0),
        lambda level: float(distribution.ppf(level)),
        lambda value: float(distribution.cdf(value)),
    )
