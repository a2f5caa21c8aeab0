"""A callback of PyTorch Lightning that reports each epoch, and ends the training when that is decided."""

from collections.abc import Callable
from typing import Any

from bo_suite.errors import TrialError
from bo_suite.values.describe import described

try:
    from lightning.pytorch import LightningModule, Trainer
    from lightning.pytorch.callbacks import Callback
except ModuleNotFoundError as missing:
    raise ImportError(
        "ReportCallback needs lightning, which `pip install 'bo-suite[lightning]'` brings"
    ) from missing


class ReportCallback(Callback):  # type: ignore[misc, unused-ignore]
    """Reports a metric of the validation after each epoch; a "stop" ends the training after this epoch.

    The step is the number of epochs that are done, also those before a checkpoint that `fit` went on from. Of
    several validations in an epoch the last one counts; an epoch without one is not reported. Over several
    devices the main process reports, and all of them end; the metric must be reduced (`sync_dist=True`).

    Args:
        report: called with the step and the value, such as the `report` that `f(params, report)` is given;
            returns "continue" or "stop".
        monitor: name of the metric, as the module logs it in its `validation_step`.

    Raises:
        TrialError: the validation has not logged the metric.
    """

    def __init__(self, report: Callable[[int, float], str], monitor: str = "val_loss") -> None:
        self._report, self._monitor = report, monitor
        self._latest: float | None = None

    def on_validation_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Keep the value, but not that of the check before the training."""
        if trainer.sanity_checking:
            return
        metrics = trainer.callback_metrics
        if self._monitor not in metrics:
            law = f"the validation must log the metric {self._monitor!r}"
            raise TrialError(f"{law}, got {described(sorted(metrics))}")
        self._latest = float(metrics[self._monitor])

    def on_train_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Report the value of this epoch."""
        value, self._latest = self._latest, None
        if value is None:
            return
        answer = "continue"
        if trainer.is_global_zero:
            answer = self._report(trainer.current_epoch + 1, value)
        strategy: Any = trainer.strategy
        if strategy.broadcast(answer) == "stop":
            trainer.should_stop = True
