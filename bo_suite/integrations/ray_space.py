"""Ray Tune's search spaces in terms of ours, flat with "/" between the names of nested ones."""

import math
from collections.abc import Iterator, Mapping
from dataclasses import fields, is_dataclass
from importlib import import_module
from typing import Any

import numpy as np

from bo_suite.errors import SpaceError
from bo_suite.integrations.translate import Dimension, Translation, listed
from bo_suite.space.parameters import Choice, Float, Int
from bo_suite.space.space import Space
from bo_suite.values.describe import described

try:
    _domains: Any = import_module("ray.tune.search.sample")
    _variants: Any = import_module("ray.tune.search.variant_generator")
except ImportError as error:  # ray.tune raises it where ray is there and its extra packages are not
    raise ImportError("BoSuiteSearch needs ray[tune], which `pip install 'bo-suite[ray]'` brings") from error

Path = tuple[Any, ...]
"""The keys that lead to a value of a nested dict."""


def leaves(tree: Mapping[Any, Any], above: Path = ()) -> Iterator[tuple[Path, Any]]:
    """The path and the value of whatever is no dict, or an empty one; domains in dict form are values."""
    for key, value in tree.items():
        domains, grids = _unresolved(key, value)
        if isinstance(value, dict) and value and not {(key,)} & {path for path, _ in (*domains, *grids)}:
            yield from leaves(value, (*above, key))
        else:
            yield (*above, key), value


def nested(flat: Mapping[Path, Any]) -> dict[Any, Any]:
    tree: dict[Any, Any] = {}
    for (*above, last), value in flat.items():
        place = tree
        for key in above:
            place = place.setdefault(key, {})
        place[last] = value
    return tree


def _unresolved(key: object, value: object) -> tuple[list[tuple[Path, Any]], list[tuple[Path, Any]]]:
    """Domains and grids in a value, with their paths, as Ray finds them."""
    _, domains, grids = _variants.parse_spec_vars({key: value})
    return domains, grids


def translated(space: Space | Mapping[str, Any]) -> tuple[Translation, dict[str, Path]]:
    """The flat space in our terms, and the path of each of its names in a configuration.

    Raises:
        ValueError: a space that cannot be searched.
    """
    if isinstance(space, Space):
        paths: dict[str, Path] = {name: tuple(name.split("/")) for name in space.parameters}
        translation = Translation({name: Dimension(parameter) for name, parameter in space})
    elif isinstance(space, Mapping):
        found = list(leaves(space))
        paths = {"/".join(map(str, path)): path for path, _ in found}
        if len(paths) < len(found):
            raise ValueError(f"names must differ when nested ones are joined by '/', got {list(paths)}")
        dimensions, constants = {}, {}
        for (path, value), name in zip(found, paths, strict=True):
            dimension = _dimension(name, path[-1], value)
            if dimension is None:
                constants[name] = value
            else:
                dimensions[name] = dimension
        if not dimensions:
            raise ValueError(f"a param_space must have a domain to be searched, got {list(constants)} alone")
        translation = Translation(dimensions, constants)
    else:
        raise ValueError(f"the space must be a Space or a dict of Ray's domains, got {described(space)}")
    inner = {path[:depth] for path in paths.values() for depth in range(1, len(path))}
    clash = [name for name, path in paths.items() if path in inner]
    if clash:
        raise ValueError(f"a name must not be the start of a nested one, got {clash} in {list(paths)}")
    return translation, paths


def by_name(config: Mapping[Any, Any], paths: Mapping[str, Path]) -> dict[str, Any]:
    """Values of a configuration, nested or flat, by the names of a space; others keep their flat names.

    An option that is a dict comes back flat from Ray, too.
    """
    flat = {"/".join(map(str, path)): leaf for path, leaf in leaves(config)}
    found = {}
    for name in paths:
        inner = {
            tuple(key.removeprefix(f"{name}/").split("/")): flat.pop(key)
            for key in list(flat)
            if key.startswith(f"{name}/")
        }
        if name in flat:
            found[name] = flat.pop(name)
        elif inner:
            found[name] = nested(inner)
    return {**found, **flat}


def _dimension(name: str, key: object, value: Any) -> Dimension | None:
    """What is searched; None for a constant."""
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
    """The first thing in a value that stands for others, and that a trainable has no use for; or None."""
    domains, grids = _unresolved(0, value)
    if isinstance(value, Float | Int | Choice | Space) or (0,) in {path for path, _ in (*domains, *grids)}:
        return value
    if isinstance(value, Mapping):
        inner = [part for pair in value.items() for part in pair]
    elif isinstance(value, list | tuple | set | frozenset):
        inner = list(value)
    elif isinstance(value, np.ndarray) and value.dtype.hasobject:
        inner = value.ravel().tolist()
    elif is_dataclass(value) and not isinstance(value, type):
        inner = [getattr(value, one.name) for one in fields(value)]
    else:
        return None
    return next((found for part in inner if (found := _unresolved_in(part)) is not None), None)


def _of_domain(domain: Any) -> Dimension:
    sampler, step = domain.get_sampler(), None
    if isinstance(sampler, _domains.Quantized):
        sampler, step = sampler.sampler, sampler.q
    log = isinstance(sampler, _domains.LogUniform)
    if isinstance(domain, _domains.Categorical):
        for option in domain.categories:
            if (inner := _unresolved_in(option)) is not None:
                raise ValueError(
                    f"an option of a choice must be a value, got {described(inner)} in {described(option)}; "
                    "give each domain a name of its own, and use in the trainable those that the option needs"
                )
        return listed(domain.categories)
    if not (log or isinstance(sampler, _domains.Uniform)):
        what = "a sample_from" if domain.is_function() else f"a {type(sampler).__name__.strip('_')} one"
        raise ValueError(f"a domain must be a choice, or uniform on a linear or log scale, got {what}")
    whole = isinstance(domain, _domains.Integer)
    if whole and step in (None, 1):  # the upper bound is left out; with other steps Ray takes it in
        return _integers(domain.lower, domain.upper - 1, log)
    if step is None:
        return Dimension(Float(domain.lower, domain.upper, log=log))
    return _multiples(domain, step, log)


def _integers(low: int, high: int, log: bool) -> Dimension:
    return listed([low]) if low == high else Dimension(Int(low, high, log=log))


def _multiples(domain: Any, step: float, log: bool) -> Dimension:
    """The multiples of a step between the bounds, both taken in."""
    low, high = domain.lower / step, domain.upper / step
    first, last = math.ceil(low - 1e-9 * abs(low)), math.floor(high + 1e-9 * abs(high))
    if first == last:
        return listed([domain.cast(first * step)])

    def place(value: Any) -> int:
        number: int = round(value / step)
        if abs(number * step - value) > 1e-6 * step:
            raise SpaceError(f"the value must be a multiple of {step}, got {described(value)}")
        return number

    return Dimension(Int(first, last, log=log), lambda number: domain.cast(number * step), place)
