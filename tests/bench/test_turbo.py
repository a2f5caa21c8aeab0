"""TuRBO: its trust region, and the points that it takes."""

import pytest
import torch

from bo_suite.bench.method import Task
from bo_suite.bench.peers import get_method
from bo_suite.bench.peers.turbo import TrustRegion, _Loop
from bo_suite.space.parameters import Choice, Float
from bo_suite.space.space import Space

LINE = Space({"x": Float(0.0, 1.0)})


def test_a_region_doubles_after_ten_successes_up_to_its_longest_side() -> None:
    region = TrustRegion(patience=4)
    lengths = []
    for _ in range(30):
        region = region.after(success=True)
        lengths.append(region.length)
    assert lengths == [0.8] * 9 + [1.6] * 21


def test_a_region_halves_after_failures_in_a_row_until_it_ends() -> None:
    region = TrustRegion(patience=4)
    for _ in range(3):
        region = region.after(success=False)
    region = region.after(success=True)
    lengths = []
    while not region.ended:
        region = region.after(success=False)
        lengths.append(region.length)
    assert lengths == [0.8 / 2 ** (step // 4) for step in range(1, 29)]


def test_points_lie_in_the_box_about_the_best_one() -> None:
    run = get_method("turbo").start(Task(LINE, 1, 12, noisy=False))
    seen: list[tuple[float, float]] = []
    for step in range(6):
        x = run.ask()["x"]
        value = 1.0 + abs(x - 0.05)
        if step >= 2:
            best = min(seen, key=lambda pair: pair[1])[0]
            assert abs(x - best) <= 0.4
        seen.append((x, value))
        run.tell({"x": x}, value)


def test_a_new_region_starts_with_data_of_its_own() -> None:
    loop = _Loop(Task(LINE, 0, 40, noisy=False))
    first = loop.ask()
    for step in range(30):
        assert len(loop._values) == step
        loop.tell({"x": 0.5}, 1.0)
    assert loop._values == []
    assert loop._region == TrustRegion(patience=4)
    assert loop.ask() != first


def test_no_point_is_suggested_twice_in_a_region_without_noise() -> None:
    space = Space({"first": Choice(["a", "b", "c"]), "second": Choice([1, 2, 3])})
    run = get_method("turbo").start(Task(space, 0, 9, noisy=False))
    points: list[tuple[str, int]] = []
    for _ in range(9):
        params = run.ask()
        points.append((params["first"], params["second"]))
        run.tell(params, float(params["second"]) + (params["first"] == "b"))
    initial, suggested = points[:2], points[2:]
    assert len(set(suggested) - set(initial)) == len(suggested)


def test_a_fit_that_fails_does_not_end_the_run(monkeypatch: pytest.MonkeyPatch) -> None:
    from botorch.exceptions import ModelFittingError

    def fail(likelihood: object) -> None:
        raise ModelFittingError("all attempts have failed")

    monkeypatch.setattr("botorch.fit.fit_gpytorch_mll", fail)
    run = get_method("turbo").start(Task(LINE, 0, 12, noisy=False))
    seen: list[float] = []
    for step in range(6):
        x = run.ask()["x"]
        if step >= 2:
            assert x <= min(seen) + 0.4
        seen.append(x)
        run.tell({"x": x}, x)


def test_candidates_of_many_columns_differ_from_the_best_point_in_about_twenty() -> None:
    space = Space({f"x{index}": Float(0.0, 1.0) for index in range(40)})
    torch.manual_seed(0)
    loop = _Loop(Task(space, 0, 40, noisy=False))
    center = torch.full((40,), 0.5, dtype=torch.float64)
    candidates = loop._candidates(center, torch.ones(40, dtype=torch.float64))
    moved = (candidates != center).sum(dim=-1).double()
    assert moved.min() >= 1
    assert moved.mean() == pytest.approx(20.0, abs=0.5)
    assert (candidates - center).abs().max() <= 0.4
