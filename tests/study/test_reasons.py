"""Why a point was suggested: numbers in the user's units and direction, checked by hand."""

import math
from typing import Any

import pytest
import torch
from scipy import stats

from bo_suite import Choice, Float, Optimizer, Space
from bo_suite.acquisition import Bore, KnowledgeGradient, LogExpectedImprovement
from bo_suite.acquisition.forecast import Forecast
from bo_suite.acquisition.outcome_scales import OutcomeScale
from bo_suite.data import CPU_DOUBLES, Dataset
from bo_suite.storage.goals import MINIMIZE
from bo_suite.study.outcomes import OutcomeTransform
from bo_suite.study.reasons import why
from bo_suite.study.step import Step
from bo_suite.study.summary import explanation

SPACE = Space({"x": Float(-1.0, 2.0), "kind": Choice(["a", "b", "c"])})


def loss(params: dict[str, Any]) -> float:
    return float((params["x"] - 0.3) ** 2 + 0.4 * (params["kind"] != "b"))


def run(acquisition: Any = None, direction: str = "minimize", steps: int = 12) -> Optimizer:
    opt = Optimizer(SPACE, acquisition, seed=0, direction=direction)
    for _ in range(steps):
        trial = opt.ask()
        opt.tell(trial, loss(trial.params) if direction == "minimize" else -loss(trial.params))
    return opt


def test_the_improvement_is_the_closed_form_where_the_scale_is_linear() -> None:
    y = torch.tensor([1.0, 2.0, 3.0, 4.0], **CPU_DOUBLES)
    transform = OutcomeTransform.fit(y)
    object.__setattr__(transform, "power", torch.ones_like(transform.power))
    scale = float(transform.inverse(torch.tensor([1.0], **CPU_DOUBLES)) - transform.inverse(y[:1] * 0.0))
    mean, deviation, best = -0.4, 0.3, -0.9
    one = torch.ones(1, **CPU_DOUBLES)
    forecast = Forecast(mean * one, deviation**2 * one, one, best * one, lambda values: values)
    row = torch.tensor([0.5, 0.5], **CPU_DOUBLES)
    data = Dataset(
        torch.tensor([[0.2, 0.9], [0.5, 0.5]], **CPU_DOUBLES), torch.tensor([-1.0, 1.0], **CPU_DOUBLES)
    )
    reasons = why(Step(row, "acquisition", forecast=forecast), data, transform, MINIMIZE)
    u = (best - mean) / deviation
    expected = scale * deviation * (stats.norm.pdf(u) + u * stats.norm.cdf(u))
    assert reasons["improvement"] == pytest.approx(expected, rel=1e-2), "by nodes 0.2 deviations apart"
    assert reasons["predicted"] == pytest.approx(float(transform.inverse(mean * one)), rel=1e-5)
    assert reasons["distance"] == pytest.approx(0.5)
    assert reasons["purpose"] == "refining", "0.91 of the variance is explained"


def test_a_log_scale_is_inverted() -> None:
    y = torch.tensor([[0.1, 0.2, 1.0, 5.0]], **CPU_DOUBLES)
    scales = OutcomeScale.candidates(y, y.amin(-1, keepdim=True))
    values = torch.linspace(0.05, 9.0, 7, **CPU_DOUBLES)[None]
    assert torch.allclose(
        scales.inverse(scales(values.clamp(min=0.1))), values.clamp(min=0.1).expand(3, 1, 7)
    )
    below = scales.inverse(torch.full((3, 1, 1), -9.0, **CPU_DOUBLES))
    assert bool((below[1:] < 0.1).all()), "an improvement"


@pytest.mark.parametrize("direction", ["minimize", "maximize"])
def test_the_numbers_are_in_the_users_direction(direction: str) -> None:
    opt = run(direction=direction)
    sign = 1.0 if direction == "minimize" else -1.0
    for trial in opt.trials:
        if trial.provenance["source"] != "acquisition":
            assert "why" not in trial.provenance
            continue
        reasons = trial.provenance["why"]
        assert reasons["low"] <= reasons["predicted"] <= reasons["high"]
        assert reasons["improvement"] >= 0.0
        assert reasons["purpose"] in ("exploring", "refining")
        before = [sign * (other.value or 0.0) for other in opt.trials[: trial.id]]
        assert reasons["best"] == pytest.approx(sign * min(before), abs=1e-4)
        assert reasons["distance"] > 0.0


def test_minimise_and_maximise_say_the_same_mirrored() -> None:
    for one, other in zip(run().trials[6:], run(direction="maximize").trials[6:], strict=True):
        mine, theirs = one.provenance["why"], other.provenance["why"]
        assert (mine["predicted"], mine["low"], mine["high"]) == (
            -theirs["predicted"],
            -theirs["high"],
            -theirs["low"],
        )
        assert (mine["improvement"], mine["distance"]) == (theirs["improvement"], theirs["distance"])


@pytest.mark.parametrize("acquisition", [Bore(), KnowledgeGradient(candidates=2, quantiles=3)])
def test_a_score_without_a_forecast_says_the_distance_alone(acquisition: Any) -> None:
    trial = run(acquisition, steps=8).trials[-1]
    assert list(trial.provenance["why"]) == ["distance"]
    assert "ranges from the best point" in explanation(trial.provenance)


def test_in_words() -> None:
    opt = run(LogExpectedImprovement(), steps=9)
    text = explanation(opt.trials[-1].provenance)
    assert text.startswith(("exploring, predicted ", "refining, predicted "))
    assert "expected to improve on" in text
    assert "ranges from the best point; chosen from 8 observations by LogExpectedImprovement" in text
    opt.enqueue([{"x": 0.0, "kind": "a"}, {"kind": "b"}])
    assert explanation(opt.ask().provenance) == "queued by the user, not suggested"
    assert explanation(opt.ask().provenance).endswith("LogExpectedImprovement; kind given in a queued point")
    assert explanation(opt.ask(fixed={"x": 0.5}).provenance).endswith("LogExpectedImprovement; x given")


def test_the_reference_point_is_said_to_be_on_the_models_scale() -> None:
    provenance = {"source": "acquisition", "acquisition": "A()", "chosen": {"reference": [2.0], "front": 1}}
    text = "chosen from 0 observations by A; reference on the model's scale: [2.0]; front: 1"
    assert explanation(provenance) == text


def test_huge_outcomes_leave_out_what_is_not_finite() -> None:
    opt = Optimizer(SPACE, seed=0)
    for number in range(9):
        trial = opt.ask()
        opt.tell(trial, loss(trial.params) * 10.0 ** (300 if number % 2 else -300))
    for trial in opt.trials[6:]:
        assert all(isinstance(v, str) or math.isfinite(v) for v in trial.provenance["why"].values())
