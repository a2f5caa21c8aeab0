"""A callback of Keras that reports each epoch, and ends the training when that is decided."""

from collections.abc import Callable, Mapping
from typing import Any, NoReturn

from bo_suite.errors import TrialError
from bo_suite.values.describe import described

try:
    import keras
except ModuleNotFoundError as missing:
    raise ImportError("ReportCallback needs keras, which `pip install 'bo-suite[keras]'` brings") from missing


class ReportCallback(keras.callbacks.Callback):  # type: ignore[misc, unused-ignore]
    """Reports a metric after each epoch; a "stop" ends the training after this epoch.

    The step is the number of epochs that are done, also those before the `initial_epoch` of `fit`. Epochs
    without a validation (`validation_freq`) are not reported if the metric is one of the validation.

    Args:
        report: called with the step and the value, such as the `report` that `f(params, report)` is given;
            returns "continue" or "stop".
        monitor: name of the metric; those of the validation begin with "val_".

    Raises:
        TrialError: an epoch has no such metric; of one of the validation, no epoch has it.
    """

    def __init__(self, report: Callable[[int, float], str], monitor: str = "val_loss") -> None:
        super().__init__()
        self._report, self._monitor = report, monitor
        self._seen: set[str] = set()

    def on_train_begin(self, logs: Mapping[str, Any] | None = None) -> None:
        """Forget the metrics of an earlier training."""
        self._seen = set()

    def on_epoch_end(self, epoch: int, logs: Mapping[str, Any] | None = None) -> None:
        """Report the value of an epoch."""
        metrics = logs or {}
        self._seen |= set(metrics)
        if self._monitor in metrics:
            if self._report(epoch + 1, float(metrics[self._monitor])) == "stop":
                self.model.stop_training = True
        elif not self._monitor.startswith("val_"):
            self._refuse()

    def on_train_end(self, logs: Mapping[str, Any] | None = None) -> None:
        """Raise if no epoch had the metric."""
        if self._monitor not in self._seen:
            self._refuse()

    def _refuse(self) -> NoReturn:
        law = f"an epoch must have the metric {self._monitor!r}"
        raise TrialError(f"{law}, got {described(sorted(self._seen))}")
