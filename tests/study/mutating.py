"""Functions to minimise that change the dict they get; workers that import them load nothing else."""

from typing import Any


def bowl(params: dict[str, Any]) -> float:
    """Failing in a corner."""
    if params["kind"] == "b" and params["n"] > 4:
        raise ValueError("not there")
    return (params["x"] - 0.3) ** 2 + abs(params["n"] - 4) / 5 + "abc".index(params["kind"]) / 3


def pops(params: dict[str, Any]) -> float:
    value = bowl(params)
    for name in list(params):
        params.pop(name)
    return value


def updates(params: dict[str, Any]) -> float:
    value = bowl(params)
    params.update(x=0.0, n=1, kind="a", more=[params])
    return value


def clears(params: dict[str, Any]) -> float:
    try:
        return bowl(params)
    finally:
        params.clear()


def nests(params: dict[str, Any]) -> float:
    value = bowl(params)
    params["x"], params["n"] = {"inner": params}, [1, [2]]
    return value


ATTACKS = (pops, updates, clears, nests)


def in_a_worker(params: dict[str, Any]) -> float:
    """All of them, one after the other by the value of n."""
    return ATTACKS[params["n"] % len(ATTACKS)](params)
