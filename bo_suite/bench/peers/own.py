"""bo_suite's own Optimizer as a method, with any acquisition."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from importlib import import_module
from typing import TYPE_CHECKING, Any

from bo_suite.bench.method import OutcomeTask, Task
from bo_suite.space.space import Params
from bo_suite.storage.goals import Goals

if TYPE_CHECKING:  # a method in its own interpreter need not have what these import
    from bo_suite.acquisition import Acquisition
    from bo_suite.bench.replicates import Replicates
    from bo_suite.classifiers import Classifier
    from bo_suite.problems import Problem

ACQUISITIONS = (
    "AdaptiveImprovement",
    "Bore",
    "KnowledgeGradient",
    "LogExpectedImprovement",
    "NoisyExpectedImprovement",
    "ThompsonSampling",
    "UpperConfidenceBound",
)
"""The acquisitions of `bo_suite:ACQUISITION`, each at its defaults."""

WEIGHTINGS = {"bore": "probability", "lfbo": "improvement"}
"""Weighting of `Bore` by kind of method."""


@dataclass(frozen=True)
class BoSuite:
    """bo_suite's Optimizer.

    Attributes:
        acquisition: chooses the points; None for the default of the Optimizer.
        name: identifies the method in records.
        device: device of the surrogates ("cpu", "cuda").
    """

    acquisition: "Acquisition | None" = None
    name: str = "bo_suite"
    device: str = "cpu"

    def start(self, task: Task) -> "BoSuiteRun":
        """An Optimizer with the task's space, seed and budget."""
        return self._started(task)

    def accepts(self, goals: Goals) -> bool:
        """Any goals with the default acquisition, otherwise those that the acquisition supports."""
        return self.acquisition is None or goals.aspects <= getattr(self.acquisition, "supports", frozenset())

    def start_outcomes(self, task: OutcomeTask) -> "BoSuiteRun":
        """An Optimizer with the task's space, goals, seed and budget; it infers its reference point."""
        return self._started(task, direction=task.goals.direction, constraints=task.goals.limits)

    def _started(self, task: Task | OutcomeTask, **goals: Any) -> "BoSuiteRun":
        """A run of an Optimizer with the task's space, seed and budget."""
        make = import_module("bo_suite.study.optimizer").Optimizer
        optimizer = make(
            task.space,
            acquisition=self.acquisition,
            seed=task.seed,
            budget=task.budget,
            device=self.device,
            **goals,
        )
        return BoSuiteRun(optimizer)

    @property
    def lockstep(self) -> bool:
        """Whether `replicates` runs all seeds at once, with each run equal to its solo run."""
        default = import_module("bo_suite.acquisition.default").default_acquisition
        return bool(getattr(self.acquisition or default(), "batched", False))

    def replicates(self, problem: "Problem", seeds: Sequence[int], budget: int) -> "Replicates":
        """Runs all seeds as one tensor program."""
        run = import_module("bo_suite.bench.replicates").run_replicates
        runs: Replicates = run(problem, self.acquisition, seeds, budget, self.device)
        return runs


class BoSuiteRun:
    """The run of an Optimizer, one trial at a time."""

    def __init__(self, optimizer: Any) -> None:
        self._optimizer = optimizer
        self._trial: Any = None

    def ask(self) -> Params:
        """The params of the next trial."""
        self._trial = self._optimizer.ask()
        return dict(self._trial.params)

    def tell(self, params: Params, value: float | Mapping[str, float]) -> None:
        """Ends the trial."""
        self._optimizer.tell(self._trial, value)

    def fail(self, params: Params, reason: str) -> None:
        """Ends the trial as failed; the Optimizer then avoids its point."""
        self._optimizer.fail(self._trial, reason)

    def add(self, params: Params, value: float) -> None:
        """Adds an observation that was not suggested."""
        self._optimizer.add(params, value)

    def provenance(self) -> dict[str, Any]:
        """The provenance of the last suggestion."""
        return {} if self._trial is None else dict(self._trial.provenance)


def _random_forest() -> "Classifier":
    from sklearn.ensemble import RandomForestClassifier

    from bo_suite.classifiers import SklearnClassifier

    return SklearnClassifier(RandomForestClassifier(n_estimators=50, n_jobs=1))


def _xgboost() -> "Classifier":
    from bo_suite.classifiers import SklearnClassifier

    make = import_module("xgboost").XGBClassifier
    return SklearnClassifier(make(n_estimators=100, learning_rate=0.3, n_jobs=1))


def _lightgbm() -> "Classifier":
    from bo_suite.classifiers import SklearnClassifier

    return SklearnClassifier(import_module("lightgbm").LGBMClassifier(n_jobs=1, verbose=-1))


def _network() -> "Classifier":
    from bo_suite.classifiers import MLPClassifier

    return MLPClassifier()


def _process() -> "Classifier":
    from bo_suite.classifiers import GPClassifier

    return GPClassifier(optimism=2.0)


CLASSIFIERS: dict[str, Callable[[], "Classifier"]] = {
    "rf": _random_forest,
    "xgb": _xgboost,
    "lgbm": _lightgbm,
    "mlp": _network,
    "gp": _process,
}
"""Classifiers by name; trees at the defaults of their libraries, but a forest of half the size."""


def with_acquisition(acquisition: str) -> BoSuite:
    """The method `bo_suite:ACQUISITION`."""
    make = getattr(import_module("bo_suite.acquisition"), acquisition)
    return BoSuite(make(), name=f"bo_suite:{acquisition}")


def with_classifier(kind: str, classifier: str) -> BoSuite:
    """The method `bore:CLASSIFIER` or `lfbo:CLASSIFIER`."""
    make = import_module("bo_suite.acquisition").Bore
    acquisition = make(classifier=CLASSIFIERS[classifier](), weighting=WEIGHTINGS[kind])
    return BoSuite(acquisition, name=f"{kind}:{classifier}")
