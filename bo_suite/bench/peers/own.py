"""bo_suite's own Optimizer as a method, with any acquisition."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from importlib import import_module
from typing import TYPE_CHECKING, Any

from bo_suite.bench.method import Task
from bo_suite.space.space import Params

if TYPE_CHECKING:  # libraries that run in a process of their own need not bring what acquisitions import
    from bo_suite.acquisition import Acquisition
    from bo_suite.bench.replicates import Replicates
    from bo_suite.classifiers import Classifier
    from bo_suite.problems import Problem

ACQUISITIONS = (
    "Bore",
    "KnowledgeGradient",
    "LogExpectedImprovement",
    "NoisyExpectedImprovement",
    "ThompsonSampling",
    "UpperConfidenceBound",
)
"""What `bo_suite:ACQUISITION` may name, each at its defaults."""

WEIGHTINGS = {"bore": "probability", "lfbo": "improvement"}
"""Weighting of `Bore` by the kind of method."""


@dataclass(frozen=True)
class BoSuite:
    """bo_suite's Optimizer.

    Attributes:
        acquisition: how to choose; None is the Optimizer's default.
        name: what records call it.
        device: where surrogates live ("cpu", "cuda").
    """

    acquisition: "Acquisition | None" = None
    name: str = "bo_suite"
    device: str = "cpu"

    def start(self, task: Task) -> "BoSuiteRun":
        """An Optimizer with the task's space, seed and budget."""
        make = import_module("bo_suite.study.optimizer").Optimizer
        optimizer = make(
            task.space,
            acquisition=self.acquisition,
            seed=task.seed,
            budget=task.budget,
            device=self.device,
        )
        return BoSuiteRun(optimizer)

    @property
    def lockstep(self) -> bool:
        """Whether `replicates` takes all seeds at once, and gives each the run that it would have alone."""
        default = import_module("bo_suite.acquisition.default").default_acquisition
        return bool(getattr(self.acquisition or default(), "batched", False))

    def replicates(self, problem: "Problem", seeds: Sequence[int], budget: int) -> "Replicates":
        """The runs of all seeds, as one tensor program."""
        run = import_module("bo_suite.bench.replicates").run_replicates
        runs: Replicates = run(problem, self.acquisition, seeds, budget, self.device)
        return runs


class BoSuiteRun:
    """An Optimizer at work, one trial at a time."""

    def __init__(self, optimizer: Any) -> None:
        self._optimizer = optimizer
        self._trial: Any = None

    def ask(self) -> Params:
        """The params of the next trial."""
        self._trial = self._optimizer.ask()
        return dict(self._trial.params)

    def tell(self, params: Params, value: float) -> None:
        """Ends the trial."""
        self._optimizer.tell(self._trial, value)

    def fail(self, params: Params, reason: str) -> None:
        """Ends the trial without a value; the Optimizer stays away from its point."""
        self._optimizer.fail(self._trial, reason)

    def add(self, params: Params, value: float) -> None:
        """Takes an observation that was not asked for."""
        self._optimizer.add(params, value)

    def provenance(self) -> dict[str, Any]:
        """What the last suggestion came from."""
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
"""What estimates the density ratio, by name; trees as their libraries set them, half as many in a forest."""


def with_acquisition(acquisition: str) -> BoSuite:
    """The method `bo_suite:ACQUISITION`."""
    make = getattr(import_module("bo_suite.acquisition"), acquisition)
    return BoSuite(make(), name=f"bo_suite:{acquisition}")


def with_classifier(kind: str, classifier: str) -> BoSuite:
    """The method `bore:CLASSIFIER` or `lfbo:CLASSIFIER`, which weights positives by their improvement."""
    make = import_module("bo_suite.acquisition").Bore
    acquisition = make(classifier=CLASSIFIERS[classifier](), weighting=WEIGHTINGS[kind])
    return BoSuite(acquisition, name=f"{kind}:{classifier}")
