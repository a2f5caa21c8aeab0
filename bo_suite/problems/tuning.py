"""Hyperparameters of real models to tune, on data that comes with scikit-learn.

The value is a loss on held-out folds. It is a function of the parameters alone: folds, subsets and the
models' own randomness are fixed. Nothing is downloaded, and one evaluation takes some tenths of a second
on one core.

The smallest possible loss is not known. The best known one is the smallest that was seen in some thousands of
evaluations, by optimisers of several kinds and by mutations of the best point: no proven minimum. It was
measured with scikit-learn 1.9, NumPy 2.4 and SciPy 1.17 on x86-64; values depend slightly on these.
"""

import warnings
from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import numpy as np

from bo_suite.parameters import Choice, Float, Int
from bo_suite.problems.base import Problem
from bo_suite.space import Params, Space

_FOLDS = 3


@lru_cache(maxsize=8)
def _data(name: str, rows: int) -> tuple[np.ndarray, np.ndarray]:
    """Inputs and targets of a data set, the first rows in a fixed random order."""
    from sklearn import datasets

    x, y = getattr(datasets, f"load_{name}")(return_X_y=True)
    order = np.random.default_rng(0).permutation(len(x))[:rows]
    return x[order], y[order]


def _held_out_loss(model: Any, data: tuple[np.ndarray, np.ndarray], scoring: str) -> float:
    """Mean loss over the folds, of a model that sees standardised inputs; smaller is better."""
    from sklearn.model_selection import KFold, StratifiedKFold, cross_val_score
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    folds = KFold(_FOLDS) if scoring == "neg_root_mean_squared_error" else StratifiedKFold(_FOLDS)
    with warnings.catch_warnings():
        # A model that did not converge is a poor model, which its loss says; warnings would only be noise.
        warnings.simplefilter("ignore")
        with np.errstate(all="ignore"):
            scores = cross_val_score(
                make_pipeline(StandardScaler(), model), *data, cv=folds, scoring=scoring, error_score="raise"
            )
    return -float(np.mean(scores))


def _svm_digits(p: Params) -> float:
    from sklearn.svm import SVC

    model = SVC(C=p["C"], gamma=p["gamma"], kernel=p["kernel"], degree=p["degree"], coef0=p["coef0"])
    return 1.0 + _held_out_loss(model, _data("digits", 900), "accuracy")


def _svr_diabetes(p: Params) -> float:
    from sklearn.compose import TransformedTargetRegressor
    from sklearn.preprocessing import StandardScaler
    from sklearn.svm import SVR

    model = SVR(C=p["C"], gamma=p["gamma"], epsilon=p["epsilon"], max_iter=20_000)
    scaled = TransformedTargetRegressor(model, transformer=StandardScaler())
    return _held_out_loss(scaled, _data("diabetes", 442), "neg_root_mean_squared_error")


def _boosting_diabetes(p: Params) -> float:
    from sklearn.ensemble import GradientBoostingRegressor

    model = GradientBoostingRegressor(**p, random_state=0)
    return _held_out_loss(model, _data("diabetes", 442), "neg_root_mean_squared_error")


def _forest_wine(p: Params) -> float:
    from sklearn.ensemble import RandomForestClassifier

    model = RandomForestClassifier(**p, random_state=0)
    return _held_out_loss(model, _data("wine", 178), "neg_log_loss")


def _mlp_digits(p: Params) -> float:
    from sklearn.neural_network import MLPClassifier

    model = MLPClassifier(
        hidden_layer_sizes=(p["width"],) * p["depth"],  # type: ignore[operator]
        activation=p["activation"],
        alpha=p["alpha"],
        learning_rate_init=p["learning_rate"],
        batch_size=p["batch_size"],
        beta_1=p["beta_1"],
        max_iter=12,
        random_state=0,
    )
    return _held_out_loss(model, _data("digits", 450), "neg_log_loss")


def _linear_breast_cancer(p: Params) -> float:
    from sklearn.linear_model import SGDClassifier

    model = SGDClassifier(**p, loss="log_loss", penalty="elasticnet", max_iter=30, tol=None, random_state=0)
    return _held_out_loss(model, _data("breast_cancer", 569), "neg_log_loss")


@dataclass(frozen=True)
class _Tuning:
    """A model's parameters and its loss.

    Attributes:
        space: The parameters.
        loss: The loss.
        best: Smallest loss that was seen, which is no proven minimum.
        evaluations: In how many evaluations, points evaluated twice included.
        at: A point that has this loss; None where it was not kept.
    """

    space: Space
    loss: Callable[[Params], float]
    best: float
    evaluations: int
    at: Params | None = None


TUNING = {
    "svm_digits": _Tuning(
        Space(
            {
                "C": Float(1e-3, 1e3, log=True),
                "gamma": Float(1e-5, 1e1, log=True),
                "kernel": Choice(("rbf", "poly", "sigmoid")),
                "degree": Int(2, 5),
                "coef0": Float(-1.0, 1.0),
            }
        ),
        _svm_digits,
        best=0.01777777777777778,
        evaluations=5_887,
        at={
            "C": 7.291690424,
            "gamma": 0.010876766336,
            "kernel": "sigmoid",
            "degree": 5,
            "coef0": -0.88523565637,
        },
    ),
    "svr_diabetes": _Tuning(
        Space(
            {
                "C": Float(1e-3, 1e2, log=True),
                "gamma": Float(1e-5, 1e1, log=True),
                "epsilon": Float(1e-3, 1.0, log=True),
            }
        ),
        _svr_diabetes,
        best=53.226618157127085,
        evaluations=7_968,
        at={"C": 1.5328993665, "gamma": 0.022849554889, "epsilon": 0.26723339257},
    ),
    "boosting_diabetes": _Tuning(
        Space(
            {
                "learning_rate": Float(1e-3, 1.0, log=True),
                "n_estimators": Int(10, 80, log=True),
                "max_depth": Int(1, 6),
                "subsample": Float(0.2, 1.0),
                "min_samples_leaf": Int(1, 50, log=True),
                "max_features": Float(0.1, 1.0),
                "loss": Choice(("squared_error", "absolute_error", "huber")),
            }
        ),
        _boosting_diabetes,
        best=53.81397831230063,
        evaluations=5_247,
    ),
    "forest_wine": _Tuning(
        Space(
            {
                "n_estimators": Int(5, 50, log=True),
                "max_depth": Int(1, 12),
                "min_samples_leaf": Int(1, 30, log=True),
                "max_features": Float(0.05, 1.0),
                "criterion": Choice(("gini", "entropy")),
                "bootstrap": Choice((True, False)),
            }
        ),
        _forest_wine,
        best=0.0909189266208948,
        evaluations=5_556,
        at={
            "n_estimators": 28,
            "max_depth": 6,
            "min_samples_leaf": 1,
            "max_features": 0.613198170445,
            "criterion": "entropy",
            "bootstrap": False,
        },
    ),
    "mlp_digits": _Tuning(
        Space(
            {
                "learning_rate": Float(1e-4, 1e-1, log=True),
                "alpha": Float(1e-6, 1e1, log=True),
                "beta_1": Float(0.0, 0.99),
                "batch_size": Int(16, 128, log=True),
                "width": Int(4, 64, log=True),
                "depth": Int(1, 3),
                "activation": Choice(("relu", "tanh", "logistic")),
            }
        ),
        _mlp_digits,
        best=0.14785140003701072,
        evaluations=5_372,
        at={
            "learning_rate": 0.023185992366,
            "alpha": 0.0047697067323,
            "beta_1": 0.290929029121,
            "batch_size": 21,
            "width": 56,
            "depth": 1,
            "activation": "relu",
        },
    ),
    "linear_breast_cancer": _Tuning(
        Space(
            {
                "alpha": Float(1e-6, 1.0, log=True),
                "l1_ratio": Float(0.0, 1.0),
                "eta0": Float(1e-4, 1.0, log=True),
                "learning_rate": Choice(("constant", "optimal", "invscaling", "adaptive")),
                "average": Choice((True, False)),
            }
        ),
        _linear_breast_cancer,
        best=0.07449139374067057,
        evaluations=8_198,
        at={
            "alpha": 0.00044556332363,
            "l1_ratio": 1.0,
            "eta0": 0.56618311334,
            "learning_rate": "invscaling",
            "average": False,
        },
    ),
}


def tuning_problem(name: str) -> Problem:
    """The problem of tuning one of the models in TUNING."""
    model = TUNING[name]
    return Problem(name=name, space=model.space, function=model.loss, best_known=model.best)
