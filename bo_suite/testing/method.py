"""The check of a method."""

import json
import pickle
from collections.abc import Sequence

from bo_suite.bench.method import Method, Run, Task
from bo_suite.space.parameters import Choice, Float, Int
from bo_suite.space.space import Params, Space
from bo_suite.testing.require import require

STEPS = 8
"""Steps of each run."""

SPACES = {
    "a mixed space": Space(
        {
            "rate": Float(1e-5, 1e-1, log=True),
            "depth": Int(1, 12),
            "width": Choice((16, 32, 64, 128), ordered=True),
            "kernel": Choice(("linear", "poly", "rbf")),
        }
    ),
    "two columns": Space({"x": Float(-5.0, 10.0), "y": Float(0.0, 15.0)}),
}
"""The spaces in which methods are checked, by their names in errors."""

_FAILED = (0, 4)
"""Steps whose points fail: the first, when a method has no data, and a later one."""


def check_method(method: Method) -> None:
    """Checks that a method keeps the contract of `Method`, and its runs that of `Run`.

    Its name survives pickling. It runs in a space of all kinds of parameters and in one of two columns. Its
    points are in canonical form, it takes values and failures, also at the first point, and its provenance is
    JSON. Runs with equal seeds have equal points, also if the method is a pickled copy and if another run
    takes turns with it. Another seed gives other points in at least one of the spaces: some methods choose
    among algorithms by space and budget, and not all of these are random.

    Args:
        method: The method; it runs for a few steps.

    Raises:
        AssertionError: a broken rule, with the values that break it.
    """
    require(isinstance(method, Method), f"a method must be a Method, got {method!r}")
    name = method.name
    require(isinstance(name, str) and bool(name), f"a name must be a non-empty string, got {name!r}")
    copy = pickle.loads(pickle.dumps(method))
    require(copy.name == name, f"{name}: the name must survive pickling, got {copy.name!r}")
    differ = False
    for where, space in SPACES.items():
        law = f"{name} in {where}"
        (alone,) = _points([method.start(_task(space, 0))], space, law)
        again, other = _points([copy.start(_task(space, 0)), copy.start(_task(space, 1))], space, law)
        require(
            alone == again,
            f"{law}: equal seeds must give equal points, with or without another run beside it, "
            f"got {alone} and {again}",
        )
        differ = differ or alone != other
    require(differ, f"{name}: another seed must give other points in at least one of the spaces")


def _task(space: Space, seed: int) -> Task:
    return Task(space, seed, STEPS, noisy=False)


def _points(runs: Sequence[Run], space: Space, law: str) -> list[list[Params]]:
    """The points of each run; the runs take turns, one step each."""
    points: list[list[Params]] = [[] for _ in runs]
    for step in range(STEPS):
        for run, run_points in zip(runs, points, strict=True):
            run_points.append(_step(run, step, space, law))
    return points


def _step(run: Run, step: int, space: Space, law: str) -> Params:
    params = run.ask()
    checked = space.check(params)
    canonical = params == checked and [*map(type, params.values())] == [*map(type, checked.values())]
    require(canonical, f"{law}: a point must be in canonical form, {checked}, got {params}")
    provenance = run.provenance()
    require(isinstance(provenance, dict), f"{law}: a provenance must be a dict, got {provenance!r}")
    restored = json.loads(json.dumps(provenance, allow_nan=False))
    require(restored == provenance, f"{law}: a provenance must be JSON, got {provenance!r}")
    if step in _FAILED:
        run.fail(dict(params), "made to fail")
    else:
        run.tell(dict(params), _value(space, params))
    return params


def _value(space: Space, params: Params) -> float:
    """The squared distance of the encoded point from (0.3, 0.3, ...)."""
    return float((space.encode([params]) - 0.3).square().sum())
