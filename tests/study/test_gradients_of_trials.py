"""Gradients and deviations of what was set, from the user to the Dataset: chain rules, caps, scales."""

import math
from typing import Any

import pytest
import torch
from torch.testing import assert_close

from bo_suite import Choice, Float, Int, Mixture, Optimizer, Space
from bo_suite.acquisition import UpperConfidenceBound
from bo_suite.data import Dataset
from bo_suite.run.schedulers import ASHA
from bo_suite.study.outcomes import OutcomeTransform
from bo_suite.study.provenance import fingerprint
from bo_suite.surrogates import ExactGP

SPACE = Space(
    {
        "x": Float(-2.0, 3.0),
        "lr": Float(1e-5, 1e-1, log=True),
        "size": Float(1.0, 4.0, step=0.5),
        "depth": Int(1, 64, log=True),
        "kernel": Choice(["rbf", "poly"]),
        "degree": Float(1.0, 5.0, when={"kernel": "poly"}),
    }
)


def value(params: dict[str, Any]) -> float:
    degree = params.get("degree", 0.0)
    return float(params["x"] ** 2 + math.log(params["lr"]) * params["size"] + 0.1 * degree**2)


def gradient(params: dict[str, Any]) -> dict[str, float]:
    by = {"x": 2 * params["x"], "lr": params["size"] / params["lr"], "size": math.log(params["lr"])}
    return by | ({"degree": 0.2 * params["degree"]} if "degree" in params else {})


def data_of(optimizer: Optimizer) -> Dataset:
    return optimizer._suggester.observations.dataset(optimizer.trials)


def transform_of(optimizer: Optimizer) -> OutcomeTransform:
    return optimizer._suggester.observations.transform(optimizer.trials)


def differences(optimizer: Optimizer, column: int) -> torch.Tensor:
    """Derivatives of y by a column, from outcomes at decoded rows nearby: independent of any chain rule."""
    data, step = data_of(optimizer), 1e-6
    x, (name, parameter) = data.x, list(optimizer.space)[column]
    sign = optimizer.goals.objectives[0].sign
    ends = []
    for side in (-step, step):
        losses = []
        for trial, row in zip(optimizer.trials, x.tolist(), strict=True):
            params = dict(trial.params)
            if name in params and isinstance(parameter, Float):
                u, low, high = row[column] + side, parameter.low, parameter.high
                params[name] = low * (high / low) ** u if parameter.log else low + u * (high - low)
            losses.append(sign * value(params))
        ends.append(transform_of(optimizer)(torch.tensor(losses, dtype=torch.float64)))
    return (ends[1] - ends[0]) / (2 * step)


@pytest.mark.parametrize("direction", ["minimize", "maximize"])
def test_the_gradient_of_the_dataset_is_that_of_its_outcomes(direction: str) -> None:
    optimizer = Optimizer(SPACE, seed=3, direction=direction, initial=12)
    for number in range(12):
        trial = optimizer.ask()
        known = gradient(trial.params)
        if number == 2:
            known.pop("lr")
        optimizer.tell(trial, value(trial.params), gradient=None if number == 5 else known)
    data, transform = data_of(optimizer), transform_of(optimizer)
    assert data.gradient is not None
    losses = optimizer.goals.objectives[0].sign * torch.tensor([one.value for one in optimizer.trials])
    capped = losses.double() / transform.unit > transform.cap
    for column, (name, parameter) in enumerate(SPACE):
        expected = differences(optimizer, column)
        unknown = torch.tensor([name not in (trial.gradient or {}) for trial in optimizer.trials]) | capped
        assert bool(data.gradient[unknown, column].isnan().all())
        if isinstance(parameter, Float):
            assert bool((~unknown).any())
            assert_close(data.gradient[~unknown, column], expected[~unknown], rtol=1e-5, atol=1e-7)
        else:
            assert bool(unknown.all())


def test_deviations_are_shares_of_the_range_or_of_its_logarithm() -> None:
    optimizer = Optimizer(SPACE)
    point = {"x": 1.0, "lr": 1e-3, "size": 2.0, "depth": 8, "kernel": "rbf"}
    stds = {"x": 0.5, "lr": 1e-5, "size": 0.3, "depth": 1}
    optimizer.add(point, 1.0, params_std=stds)
    optimizer.add(point | {"x": 2.0}, 2.0)
    data = data_of(optimizer)
    assert data.x_std is not None
    expected = [0.1, 1e-2 / math.log(1e4), 0.1, 0.125 / math.log(64), 0.0, 0.0]
    assert_close(data.x_std, torch.tensor([expected, [0.0] * 6], dtype=torch.float64))
    optimizer.add(point, 1.0, params_std={"x": 1e308})
    wide = data_of(optimizer).x_std
    assert wide is not None
    assert float(wide[2, 0]) == 1e3


def test_without_either_the_dataset_is_as_before() -> None:
    optimizer = Optimizer(SPACE)
    trial = optimizer.ask()
    optimizer.tell(trial, 1.0, gradient={}, params_std={"x": 0.0})
    data = data_of(optimizer)
    assert (data.gradient, data.x_std) == (None, None)


def test_beyond_the_cap_nothing_is_known() -> None:
    optimizer = Optimizer(Space({"x": Float(0.0, 1.0)}))
    for number in range(10):
        optimizer.add({"x": number / 10}, float(number), gradient={"x": 10.0})
    optimizer.add({"x": 1.0}, 1e6, gradient={"x": 10.0})
    data = data_of(optimizer)
    assert data.gradient is not None
    assert bool(data.gradient[-1].isnan().all())
    assert not bool(data.gradient[:-1].isnan().any())


@pytest.mark.parametrize("size", [1e-300, 1e-8, 1.0, 1e300])
@pytest.mark.parametrize("span", [1e-300, 1.0, 1e300])
def test_huge_and_tiny_scales(size: float, span: float) -> None:
    """y = size sin(3 u) on x = span u: what the surrogate sees does not depend on size and span."""
    optimizer = Optimizer(Space({"x": Float(0.0, span)}))
    for number in range(9):
        u = number / 8
        slope = 3 * math.cos(3 * u)
        known = size / span * slope if 1e-300 <= size / span <= 1e300 else math.copysign(0.0, slope)
        optimizer.add({"x": span * u}, size * math.sin(3 * u), gradient={"x": known})
    data = data_of(optimizer)
    plain = OutcomeTransform.fit(torch.sin(3 * data.x[:, 0]))
    assert data.gradient is not None
    assert bool(data.gradient.isfinite().all())
    if 1e-300 <= size / span <= 1e300:
        x = data.x[:, 0].clone().requires_grad_()
        (expected,) = torch.autograd.grad(plain(torch.sin(3 * x)).sum(), x)
        assert_close(data.gradient[:, 0], expected, rtol=1e-8, atol=1e-10)


def test_a_log_scale_over_hundreds_of_decades() -> None:
    optimizer = Optimizer(Space({"x": Float(1e-300, 1e300, log=True)}))
    for exponent in (-290, -100, 0, 100, 290):
        x = 10.0**exponent
        optimizer.add(
            {"x": x}, math.log10(x), gradient={"x": 1 / (x * math.log(10))}, params_std={"x": x / 10}
        )
    data = data_of(optimizer)
    x = data.x[:, 0].clone().requires_grad_()
    (expected,) = torch.autograd.grad(transform_of(optimizer)(600 * x - 300).sum(), x)
    assert data.gradient is not None
    assert_close(data.gradient[:, 0], expected, rtol=1e-9, atol=0.0)
    assert data.x_std is not None
    assert_close(data.x_std[:, 0], torch.full((5,), 0.1 / (600 * math.log(10)), dtype=torch.float64))


def test_derivatives_too_steep_for_a_surrogate_are_unknown() -> None:
    optimizer = Optimizer(Space({"x": Float(0.0, 1.0), "y": Float(0.0, 1.0)}))
    for number in range(4):
        optimizer.add({"x": number / 4, "y": 0.5}, number / 4, gradient={"x": 1.0, "y": 1e300})
    data = data_of(optimizer)
    assert data.gradient is not None
    assert bool(data.gradient[:, 1].isnan().all())
    assert not bool(data.gradient[:, 0].isnan().any())
    alone = Optimizer(Space({"x": Float(0.0, 1.0)}))
    alone.add({"x": 0.5}, 1e-300, gradient={"x": 1.0})
    assert data_of(alone).gradient is None


def test_the_derivative_by_a_part_of_a_mixture_is_partial() -> None:
    mixture = Mixture(["a", "b"], 2.0)
    optimizer = Optimizer(Space(dict(mixture.parameters), constraints=[mixture]))
    for a in (0.5, 1.0, 2.0):
        optimizer.add({"a": a, "b": 2.0 - a}, a**2 + (2.0 - a), gradient={"a": 2 * a, "b": 1.0})
    data = data_of(optimizer)
    assert data.gradient is not None
    a = 2.0 * data.x[:, 0]
    assert_close(data.gradient[:, 0] / data.gradient[:, 1], 2 * a)


def test_one_objective_with_constraints() -> None:
    optimizer = Optimizer(SPACE, direction={"e": "maximize"}, constraints={"m": (None, 4.0)})
    plain = Optimizer(SPACE, direction="maximize")
    for number in range(5):
        trial = optimizer.ask()
        told: Any = {"m": 3.0} if number == 1 else {"e": value(trial.params), "m": float(number)}
        optimizer.tell(trial, told, gradient=None if number == 1 else gradient(trial.params))
        if number != 1:
            plain.add(
                trial.params, value(trial.params), gradient=gradient(trial.params), params_std={"x": 0.1}
            )
            optimizer.amend(trial, {"m": 2.0}, params_std={"x": 0.1})
    one, other = data_of(optimizer), data_of(plain)
    for first, second in ((one.gradient, other.gradient), (one.x_std, other.x_std)):
        assert first is not None
        assert second is not None
        assert_close(first, second, equal_nan=True)
    memory = optimizer.belief("m").data
    assert memory.gradient is None
    assert memory.x_std is not None
    assert optimizer.belief("e").data.gradient is not None


def test_several_objectives_have_deviations_alone() -> None:
    optimizer = Optimizer(SPACE, direction={"a": "minimize", "b": "minimize"})
    for _ in range(3):
        trial = optimizer.ask()
        optimizer.tell(trial, {"a": trial.params["x"], "b": 1.0}, params_std={"x": 0.05})
    data = data_of(optimizer)
    assert data.gradient is None
    assert data.x_std is not None
    assert_close(data.x_std[:, 0], torch.full((3,), 0.01, dtype=torch.float64))


def test_finished_trials_of_a_run_with_reports_have_gradients() -> None:
    optimizer = Optimizer(Space({"x": Float(0.0, 2.0)}), scheduler=ASHA(4))
    for number in range(6):
        trial = optimizer.ask()
        x = trial.params["x"]
        going = all(optimizer.report(trial, step, x**2 + 1 / step) == "continue" for step in (1, 2))
        if number < 3 and going:
            optimizer.tell(trial, x**2, gradient={"x": 2 * x})
    data = data_of(optimizer)
    finished = [one for one in optimizer.trials if one.state == "finished"]
    assert data.curves is not None
    assert data.gradient is not None
    assert len(data.y) > len(finished) > 0
    at = torch.tensor([2.0 * row in [one.params["x"] for one in finished] for row in data.x[:, 0].tolist()])
    x = data.x[at, 0].clone().requires_grad_()
    transform = transform_of(optimizer)
    losses = (2.0 * x).square()
    (expected,) = torch.autograd.grad(transform(losses).sum(), x)
    below = losses.detach() / transform.unit <= transform.cap
    assert_close(data.gradient[at, 0][below], expected[below])
    assert bool(data.gradient[~at].isnan().all())


def test_a_fit_depends_on_both() -> None:
    acquisition, prints = UpperConfidenceBound(), []
    for known in ({}, {"gradient": {"x": 1.0}}, {"params_std": {"x": 1.0}}, {"gradient": {"x": 2.0}}):
        optimizer = Optimizer(Space({"x": Float(0.0, 1.0)}))
        optimizer.add({"x": 0.5}, 1.0, **known)  # type: ignore[arg-type]
        prints.append(fingerprint(acquisition, optimizer.trials))
    assert len(set(prints)) == 4


def test_an_amended_gradient_is_no_settled_start() -> None:
    acquisition = UpperConfidenceBound(surrogate=ExactGP())
    optimizer = Optimizer(Space({"x": Float(0.0, 1.0)}), acquisition, initial=4)
    for _ in range(5):
        trial = optimizer.ask()
        optimizer.tell(trial, trial.params["x"] ** 2, gradient={"x": 2 * trial.params["x"]})
    first, second = optimizer.ask(), optimizer.ask()
    assert first.provenance["data"] == second.provenance["data"]
    optimizer.amend(0, optimizer.trial(0).value or 0.0, gradient={"x": 0.3})
    assert optimizer.ask().provenance["data"] != first.provenance["data"]


def test_frames_have_columns_only_where_something_is_known() -> None:
    optimizer = Optimizer(SPACE)
    for known in (None, {"x": 2.0}):
        trial = optimizer.ask()
        optimizer.tell(trial, 1.0)
        assert not [name for name in optimizer.to_frame() if "gradient" in name or "params_std" in name]
        if known:
            optimizer.amend(trial, 1.0, gradient=known, params_std={"lr": 0.1})
    frame = optimizer.to_frame()
    assert frame["gradient_x"].isna().tolist() == [True, False]
    assert frame["params_std_lr"].tolist()[1] == 0.1
    optimizer.amend(1, 2.0)
    changes = optimizer.to_frame(history=True)
    assert changes["after_gradient"].tolist() == [{"x": 2.0}, None]
    assert changes["before_gradient"].tolist() == [None, {"x": 2.0}]
    assert changes["after_params_std"].tolist() == [{"lr": 0.1}] * 2


def test_importance_uses_gradients_in_the_users_units() -> None:
    optimizer = Optimizer(Space({"x": Float(0.0, 1.0), "y": Float(0.0, 2.0)}), seed=1)
    for number in range(9):
        x, y = (number % 3) / 2, float(number // 3)
        optimizer.add({"x": x, "y": y}, 5 * x + y**2, gradient={"x": 5.0, "y": 2 * y}, params_std={"x": 1e-3})
    from bo_suite.study.importance import _outcomes_in_units

    data = _outcomes_in_units(optimizer.belief())
    assert data.gradient is not None
    assert data.x_std is not None
    below = ~data.gradient[:, 0].isnan()
    spread = (data.y.max() - data.y.min()) / 9.0  # outcomes are 0 to 9, and none is capped
    assert bool(below.all())
    assert_close(data.gradient[:, 0], (5.0 * spread).expand(9))
    assert_close(data.gradient[:, 1], 2.0 * 2.0 * (2.0 * data.x[:, 1]) * spread)
    assert set(optimizer.importance().index) == {"x", "y"}
