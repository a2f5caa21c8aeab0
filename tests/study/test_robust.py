"""Recommendations for settings that vary: beside averages of the true function, and what is refused."""

import math
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch.testing import assert_close

from bo_suite import Choice, Float, Int, Optimizer, Space
from bo_suite.errors import SpaceError, TrialError
from bo_suite.study.outcomes import OutcomeTransform
from bo_suite.study.robust import Settings
from bo_suite.surrogates.normal_rule import normal_rule

F64 = torch.float64
LINE = Space({"x": Float(0, 10)})


def two_minima(x: float) -> float:
    """A sharp minimum of -1 at 2.5, and a broad one of -0.8 at 7."""
    return -math.exp(-0.5 * ((x - 2.5) / 0.4) ** 2) - 0.8 * math.exp(-0.5 * ((x - 7.0) / 1.5) ** 2)


def told(
    space: Space, function: Callable[[dict[str, Any]], float], points: list[dict[str, Any]], **how: Any
) -> Optimizer:
    optimizer = Optimizer(space, **how)
    for point in points:
        optimizer.add(point, function(point))
    return optimizer


LINE_POINTS = [{"x": 0.4 * step} for step in range(26)]


@pytest.mark.parametrize("direction", ["minimize", "maximize"])
def test_the_broad_minimum_is_the_robust_one_and_the_sharp_one_the_best(direction: str) -> None:
    sign = 1.0 if direction == "minimize" else -1.0
    optimizer = told(LINE, lambda point: sign * two_minima(point["x"]), LINE_POINTS, direction=direction)
    assert optimizer.recommend()["x"] == pytest.approx(2.5, abs=0.1)
    assert optimizer.recommend(robust={"x": 0.6})["x"] == pytest.approx(7.0, abs=0.1)
    assert optimizer.recommend(robust={"x": 0.1})["x"] == pytest.approx(2.5, abs=0.1), "little noise"
    assert optimizer.recommend(fixed={"x": 3.0}, robust={"x": 0.6}) == {"x": 3.0}


def test_good_outcomes_outside_of_a_narrowed_space_do_not_make_those_inside_equal() -> None:
    points = [{"x": 2.5 + 1e-3 * step} for step in range(40)] + [
        {"x": 5.0 + 0.5 * step} for step in range(11)
    ]
    optimizer = told(LINE, lambda point: two_minima(point["x"]), points)
    optimizer.extend({"x": Float(5, 10)})
    assert optimizer.recommend(robust={"x": 0.3})["x"] == pytest.approx(7.0, abs=0.2)


def test_no_noise_is_the_usual_recommendation() -> None:
    space = Space({"x": Float(0, 10), "same": Float(2, 2)})
    optimizer = told(
        space, lambda point: two_minima(point["x"]), [one | {"same": 2.0} for one in LINE_POINTS]
    )
    for robust in ({}, {"x": 0.0}, {"x": 0, "same": 0.3}):
        assert optimizer.recommend(robust=robust) == optimizer.recommend()


def test_the_mean_is_that_of_outcomes_in_the_units_of_the_user() -> None:
    """Beside a cliff of 3 at 2.7: on the scale of the model, which shortens tails, it would be too near."""

    def cliff(x: float) -> float:
        return 4.0 * (x / 10.0 - 0.3) ** 2 + 3.0 / (1.0 + math.exp((x - 2.7) / 0.1))

    optimizer = told(LINE, lambda point: cliff(point["x"]), [{"x": 0.2 * step} for step in range(51)])
    noise = torch.special.ndtri((torch.arange(2001, dtype=F64) + 0.5) / 2001).tolist()

    def mean(x: float) -> float:
        return sum(cliff(min(max(x + 0.4 * z, 0.0), 10.0)) for z in noise) / len(noise)

    best = min(mean(0.1 * step) for step in range(101))
    robust = optimizer.recommend(robust={"x": 0.4})["x"]
    assert mean(robust) < best + 0.01
    assert mean(optimizer.recommend()["x"]) > best + 0.05


@pytest.mark.parametrize(
    ("parameter", "std"),
    [
        (Float(-2, 6), 0.5),
        (Int(1, 9), 1.5),
        (Float(0, 1, step=0.25), 0.1),
        (Float(1e-4, 1e-1, log=True), 0.01),
        (Int(1, 1000, log=True), 30.0),
    ],
)
def test_settings_are_values_plus_noise_and_beyond_the_range_its_ends(parameter: Any, std: float) -> None:
    settings, space = Settings.of({"x": std}, Space({"x": parameter})), Space({"x": parameter})
    low, high, z = float(parameter.low), float(parameter.high), normal_rule(1, 64)[0][:, 0]
    for position in (0.0, 0.25, 0.75, 1.0):
        value = parameter.decode(position)
        nodes = settings.nodes(space.encode([{"x": value}]))[0, :, 0]
        set_to = low * (high / low) ** nodes if parameter.log else low + (high - low) * nodes
        assert_close(set_to, (value + std * z).clamp(low, high), rtol=1e-9, atol=1e-12)
    assert_close(settings.weights, normal_rule(1, 64)[1])


def test_gradients_of_nodes_are_right_up_to_the_ends_of_the_range() -> None:
    space = Space({"lr": Float(1e-300, 1.0, log=True), "x": Float(0, 1), "still": Float(0, 1)})
    settings = Settings.of({"lr": 1e-3, "x": 0.2}, space)
    x = torch.tensor(
        [[0.0, 0.0, 0.3], [0.98, 0.1, 0.2], [0.9999, 0.95, 0.9], [1.0, 1.0, 1.0], [0.5, 0.5, 0.5]], dtype=F64
    )
    leaf = x.clone().requires_grad_()
    nodes = settings.nodes(leaf)
    assert torch.equal(nodes[..., 2].detach(), x[:, None, 2].expand(nodes.shape[:-1]))
    (gradient,) = torch.autograd.grad((nodes.mT @ settings.weights).sum(), leaf)
    assert bool(gradient.isfinite().all())
    step = 1e-7
    for column in range(3):
        move = step * torch.eye(3, dtype=F64)[column]
        inner = x[1:2] if column == 0 else x[4:]
        slope = (
            (settings.nodes(inner + move) - settings.nodes(inner - move)).mT @ settings.weights / (2 * step)
        )
        found = gradient[1:2] if column == 0 else gradient[4:]
        assert_close(found[:, column], slope.sum(-1), rtol=1e-4, atol=1e-4)


def test_inactive_parameters_have_no_noise() -> None:
    space = Space({"kind": Choice(["a", "b"]), "x": Float(0, 1, when={"kind": "b"}), "z": Float(0, 1)})
    settings = Settings.of({"x": 0.1}, space)
    rows = space.encode([{"kind": "a", "z": 0.5}, {"kind": "b", "x": 0.5, "z": 0.5}])
    nodes = settings.nodes(rows)
    assert torch.equal(nodes[0], rows[0].expand_as(nodes[0]))
    assert float(nodes[1, :, 1].std()) > 0.05


def test_fidelities_are_at_the_target_and_contexts_are_given() -> None:
    space = Space({"x": Float(0, 10), "heat": Float(0, 1, context=True), "epochs": Int(1, 9, fidelity=True)})
    points = [point | {"heat": 0.5, "epochs": 9} for point in LINE_POINTS]
    optimizer = told(space, lambda point: two_minima(point["x"]), points)
    recommended = optimizer.recommend(fixed={"heat": 0.5}, robust={"x": 0.6, "heat": 0.1})
    assert recommended.items() >= {"heat": 0.5, "epochs": 9}.items()
    assert recommended["x"] == pytest.approx(7.0, abs=0.3)
    with pytest.raises(SpaceError, match="'epochs', which is a fidelity"):
        optimizer.recommend(fixed={"heat": 0.5}, robust={"epochs": 1.0})
    with pytest.raises(SpaceError, match="every context must be given"):
        optimizer.recommend(robust={"x": 0.6})


def test_constraints_and_failures_count_as_without_noise() -> None:
    optimizer = Optimizer(LINE, constraints={"load": (None, 1.0)})
    for point in LINE_POINTS:
        if point["x"] > 8.5:
            optimizer.add_failed(point, "broken")
        else:
            optimizer.add(point, {"value": two_minima(point["x"]), "load": abs(point["x"] - 7.0) < 1.0})
    assert 1.0 < optimizer.recommend(robust={"x": 0.6})["x"] < 8.5


WRONG = [
    ([0.1], "must be a dict of standard deviations by name of a Float or an Int, such as {'x': 0.1}, got"),
    ({"z": 0.1}, "one of \\['x', 'kind', 'level'\\], got 'z'"),
    ({"kind": 0.1}, "got one of 'kind', which is a Choice"),
    ({"level": 0.1}, "got one of 'level', which is a Choice"),
    ({"x": -0.1}, "of 'x' must be finite and >= 0, got -0.1"),
    ({"x": math.nan}, "of 'x' must be finite and >= 0, got nan"),
    ({"x": math.inf}, "of 'x' must be finite and >= 0, got inf"),
    ({"x": "0.1"}, "of 'x' must be finite and >= 0, got '0.1'"),
    ({"x": True}, "of 'x' must be finite and >= 0, got True"),
]


@pytest.mark.parametrize(("robust", "sentence"), WRONG)
def test_what_has_no_noise_is_refused_with_one_sentence(robust: Any, sentence: str) -> None:
    space = Space({"x": Float(0, 1), "kind": Choice(["a", "b"]), "level": Choice([1, 2, 3], ordered=True)})
    optimizer = told(space, lambda point: point["x"], [{"x": 0.5, "kind": "a", "level": 1}])
    with pytest.raises(SpaceError, match=sentence):
        optimizer.recommend(robust=robust)


def test_one_objective_with_an_outcome_is_needed() -> None:
    with pytest.raises(TrialError, match="before a trial has finished"):
        Optimizer(LINE).recommend(robust={"x": 0.1})
    several = Optimizer(LINE, direction={"loss": "minimize", "time": "minimize"})
    several.add({"x": 1.0}, {"loss": 0.0, "time": 1.0})
    with pytest.raises(TrialError, match="a run with one objective, got \\['loss', 'time'\\]"):
        several.recommend(robust={"x": 0.1})


@pytest.mark.parametrize("unit", [1.0, 1e300, 1e-300])
def test_the_average_on_the_scale_of_the_model_is_that_of_outcomes_up_to_the_cap(unit: float) -> None:
    y = unit * torch.tensor([0.0, 0.1, 0.3, 0.9, 2.0, 60.0], dtype=F64)
    transform = OutcomeTransform.fit(y)
    rows = unit * torch.tensor([[0.05, 0.2, 2.0], [0.0, 0.0, 99.0]], dtype=F64)
    weights = torch.tensor([0.5, 0.3, 0.2], dtype=F64)
    capped = torch.minimum(rows / unit, transform.cap * transform.unit / unit)
    z = transform(rows)
    assert_close(transform.inverse(transform.average(z, weights)) / unit, capped @ weights)
    leaf = torch.cat((z, z.new_full((1, 3), 50.0))).requires_grad_()
    (gradient,) = torch.autograd.grad(transform.average(leaf, weights).sum(), leaf)
    assert bool(gradient.isfinite().all())
    single = transform.average(z[:, :1], weights.new_ones(1))
    assert_close(single, z[:, 0])
