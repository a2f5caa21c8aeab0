"""The contract of a method."""

import json
import pickle
from collections.abc import Sequence

from bo_suite.bench.method import Method, Run, Task
from bo_suite.space.parameters import Choice, Float, Int
from bo_suite.space.space import Params, Space
from bo_suite.testing.require import require

STEPS = 8

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
"""Where methods are tried, by what errors call it."""

_FAILED = (0, 4)
"""Steps whose points fail: the first, when a method knows nothing, and one on the way."""


def check_method(method: Method) -> None:
    """Check that a method is what `Method` promises and that what it starts is a `Run`.

    Its name survives pickling; in a space of all kinds of parameters and in one of two columns, its points
    lie in the space in canonical form, it takes values and failures, the first one included, and its
    provenance is JSON; a run with the same seed has the same points, also of a pickled copy and with another
    run beside it, and another seed has others, in one of the spaces at least: some methods choose among
    algorithms by space and budget, and not all of these draw.

    Args:
        method: The method; it runs for a few steps.

    Raises:
        AssertionError: a rule that is broken, and the values that break it.
    """
    require(isinstance(method, Method), f"a method must be a Method, got {method!r}")
    name = method.name
    require(isinstance(name, str) and bool(name), f"a name must be a string that is not empty, got {name!r}")
    copy = pickle.loads(pickle.dumps(method))
    require(copy.name == name, f"{name}: the name must survive pickling, got {copy.name!r}")
    differ = False
    for where, space in SPACES.items():
        law = f"{name} in {where}"
        (alone,) = _points([method.start(_task(space, 0))], space, law)
        again, other = _points([copy.start(_task(space, 0)), copy.start(_task(space, 1))], space, law)
        require(
            alone == again,
            f"{law}: the same seed must give the same points, another run beside it or not, "
            f"got {alone} and {again}",
        )
        differ = differ or alone != other
    require(differ, f"{name}: another seed must give other points, in one of the spaces at least")


def _task(space: Space, seed: int) -> Task:
    return Task(space, seed, STEPS, noisy=False)


def _points(runs: Sequence[Run], space: Space, law: str) -> list[list[Params]]:
    """Points of each run, all of which take each step before any takes the next."""
    points: list[list[Params]] = [[] for _ in runs]
    for step in range(STEPS):
        for run, own in zip(runs, points, strict=True):
            own.append(_step(run, step, space, law))
    return points


def _step(run: Run, step: int, space: Space, law: str) -> Params:
    params = run.ask()
    checked = space.check(params)
    canonical = params == checked and [*map(type, params.values())] == [*map(type, checked.values())]
    require(canonical, f"{law}: a point must be in canonical form, {checked}, got {params}")
    said = run.provenance()
    require(isinstance(said, dict), f"{law}: a provenance must be a dict, got {said!r}")
    restored = json.loads(json.dumps(said, allow_nan=False))
    require(restored == said, f"{law}: a provenance must be JSON, got {said!r}")
    if step in _FAILED:
        run.fail(dict(params), "made to fail")
    else:
        run.tell(dict(params), _value(space, params))
    return params


def _value(space: Space, params: Params) -> float:
    """The squared distance of the encoded point from (0.3, 0.3, ...)."""
    return float((space.encode([params]) - 0.3).square().sum())
