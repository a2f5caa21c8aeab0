"""Translation of Ray Tune's search spaces; names of nested dicts are joined by "/"."""

import math
from collections.abc import Iterator, Mapping
from dataclasses import fields, is_dataclass
from importlib import import_module
from typing import Any

import numpy as np

from bo_suite.errors import SpaceError
from bo_suite.integrations.branches import joined
from bo_suite.integrations.translate import Dimension, Translation, listed
from bo_suite.space.parameters import Choice, Float, Int
from bo_suite.space.space import Space
from bo_suite.values.describe import described

try:
    _domains: Any = import_module("ray.tune.search.sample")
    _variants: Any = import_module("ray.tune.search.variant_generator")
except ImportError as error:  # also if ray is installed without the packages of ray.tune
    raise ImportError("BoSuiteSearch needs ray[tune], which `pip install 'bo-suite[ray]'` brings") from error

Path = tuple[Any, ...]
"""The keys that lead to a value of a nested dict."""


def leaves(tree: Mapping[Any, Any], above: Path = ()) -> Iterator[tuple[Path, Any]]:
    """Yield path and value of all that is no dict, of empty dicts, and of domains in dict form."""
    for key, value in tree.items():
        if _is_leaf(key, value):
            yield (*above, key), value
        else:
            yield from leaves(value, (*above, key))


def _is_leaf(key: object, value: object) -> bool:
    """Whether a value is no dict, an empty dict, or a domain in dict form."""
    domains, grids = _unresolved(key, value)
    return not (isinstance(value, dict) and value) or (key,) in {path for path, _ in (*domains, *grids)}


def nested(flat: Mapping[Path, Any]) -> dict[Any, Any]:
    """Build the nested dict of values by path."""
    tree: dict[Any, Any] = {}
    for (*above, last), value in flat.items():
        branch = tree
        for key in above:
            branch = branch.setdefault(key, {})
        branch[last] = value
    return tree


def _unresolved(key: object, value: object) -> tuple[list[tuple[Path, Any]], list[tuple[Path, Any]]]:
    """Find domains and grids in a value, with their paths, as Ray does."""
    _, domains, grids = _variants.parse_spec_vars({key: value})
    return domains, grids


def translated(space: Space | Mapping[str, Any]) -> tuple[Translation, dict[str, Path]]:
    """Return the flat translation of a space, and the path of each of its names in a configuration.

    An option of a `tune.choice` may be a domain, or a dict with domains: its names are conditional.

    Raises:
        ValueError: the space cannot be searched.
    """
    if isinstance(space, Space):
        paths: dict[str, Path] = {name: tuple(name.split("/")) for name in space.parameters}
        if space.contexts:
            raise ValueError(f"Ray Tune knows no contexts, got a Space with {list(space.contexts)}")
        dimensions = {name: Dimension(parameter) for name, parameter in space}
        translation = Translation(dimensions, constraints=space.constraints)
    elif isinstance(space, Mapping):
        translation, paths = _of_dict(space, ())
        if not translation.dimensions:
            raise ValueError(f"a param_space must have a domain to be searched, got {list(paths)} alone")
    else:
        raise ValueError(f"the space must be a Space or a dict of Ray's domains, got {described(space)}")
    inner = {path[:depth] for path in paths.values() for depth in range(1, len(path))}
    chosen = set(map(translation.name, translation.branches))  # each option has names of its own
    clash = [name for name, path in paths.items() if path in inner and name not in chosen]
    if clash:
        raise ValueError(f"a name must not be the start of a nested one, got {clash} in {list(paths)}")
    return translation, paths


def _of_dict(space: Mapping[Any, Any], above: Path) -> tuple[Translation, dict[str, Path]]:
    """Translate a dict that is at a path."""
    values = [((*above, *path), value) for path, value in leaves(space)]
    paths = {"/".join(map(str, path)): path for path, _ in values}
    if len(paths) < len(values):
        raise ValueError(f"names must differ when nested ones are joined by '/', got {list(paths)}")
    whole = Translation({})
    for (path, value), name in zip(values, dict(paths), strict=True):
        part, inner = _of_value(name, path, value)
        paths |= inner
        whole = Translation(
            {**whole.dimensions, **part.dimensions},
            {**whole.constants, **part.constants},
            {**whole.branches, **part.branches},
            {**whole.names, **part.names},
        )
    return whole, {name: path for name, path in paths.items() if name in whole.all_names}


def _of_value(name: str, path: Path, value: Any) -> tuple[Translation, dict[str, Path]]:
    """Translate a value that is no dict of others, unless it is an option of a choice."""
    domains, _ = _unresolved(path[-1], value)
    nested = domains and domains[0][0] == (path[-1],) and isinstance(domains[0][1], _domains.Categorical)
    options = domains[0][1].categories if nested else []
    if any(_has_domain(option) for option in options):
        parts = [
            _of_value(name, path, option) if _is_leaf(path[-1], option) else _of_dict(option, path)
            for option in options
        ]
        inner = {one: where for _, paths in parts for one, where in paths.items()}
        return joined(name, [part for part, _ in parts]), inner
    dimension = _dimension(name, path[-1], value)
    if dimension is None:
        return Translation({}, {name: value}), {name: path}
    return Translation({name: dimension}), {name: path}


def _has_domain(option: Any) -> bool:
    """Whether an option of a choice is a domain of Ray's, or a dict with one."""
    domains, grids = _unresolved(0, option)
    return bool(domains or grids)


def by_name(config: Mapping[Any, Any], paths: Mapping[str, Path]) -> dict[str, Any]:
    """Return the values of a configuration, nested or flat, by the names of a space, then all others.

    Ray flattens options that are dicts, too; they are nested again.
    """
    flat = {"/".join(map(str, path)): leaf for path, leaf in leaves(config)}
    values = {}
    for name in paths:
        inner = {
            tuple(key.removeprefix(f"{name}/").split("/")): flat.pop(key)
            for key in list(flat)
            if key.startswith(f"{name}/") and key not in paths
        }
        if name in flat:
            values[name] = flat.pop(name)
        elif inner:
            values[name] = nested(inner)
    return {**values, **flat}


def _dimension(name: str, key: object, value: Any) -> Dimension | None:
    """Return the dimension of a value; None for a constant."""
    domains, grids = _unresolved(key, value)
    if grids:
        raise ValueError(f"parameter {name!r} must be a domain such as tune.choice, got a grid_search")
    if not domains or domains[0][0] != (key,):
        if (inner := _unresolved_in(value)) is not None:
            law = f"parameter {name!r}: domains must be in dicts, and Ray's"
            raise ValueError(f"{law}, got {described(inner)} in {described(value)}")
        return None
    try:
        return _of_domain(domains[0][1])
    except ValueError as error:
        raise ValueError(f"parameter {name!r}: {error}") from error


def _unresolved_in(value: Any) -> Any:
    """Find the first domain, parameter or Space in a value, which no trainable can use; or None."""
    domains, grids = _unresolved(0, value)
    if isinstance(value, Float | Int | Choice | Space) or (0,) in {path for path, _ in (*domains, *grids)}:
        return value
    if isinstance(value, Mapping):
        inner = [item for pair in value.items() for item in pair]
    elif isinstance(value, list | tuple | set | frozenset):
        inner = list(value)
    elif isinstance(value, np.ndarray) and value.dtype.hasobject:
        inner = value.ravel().tolist()
    elif is_dataclass(value) and not isinstance(value, type):
        inner = [getattr(value, one.name) for one in fields(value)]
    else:
        return None
    return next((domain for item in inner if (domain := _unresolved_in(item)) is not None), None)


def _of_domain(domain: Any) -> Dimension:
    sampler, step = domain.get_sampler(), None
    if isinstance(sampler, _domains.Quantized):
        sampler, step = sampler.sampler, sampler.q
    log = isinstance(sampler, _domains.LogUniform)
    if isinstance(domain, _domains.Categorical):
        for option in domain.categories:
            if (inner := _unresolved_in(option)) is not None:
                law = "an option of a choice must be a value, a domain of Ray's or a dict of these"
                raise ValueError(f"{law}, got {described(inner)} in {described(option)}")
        return listed(domain.categories)
    if not (log or isinstance(sampler, _domains.Uniform)):
        what = "a sample_from" if domain.is_function() else f"a {type(sampler).__name__.strip('_')} one"
        raise ValueError(f"a domain must be a choice, or uniform on a linear or log scale, got {what}")
    whole = isinstance(domain, _domains.Integer)
    if whole and step in (None, 1):  # the upper bound is excluded; with other steps Ray includes it
        return _integers(domain.lower, domain.upper - 1, log)
    if step is None:
        return Dimension(Float(domain.lower, domain.upper, log=log))
    return _multiples(domain, step, log)


def _integers(low: int, high: int, log: bool) -> Dimension:
    return listed([low]) if low == high else Dimension(Int(low, high, log=log))


def _multiples(domain: Any, step: float, log: bool) -> Dimension:
    """Return the multiples of a step between the bounds, both included."""
    low, high = domain.lower / step, domain.upper / step
    first, last = math.ceil(low - 1e-9 * abs(low)), math.floor(high + 1e-9 * abs(high))
    if first == last:
        return listed([domain.cast(first * step)])

    def multiple(value: Any) -> int:
        number: int = round(value / step)
        if abs(number * step - value) > 1e-6 * step:
            raise SpaceError(f"the value must be a multiple of {step}, got {described(value)}")
        return number

    return Dimension(Int(first, last, log=log), lambda number: domain.cast(number * step), multiple)
