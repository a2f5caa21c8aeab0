"""Ray Tune's search spaces in terms of ours, flat with "/" between the names of nested ones."""

import math
from collections.abc import Iterator, Mapping
from importlib import import_module
from typing import Any

from bo_suite.describe import described
from bo_suite.errors import SpaceError
from bo_suite.integrations.translate import Dimension, Translation, listed
from bo_suite.parameters import Float, Int
from bo_suite.space import Space

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


def _dimension(name: str, key: object, value: Any) -> Dimension | None:
    """What is searched; None for a constant."""
    domains, grids = _unresolved(key, value)
    if grids:
        raise ValueError(f"parameter {name!r} must be a domain such as tune.choice, got a grid_search")
    if not domains:
        return None
    if domains[0][0] != (key,):
        raise ValueError(f"parameter {name!r}: domains must be in dicts, got one in {described(value)}")
    try:
        return _of_domain(domains[0][1])
    except ValueError as error:
        raise ValueError(f"parameter {name!r}: {error}") from error


def _of_domain(domain: Any) -> Dimension:
    sampler, step = domain.get_sampler(), None
    if isinstance(sampler, _domains.Quantized):
        sampler, step = sampler.sampler, sampler.q
    log = isinstance(sampler, _domains.LogUniform)
    if isinstance(domain, _domains.Categorical):
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
