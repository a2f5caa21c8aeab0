"""Trainings of Keras that report, and end when they are told to."""

import os
from functools import partial
from typing import Any

import numpy as np
import pytest

os.environ.setdefault("KERAS_BACKEND", "torch")  # the one that is installed anyway
keras = pytest.importorskip("keras", reason="needs keras, which `pip install 'bo-suite[keras]'` brings")

from bo_suite import Float, Optimizer, Space  # noqa: E402
from bo_suite.errors import TrialError  # noqa: E402
from bo_suite.integrations.keras import ReportCallback  # noqa: E402
from bo_suite.run.schedulers import MedianRule  # noqa: E402

pytestmark = [pytest.mark.integration, pytest.mark.filterwarnings("default")]

X, Y = np.ones((4, 1)), np.full((4, 1), 2.0)


def fitted(report: Any, monitor: str = "val_loss", rate: float = 0.1, **options: Any) -> Any:
    line = keras.layers.Dense(1, use_bias=False, kernel_initializer="zeros")
    model = keras.Sequential([line])
    model.compile(keras.optimizers.SGD(rate), "mse")
    given = {"epochs": 4, "batch_size": 2, "verbose": 0, "validation_data": (X, Y)}
    return model.fit(X, Y, callbacks=[ReportCallback(report, monitor)], **(given | options))


def reported(last: int = 100, **options: Any) -> list[tuple[int, float]]:
    seen: list[tuple[int, float]] = []

    def report(step: int, value: float) -> str:
        seen.append((step, value))
        return "stop" if step >= last else "continue"

    fitted(report, **options)
    return seen


def test_each_epoch_is_reported_with_its_value() -> None:
    seen = reported()
    assert [step for step, _ in seen] == [1, 2, 3, 4]
    weights = [2.0 - 2.0 * 0.8 ** (2 * epoch) for epoch in range(1, 5)]  # two steps of rate 0.1 an epoch
    assert [value for _, value in seen] == pytest.approx(
        [(weight - 2.0) ** 2 for weight in weights], rel=1e-4
    )


def test_a_training_ends_after_the_epoch_that_is_answered_by_stop() -> None:
    assert [step for step, _ in reported(last=2)] == [1, 2]


def test_steps_go_on_from_an_initial_epoch() -> None:
    assert [step for step, _ in reported(initial_epoch=2)] == [3, 4]


def test_epochs_without_a_validation_are_not_reported() -> None:
    assert [step for step, _ in reported(validation_freq=2)] == [2, 4]


def test_a_metric_that_no_epoch_has_is_refused() -> None:
    with pytest.raises(TrialError, match="must have the metric 'accuracy', got \\['loss', 'val_loss'\\]"):
        fitted(lambda step, value: "continue", "accuracy")
    with pytest.raises(TrialError, match="must have the metric 'val_loss', got \\['loss'\\]"):
        fitted(lambda step, value: "continue", validation_data=None)


def test_a_hopeless_training_of_a_run_ends_early() -> None:
    opt = Optimizer(Space({"rate": Float(1e-4, 0.3, log=True)}), scheduler=MedianRule(4, 1, min_trials=1))
    opt.enqueue([{"rate": 0.3}, {"rate": 1e-4}])
    for _ in range(2):
        trial = opt.ask()
        report = partial(opt.report, trial)
        fitted(report, rate=trial.params["rate"])
    assert [(trial.state, trial.step) for trial in opt.trials] == [("running", 4), ("stopped", 1)]
