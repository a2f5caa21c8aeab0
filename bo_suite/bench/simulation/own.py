"""bo_suite's own Optimizer on learning curves."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

from bo_suite.bench.simulation.tuner import CurveTask, Job
from bo_suite.errors import BudgetSpent, SpaceExhausted
from bo_suite.study.optimizer import Optimizer
from bo_suite.study.scheduling import Scheduler

if TYPE_CHECKING:
    from bo_suite.acquisition import Acquisition


@dataclass(frozen=True)
class BoSuiteCurves:
    """An Optimizer in memory, with any scheduler and acquisition.

    Attributes:
        name: identifies the method.
        scheduler: makes the scheduler of a last step, such as the class `ASHA`; None for whole evaluations.
        acquisition: chooses the points; None for the default of the Optimizer.
    """

    name: str = "bo_suite"
    scheduler: Callable[[int], Scheduler] | None = None
    acquisition: "Acquisition | None" = None

    def start_curves(self, task: CurveTask) -> "OptimizerTuner":
        """An Optimizer with the task's space, direction and seed."""
        chosen: dict[str, Any] = (
            {} if self.scheduler is None else {"scheduler": self.scheduler(task.max_step)}
        )
        optimizer = Optimizer(
            task.space, acquisition=self.acquisition, seed=task.seed, direction=task.direction, **chosen
        )
        return OptimizerTuner(optimizer, self.scheduler is not None)


@dataclass(frozen=True)
class OptimizerTuner:
    """An Optimizer as a tuner; one without a scheduler is told whole evaluations alone.

    Attributes:
        optimizer: the Optimizer. It reports with the simulated seconds of the curves.
        scheduled: whether the Optimizer has a scheduler, so that its trials report.
    """

    optimizer: Optimizer
    scheduled: bool = True

    def ask(self) -> Job | None:
        """The next trial, new or promoted; None if the budget is spent or the space is exhausted."""
        try:
            trial = self.optimizer.ask()
        except (BudgetSpent, SpaceExhausted):
            return None
        return Job(trial.id, dict(trial.params), trial.step)

    def report(self, trial: int, step: int, value: float, seconds: float) -> Literal["continue", "stop"]:
        """Passes the report on."""
        if not self.scheduled:
            return "continue"
        return self.optimizer.report(trial, step, value, seconds=seconds)

    def tell(self, trial: int, value: float) -> None:
        """Ends the trial."""
        self.optimizer.tell(trial, value)
