"""Search spaces as scikit-learn and scikit-optimize write them: distributions, lists and tuples, by name."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from itertools import pairwise
from numbers import Integral, Real
from typing import Any

import numpy as np

from bo_suite.errors import SpaceError
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
    """The Translation of a search space.

    A dict gives each parameter by name, as one of

    - our Float, Int or Choice;
    - a scipy distribution of bounded support: `uniform` is a Float, `loguniform` a Float on a log scale and
      a discrete one an Int, its weights left aside; of any other continuous one the quantile level in [0, 1]
      is searched, so that likely values have more room;
    - a list or an array: its options, any objects, ordered where they are numbers in rising or falling order;
    - a range: its integers, in order;
    - a tuple (low, high) or (low, high, "uniform" or "log-uniform"): an Int where both are integers and a
      Float otherwise; any other tuple is a list of options;
    - a Dimension of scikit-optimize.

    Args:
        space: a Space or such a dict.

    Raises:
        SpaceError: none of these, a parameter that breaks a rule, a support without bounds, or a fidelity,
            which cross-validated scores cannot be compared across.
    """
    if not isinstance(space, Space | Mapping):
        raise SpaceError(
            f"a search space must be a Space or a dict of parameters, got {described(space, 100)}"
        )
    found = {}
    for name, given in space if isinstance(space, Space) else space.items():
        try:
            found[name] = _dimension(given)
        except (TypeError, ValueError) as error:
            raise SpaceError(f"parameter {name!r}: {error}") from error
    translation = Translation(found)
    if translation.space.fidelities:
        raise SpaceError(f"parameters must be no fidelities, got {list(translation.space.target_fidelity)}")
    return translation


def _dimension(given: Any) -> Dimension:
    if isinstance(given, Float | Int | Choice):
        return Dimension(replace(given))  # it remembers what it has computed, and theirs is not to change
    if isinstance(given, tuple):
        return _of_tuple(given)
    if isinstance(given, list | np.ndarray):
        return _options(list(given))
    if isinstance(given, range):
        return _of_range(given)
    if all(hasattr(given, name) for name in ("ppf", "cdf", "support")):
        return _of_distribution(given)
    if hasattr(given, "categories"):
        return _options(list(given.categories))
    if all(hasattr(given, name) for name in ("low", "high", "prior", "dtype")):
        return _range(given.low, given.high, given.prior, np.issubdtype(np.dtype(given.dtype), np.integer))
    raise SpaceError(f"must be {_KINDS}, got {described(given, 100)}")


def _is_number(value: Any) -> bool:
    return isinstance(value, Real) and not isinstance(value, bool)


def _of_tuple(given: tuple[Any, ...]) -> Dimension:
    """Of (low, high[, prior[, base]]), or else of options."""
    if not (2 <= len(given) <= 4 and all(map(_is_number, given[:2]))):
        return _options(given)
    if len(given) > 2 and not isinstance(given[2], str):
        return _options(given)
    whole = isinstance(given[0], Integral) and isinstance(given[1], Integral)
    return _range(given[0], given[1], given[2] if len(given) > 2 else "uniform", whole)


def _range(low: Any, high: Any, prior: Any, whole: bool) -> Dimension:
    if prior not in _PRIORS:
        raise SpaceError(f"a prior must be one of {list(_PRIORS)}, got {described(prior)}")
    if whole:
        return Dimension(Int(int(low), int(high), _PRIORS[prior]))
    return Dimension(Float(float(low), float(high), _PRIORS[prior]))


def _of_range(given: range) -> Dimension:
    """An Int; with a step, of the number of steps."""
    rising = given if given.step > 0 else given[::-1]
    if len(rising) < 2 or rising.step == 1:
        return Dimension(Int(rising[0], rising[-1])) if rising else _options([])
    return stepped(rising[0], rising.step, len(rising))


def _options(options: Sequence[Any]) -> Dimension:
    if not options:
        raise SpaceError("must have at least one option, got none")
    return listed(options, len(options) > 2 and all(map(_is_number, options)) and _in_order(options))


def _in_order(numbers: Sequence[Any]) -> bool:
    """Whether they rise or fall; compared in Python, whose integers have no end."""
    steps = list(pairwise(python_scalar(number) for number in numbers))
    return all(a < b for a, b in steps) or all(a > b for a, b in steps)


def _of_distribution(given: Any) -> Dimension:
    name = getattr(getattr(given, "dist", given), "name", "a distribution")
    low, high = (float(bound) for bound in given.support())
    if not (np.isfinite(low) and np.isfinite(high)):
        raise SpaceError(f"a distribution must have bounds, got {name} on [{low}, {high}]; truncate it")
    if hasattr(given, "pmf"):
        values = getattr(given, "xk", getattr(getattr(given, "dist", None), "xk", None))
        if values is not None:
            return _options([value.item() for value in values])
        return listed([int(low)]) if low == high else Dimension(Int(int(low), int(high)))
    if name == "uniform":
        return Dimension(Float(low, high))
    if name in _LOG and np.isclose(given.median(), np.sqrt(low * high), rtol=1e-9, atol=0.0):  # no loc
        return Dimension(Float(low, high, log=True))
    return Dimension(
        Float(0.0, 1.0), lambda level: float(given.ppf(level)), lambda value: float(given.cdf(value))
    )
