"""Other libraries' optimisers behind one interface: built from a task, `ask()`, `tell(params, value)`.

Each runs at its shipped defaults, or, where a library ships parts and no loop, as its documentation puts
them together. Libraries are imported where they are used, so that one missing costs only its own runs.
"""

import logging
import tempfile
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import torch

from bo_suite.parameters import Choice, Float, Int
from bo_suite.space import Params, Space


@dataclass(frozen=True)
class Task:
    """What an optimiser is told: where to search, how often, and whether observations are noisy."""

    space: Space
    seed: int
    budget: int
    noisy: bool


class Peer(Protocol):
    """An optimiser under test."""

    def ask(self) -> Params: ...

    def tell(self, params: Params, value: float) -> None: ...

    def add(self, params: Params, value: float) -> None:
        """Takes an observation that was not asked for."""


class Random:
    """Independent uniform draws."""

    def __init__(self, task: Task) -> None:
        self._space = task.space
        self._generator = np.random.default_rng(task.seed)

    def ask(self) -> Params:
        row = torch.from_numpy(self._generator.random((1, self._space.dim)))
        return self._space.decode(self._space.spread(row))[0]

    def tell(self, params: Params, value: float) -> None:
        pass

    def add(self, params: Params, value: float) -> None:
        pass


class BoTorch:
    """The loop of BoTorch's own tutorials, on the unit cube.

    Sobol points first (2 a dimension, 10 at most), then a SingleTaskGP with Normalize and Standardize,
    fitted by fit_gpytorch_mll, and LogExpectedImprovement (qLogNoisyExpectedImprovement where
    observations are noisy) by optimize_acqf with 10 restarts and 512 raw samples. Discrete columns are
    relaxed and rounded, unordered ones are one-hot.
    """

    def __init__(self, task: Task) -> None:
        from botorch.utils.sampling import draw_sobol_samples

        torch.manual_seed(task.seed)
        self._task = task
        self._widths = [
            parameter.levels if isinstance(parameter, Choice) and not parameter.ordered else 1
            for _, parameter in task.space
        ]
        self._dim = sum(self._widths)
        self._bounds = torch.tensor([[0.0] * self._dim, [1.0] * self._dim], dtype=torch.float64)
        count = min(2 * task.space.dim, 10)
        unit = torch.tensor([[0.0] * task.space.dim, [1.0] * task.space.dim], dtype=torch.float64)
        sobol = draw_sobol_samples(unit, n=count, q=1, seed=task.seed).squeeze(1)
        self._initial = task.space.decode(task.space.spread(sobol))
        self._rows: list[torch.Tensor] = []
        self._values: list[float] = []

    def _encode(self, params: Params) -> torch.Tensor:
        row = self._task.space.encode([params])[0]
        columns = []
        for unit, width, (name, parameter) in zip(row, self._widths, self._task.space, strict=True):
            if isinstance(parameter, Choice) and not parameter.ordered:
                columns.append(torch.eye(width, dtype=row.dtype)[parameter.options.index(params[name])])
            else:
                columns.append(unit.reshape(1))
        return torch.cat(columns)

    def _decode(self, row: torch.Tensor) -> Params:
        params: Params = {}
        for part, (name, parameter) in zip(row.split(self._widths), self._task.space, strict=True):
            if isinstance(parameter, Choice) and not parameter.ordered:
                params[name] = parameter.options[int(part.argmax())]
            else:
                params[name] = parameter.decode(float(part))
        return params

    def ask(self) -> Params:
        if len(self._values) < len(self._initial):
            return self._initial[len(self._values)]
        from botorch.acquisition import LogExpectedImprovement
        from botorch.acquisition.logei import qLogNoisyExpectedImprovement
        from botorch.fit import fit_gpytorch_mll
        from botorch.models import SingleTaskGP
        from botorch.models.transforms import Normalize, Standardize
        from botorch.optim import optimize_acqf
        from gpytorch.mlls import ExactMarginalLogLikelihood

        x = torch.stack(self._rows)
        y = -torch.tensor(self._values, dtype=torch.float64).unsqueeze(-1)
        model = SingleTaskGP(x, y, input_transform=Normalize(self._dim), outcome_transform=Standardize(m=1))
        fit_gpytorch_mll(ExactMarginalLogLikelihood(model.likelihood, model))
        acquisition: Any
        if self._task.noisy:
            acquisition = qLogNoisyExpectedImprovement(model, X_baseline=x)
        else:
            acquisition = LogExpectedImprovement(model, best_f=y.max())
        candidate, _ = optimize_acqf(acquisition, self._bounds, q=1, num_restarts=10, raw_samples=512)
        return self._decode(candidate[0])

    def tell(self, params: Params, value: float) -> None:
        self._rows.append(self._encode(params))
        self._values.append(value)

    def add(self, params: Params, value: float) -> None:
        self.tell(params, value)


class Optuna:
    """An Optuna study with one of its samplers; ordered choices are an index, for it has no such kind."""

    def __init__(self, task: Task, sampler: str) -> None:
        import optuna
        from optuna.distributions import CategoricalDistribution, FloatDistribution, IntDistribution

        optuna.logging.set_verbosity(optuna.logging.ERROR)
        self._space = task.space
        self._study = optuna.create_study(sampler=getattr(optuna.samplers, sampler)(seed=task.seed))
        self._distributions: dict[str, Any] = {}
        for name, parameter in task.space:
            if isinstance(parameter, Float):
                self._distributions[name] = FloatDistribution(
                    parameter.low, parameter.high, log=parameter.log
                )
            elif isinstance(parameter, Int):
                self._distributions[name] = IntDistribution(parameter.low, parameter.high, log=parameter.log)
            elif parameter.ordered:
                self._distributions[name] = IntDistribution(0, parameter.levels - 1)
            else:
                self._distributions[name] = CategoricalDistribution(parameter.options)
        self._trial: Any = None

    def ask(self) -> Params:
        self._trial = self._study.ask(self._distributions)
        params = dict(self._trial.params)
        for name, parameter in self._space:
            if isinstance(parameter, Choice) and parameter.ordered:
                params[name] = parameter.options[params[name]]
        return params

    def tell(self, params: Params, value: float) -> None:
        self._study.tell(self._trial, value)

    def add(self, params: Params, value: float) -> None:
        from optuna.trial import create_trial

        for name, parameter in self._space:
            if isinstance(parameter, Choice) and parameter.ordered:
                params = {**params, name: parameter.options.index(params[name])}
        self._study.add_trial(create_trial(params=params, distributions=self._distributions, value=value))


class Ax:
    """Ax's Client, nothing configured but the space, the objective and the seed."""

    def __init__(self, task: Task) -> None:
        from ax.api.client import Client
        from ax.api.configs import ChoiceParameterConfig, RangeParameterConfig

        for name in [name for name in logging.root.manager.loggerDict if name.split(".")[0] == "ax"]:
            logging.getLogger(name).setLevel(logging.ERROR)  # each of them has a level of its own
        kinds = {str: "str", bool: "bool", int: "int", float: "float"}
        configs: list[Any] = []
        for name, parameter in task.space:
            if isinstance(parameter, Choice):
                kind = kinds[type(parameter.options[0])]
                configs.append(
                    ChoiceParameterConfig(
                        name=name,
                        values=list(parameter.options),  # type: ignore[arg-type]
                        parameter_type=kind,  # type: ignore[arg-type]
                        is_ordered=parameter.ordered,
                    )
                )
            else:
                configs.append(
                    RangeParameterConfig(
                        name=name,
                        bounds=(parameter.low, parameter.high),
                        parameter_type="float" if isinstance(parameter, Float) else "int",
                        scaling="log" if parameter.log else "linear",
                    )
                )
        self._client = Client(random_seed=task.seed)
        self._client.configure_experiment(parameters=configs)
        self._client.configure_optimization(objective="-loss")
        self._index = -1

    def ask(self) -> Params:
        ((self._index, params),) = self._client.get_next_trials(max_trials=1).items()
        return dict(params)

    def tell(self, params: Params, value: float) -> None:
        self._client.complete_trial(self._index, raw_data={"loss": value})

    def add(self, params: Params, value: float) -> None:
        index = self._client.attach_trial(params)  # type: ignore[arg-type]
        self._client.complete_trial(index, raw_data={"loss": value})


class Smac:
    """SMAC3's HyperparameterOptimizationFacade: a random forest of log costs, and expected improvement.

    Of a deterministic function, and told of the budget, which sizes its Sobol design. Ordered choices are
    ordinals.
    """

    def __init__(self, task: Task) -> None:
        space, facade, scenario, self._runhistory = map(
            import_module, ("ConfigSpace", "smac.facade", "smac.scenario", "smac.runhistory")
        )
        self._space = task.space
        self._configspace = space.ConfigurationSpace(seed=task.seed)
        for name, parameter in task.space:
            if isinstance(parameter, Choice):
                kind = space.OrdinalHyperparameter if parameter.ordered else space.CategoricalHyperparameter
                self._configspace.add(kind(name, list(parameter.options)))
            else:
                number = space.Float if isinstance(parameter, Float) else space.Integer
                bounds = (parameter.low, parameter.high)
                self._configspace.add(number(name, bounds, log=parameter.log))
        logging.getLogger("smac").setLevel(logging.ERROR)
        self._folder = tempfile.TemporaryDirectory(prefix="smac")
        described = scenario.Scenario(
            self._configspace,
            deterministic=not task.noisy,
            n_trials=task.budget,
            seed=task.seed,
            output_directory=Path(self._folder.name),
        )
        self._smac = facade.HyperparameterOptimizationFacade(
            described,
            lambda config, seed=0: 0.0,  # never called; versions before 2.4 insist on one
            logging_level=False,
        )
        self._info: Any = None

    def ask(self) -> Params:
        self._info = self._smac.ask()
        return self._space.check(dict(self._info.config))

    def tell(self, params: Params, value: float) -> None:
        self._smac.tell(self._info, self._runhistory.TrialValue(cost=value), save=False)

    def add(self, params: Params, value: float) -> None:
        config = import_module("ConfigSpace").Configuration(self._configspace, values=dict(params))
        info = self._runhistory.TrialInfo(config, seed=0)
        self._smac.tell(info, self._runhistory.TrialValue(cost=value), save=False)


class SyneTuneBore:
    """Syne Tune's BORE, one trial at a time: gradient boosting, and the best of 500 uniform draws."""

    def __init__(self, task: Task) -> None:
        spaces = import_module("syne_tune.config_space")
        baselines = import_module("syne_tune.optimizer.baselines")
        ask_tell = import_module("syne_tune.optimizer.schedulers.ask_tell_scheduler")
        np.random.seed(task.seed)  # noqa: NPY002 (its uniform draws are from this generator)
        config: dict[str, Any] = {}
        for name, parameter in task.space:
            if isinstance(parameter, Choice):
                kind = spaces.ordinal if parameter.ordered else spaces.choice
                config[name] = kind(list(parameter.options))
            else:
                number = "uniform" if isinstance(parameter, Float) else "randint"
                number = f"log{number}" if parameter.log else number
                config[name] = getattr(spaces, number)(parameter.low, parameter.high)
        self._loop = ask_tell.AskTellScheduler(baselines.BORE(config, "loss", random_seed=task.seed))
        self._trial: Any = None

    def ask(self) -> Params:
        self._trial = self._loop.ask()
        return dict(self._trial.config)

    def tell(self, params: Params, value: float) -> None:
        self._loop.tell(self._trial, {"loss": value})

    def add(self, params: Params, value: float) -> None:
        self._loop.base_scheduler.searcher.on_trial_complete(-1, dict(params), value)


class BoSuite:
    """bo_suite's Optimizer, with an acquisition or its default."""

    def __init__(self, task: Task, acquisition: Any = None, storage: Path | None = None) -> None:
        import bo_suite

        self._optimizer = bo_suite.Optimizer(
            task.space, acquisition=acquisition, seed=task.seed, budget=task.budget, storage=storage
        )
        self._trial: Any = None

    def ask(self) -> Params:
        self._trial = self._optimizer.ask()
        return dict(self._trial.params)

    def tell(self, params: Params, value: float) -> None:
        self._optimizer.tell(self._trial, value)

    def add(self, params: Params, value: float) -> None:
        self._optimizer.add(params, value)

    def provenance(self) -> dict[str, Any]:
        """What the last suggestion came from."""
        return dict(self._trial.provenance)


def _random_forest() -> Any:
    from sklearn.ensemble import RandomForestClassifier

    return import_module("bo_suite.classifiers").SklearnClassifier(
        RandomForestClassifier(n_estimators=50, n_jobs=1)
    )


def _xgboost() -> Any:
    estimator = import_module("xgboost").XGBClassifier(n_estimators=100, learning_rate=0.3, n_jobs=1)
    return import_module("bo_suite.classifiers").SklearnClassifier(estimator)


def _lightgbm() -> Any:
    estimator = import_module("lightgbm").LGBMClassifier(n_jobs=1, verbose=-1)
    return import_module("bo_suite.classifiers").SklearnClassifier(estimator)


CLASSIFIERS: dict[str, Callable[[], Any]] = {
    "rf": _random_forest,
    "xgb": _xgboost,
    "lgbm": _lightgbm,
    "mlp": lambda: import_module("bo_suite.classifiers").MLPClassifier(),
    "gp": lambda: import_module("bo_suite.classifiers").GPClassifier(optimism=2.0),
}
"""What estimates the density ratio, by name; trees as their libraries set them, half as many in a forest."""

WEIGHTINGS = {"bore": "probability", "lfbo": "improvement"}


def _acquisition(kind: str, name: str) -> Any:
    """The acquisition of `bo_suite:ACQUISITION`, `bore:CLASSIFIER` or `lfbo:CLASSIFIER`."""
    acquisitions = import_module("bo_suite.acquisition")
    if kind == "bo_suite":
        return getattr(acquisitions, name)()
    if name not in CLASSIFIERS:
        raise SystemExit(f"a classifier must be one of {[*CLASSIFIERS]}, got {name!r}")
    return acquisitions.Bore(classifier=CLASSIFIERS[name](), weighting=WEIGHTINGS[kind])


def make_peer(method: str, task: Task, storage: Path | None = None) -> Peer:
    """The optimiser of a name; `bo_suite:KnowledgeGradient` is bo_suite with that acquisition.

    bo_suite, by any of its names, keeps its history in `storage` where that is given.
    """
    warnings.simplefilter("ignore")
    makers: dict[str, Callable[[], Peer]] = {
        "random": lambda: Random(task),
        "botorch": lambda: BoTorch(task),
        "optuna_gp": lambda: Optuna(task, "GPSampler"),
        "tpe": lambda: Optuna(task, "TPESampler"),
        "ax": lambda: Ax(task),
        "smac": lambda: Smac(task),
        "syne_tune_bore": lambda: SyneTuneBore(task),
        "bo_suite": lambda: BoSuite(task, None, storage),
    }
    kind, colon, name = method.partition(":")
    if colon and kind in ("bo_suite", *WEIGHTINGS):
        return BoSuite(task, _acquisition(kind, name), storage)
    if method not in makers:
        known = [*makers, "bo_suite:ACQUISITION", *(f"{kind}:CLASSIFIER" for kind in WEIGHTINGS)]
        raise SystemExit(f"a method must be one of {known}, got {method!r}")
    return makers[method]()
