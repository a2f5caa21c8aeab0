"""Trainings of PyTorch Lightning that report, and end when they are told to."""

from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch

WHY = "needs lightning, which `pip install 'bo-suite[lightning]'` brings"
pl = pytest.importorskip("lightning.pytorch", reason=WHY)

from bo_suite import Float, Optimizer, Space  # noqa: E402
from bo_suite.errors import TrialError  # noqa: E402
from bo_suite.integrations.lightning import ReportCallback  # noqa: E402
from bo_suite.run.schedulers import MedianRule  # noqa: E402

pytestmark = [
    pytest.mark.integration,
    pytest.mark.filterwarnings("default"),  # Lightning warns of few workers and missing loggers
]


class Line(pl.LightningModule):
    """A line through the origin, whose validation loss is logged."""

    def __init__(self, rate: float = 0.1) -> None:
        super().__init__()
        self.layer, self.rate = torch.nn.Linear(1, 1, bias=False), rate
        torch.nn.init.zeros_(self.layer.weight)

    def loss(self, batch: Any) -> Any:
        (x,) = batch
        return (self.layer(x) - 2.0 * x).square().mean()

    def training_step(self, batch: Any, index: int) -> Any:
        return self.loss(batch)

    def validation_step(self, batch: Any, index: int) -> None:
        self.log("val_loss", self.loss(batch))

    def configure_optimizers(self) -> Any:
        return torch.optim.SGD(self.parameters(), self.rate)


def trainer_of(*callbacks: Any, epochs: int = 4, **options: Any) -> Any:
    quiet = {"logger": False, "enable_progress_bar": False, "enable_model_summary": False}
    given = {"accelerator": "cpu", "enable_checkpointing": False, "callbacks": list(callbacks), **quiet}
    return pl.Trainer(max_epochs=epochs, **(given | options))


def data() -> Any:
    return torch.utils.data.DataLoader(torch.utils.data.TensorDataset(torch.ones(4, 1)), batch_size=2)


def reported(answer: str = "continue", last: int = 100, **options: Any) -> list[tuple[int, float]]:
    seen: list[tuple[int, float]] = []

    def report(step: int, value: float) -> str:
        seen.append((step, value))
        return "stop" if step >= last else answer

    trainer_of(ReportCallback(report), **options).fit(Line(), data(), data())
    return seen


def test_each_epoch_is_reported_once_with_its_value() -> None:
    seen = reported()
    assert [step for step, _ in seen] == [1, 2, 3, 4]
    weights = [2.0 - 2.0 * 0.8 ** (2 * epoch) for epoch in range(1, 5)]  # two steps of rate 0.1 an epoch
    assert [value for _, value in seen] == pytest.approx([(weight - 2.0) ** 2 for weight in weights])


def test_a_training_ends_after_the_epoch_that_is_answered_by_stop() -> None:
    assert [step for step, _ in reported(last=2)] == [1, 2]


@pytest.mark.parametrize(
    ("options", "steps"),
    [({"val_check_interval": 0.5}, [1, 2, 3, 4]), ({"check_val_every_n_epoch": 2}, [2, 4])],
)
def test_epochs_count_whenever_they_are_validated(options: dict[str, Any], steps: list[int]) -> None:
    assert [step for step, _ in reported(**options)] == steps


def test_steps_go_on_from_a_checkpoint(tmp_path: Path) -> None:
    trainer = trainer_of(epochs=2)
    trainer.fit(Line(), data(), data())
    trainer.save_checkpoint(tmp_path / "state.ckpt")
    steps: list[int] = []

    def report(step: int, value: float) -> str:
        steps.append(step)
        return "continue"

    trainer_of(ReportCallback(report)).fit(Line(), data(), data(), ckpt_path=tmp_path / "state.ckpt")
    assert steps == [3, 4]


def test_a_metric_that_is_not_logged_is_refused() -> None:
    with pytest.raises(TrialError, match="must log the metric 'accuracy', got \\['val_loss'\\]"):
        trainer_of(ReportCallback(lambda step, value: "continue", "accuracy")).fit(Line(), data(), data())


def test_a_hopeless_training_of_a_run_ends_early() -> None:
    opt = Optimizer(Space({"rate": Float(1e-4, 0.3, log=True)}), scheduler=MedianRule(4, 1, min_trials=1))
    opt.enqueue([{"rate": 0.3}, {"rate": 1e-4}])
    for _ in range(2):
        trial = opt.ask()
        report = partial(opt.report, trial)
        trainer_of(ReportCallback(report)).fit(Line(trial.params["rate"]), data(), data())
    assert [(trial.state, trial.step) for trial in opt.trials] == [("running", 4), ("stopped", 1)]
