"""LightGBM on the breast cancer data, tuned in four libraries with the suggestions of bo_suite.

    python examples/four_doors.py --budget 40 --plot four_doors.png

Needs lightgbm and optuna; the door of Ray Tune is left out where Ray is not installed (`bo-suite[ray]`).
"""

import argparse
import math
import tempfile
import warnings
from collections.abc import Callable
from importlib.util import find_spec
from itertools import accumulate
from typing import Any

import optuna
from lightgbm import LGBMClassifier
from sklearn.datasets import load_breast_cancer
from sklearn.model_selection import StratifiedKFold, cross_val_score

from bo_suite import Float, Int, Optimizer, Space
from bo_suite.plot.style import INK, LINES, new_figure

SPACE = Space(
    {
        "learning_rate": Float(1e-3, 0.5, log=True),
        "n_estimators": Int(10, 100, log=True),
        "num_leaves": Int(2, 32, log=True),
        "min_child_samples": Int(1, 60, log=True),
        "colsample_bytree": Float(0.1, 1.0),
        "reg_lambda": Float(1e-6, 10.0, log=True),
    }
)

X, Y = load_breast_cancer(return_X_y=True)
MODEL = LGBMClassifier(n_jobs=1, random_state=0, verbose=-1)
FOLDS = StratifiedKFold(3, shuffle=True, random_state=0)


def loss(params: dict[str, Any]) -> float:
    """Log loss of the held-out folds."""
    model = LGBMClassifier(**{**MODEL.get_params(), **params})
    return -float(cross_val_score(model, X, Y, cv=FOLDS, scoring="neg_log_loss").mean())


def through_optuna(budget: int) -> list[float]:
    """One of its samplers: a study changes one line."""
    from bo_suite.integrations.optuna import BoSuiteSampler

    def objective(trial: optuna.Trial) -> float:
        return loss(
            {
                "learning_rate": trial.suggest_float("learning_rate", 1e-3, 0.5, log=True),
                "n_estimators": trial.suggest_int("n_estimators", 10, 100, log=True),
                "num_leaves": trial.suggest_int("num_leaves", 2, 32, log=True),
                "min_child_samples": trial.suggest_int("min_child_samples", 1, 60, log=True),
                "colsample_bytree": trial.suggest_float("colsample_bytree", 0.1, 1.0),
                "reg_lambda": trial.suggest_float("reg_lambda", 1e-6, 10.0, log=True),
            }
        )

    study = optuna.create_study(sampler=BoSuiteSampler(seed=0))
    study.optimize(objective, n_trials=budget)
    return [trial.values[0] for trial in study.trials]


def through_scikit_learn(budget: int) -> list[float]:
    """In the place of RandomizedSearchCV."""
    from bo_suite.integrations.sklearn import BOSearchCV

    search = BOSearchCV(
        MODEL, SPACE, n_iter=budget, cv=FOLDS, scoring="neg_log_loss", refit=False, random_state=0
    )
    search.fit(X, Y)
    return [-score for score in search.cv_results_["mean_test_score"]]


def through_ray_tune(budget: int) -> list[float]:
    """A search algorithm of its Tuner, two trials side by side."""
    import ray
    from ray import tune

    from bo_suite.integrations.ray_tune import BoSuiteSearch

    with tempfile.TemporaryDirectory() as folder:
        ray.init(num_cpus=2, include_dashboard=False, object_store_memory=10**8, log_to_driver=False)
        tuner = tune.Tuner(
            lambda config: {"loss": loss(config)},
            tune_config=tune.TuneConfig(
                search_alg=BoSuiteSearch(SPACE, metric="loss", mode="min", seed=0),
                num_samples=budget,
                max_concurrent_trials=2,
                reuse_actors=True,
            ),
            run_config=tune.RunConfig(storage_path=folder, verbose=0),
        )
        try:
            results = tuner.fit()
            return [result.metrics["loss"] for result in results]
        finally:
            ray.shutdown()


def through_botorch(budget: int) -> list[float]:
    """The other way round: an acquisition of BoTorch, on a model of bo_suite, in its loop."""
    from botorch.acquisition import qLogNoisyExpectedImprovement

    from bo_suite.integrations.botorch import BoTorchAcquisition

    acquisition = BoTorchAcquisition(
        lambda model, seen: qLogNoisyExpectedImprovement(model, seen.X, sampler=seen.sampler(64))
    )
    optimizer = Optimizer(SPACE, acquisition=acquisition, seed=0)
    for _ in range(budget):
        trial = optimizer.ask()
        optimizer.tell(trial, loss(trial.params))
    return [trial.value if trial.value is not None else math.nan for trial in optimizer.trials]


DOORS: dict[str, Callable[[int], list[float]]] = {
    "Optuna": through_optuna,
    "scikit-learn": through_scikit_learn,
    "Ray Tune": through_ray_tune,
    "BoTorch": through_botorch,
}


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--budget", type=int, default=40, help="evaluations through each door")
    parser.add_argument("--plot", default="four_doors.png", help="where the picture goes")
    given = parser.parse_args()
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    default = loss({})
    figure, ((axes,),) = new_figure(width=7.0)
    print(f"{'defaults of LightGBM':>22}: {default:.4f}")
    for (name, door), style in zip(DOORS.items(), LINES, strict=False):
        if name == "Ray Tune" and find_spec("ray") is None:
            print(f"{name:>22}: left out, since Ray is not installed")
            continue
        found = list(accumulate(door(given.budget), min))
        axes.step(
            range(1, len(found) + 1),
            found,
            where="post",
            color=style.color,
            linestyle=style.dashes,
            label=name,
            linewidth=1.8,
        )
        print(f"{name:>22}: {found[-1]:.4f} after {len(found)} evaluations")
    axes.axhline(default, color=INK, linewidth=1, label="LightGBM's defaults")
    ticks = [0.07, 0.1, 0.15, 0.2, 0.3]
    axes.set_yscale("log")
    axes.set_yticks(ticks, [str(tick) for tick in ticks])
    axes.set_yticks([], minor=True)
    axes.set(
        xlabel="evaluations", ylabel="lowest cross-validated log loss", title="LightGBM on breast cancer"
    )
    axes.legend(frameon=False)
    figure.savefig(given.plot, dpi=150)
    print(f"the picture is in {given.plot}")


if __name__ == "__main__":
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "X does not have valid feature names")
        main()
