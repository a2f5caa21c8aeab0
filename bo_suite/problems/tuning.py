"""Problems of tuning the hyperparameters of real models, on data that comes with scikit-learn.

The value is a loss on held-out folds. It is a function of the parameters alone: folds, subsets and the
randomness of the models are fixed. Nothing is downloaded. One evaluation takes about a tenth of a second on
one core. A problem also gives what a search over cross-validation needs: model, data, folds and scoring.

The minimum is unknown. The best known loss is the smallest in some thousands of evaluations, by optimisers of
several kinds and by mutations of the best point; it is not a proven minimum. It was measured with
scikit-learn 1.9, NumPy 2.4 and SciPy 1.17 on x86-64; values depend slightly on these versions.
"""

import warnings
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Any

import numpy as np

from bo_suite.problems.base import Problem
from bo_suite.space.parameters import Choice, Float, Int
from bo_suite.space.space import Params, Space

_FOLDS = 3
"""Folds of cross-validation: few, so that an evaluation takes a tenth of a second."""

RMSE = "neg_root_mean_squared_error"
"""The score of regressions."""


@lru_cache(maxsize=8)
def _data(name: str, rows: int) -> tuple[np.ndarray, np.ndarray]:
    """Inputs and targets of a data set: the first rows of a fixed random order."""
    from sklearn import datasets

    x, y = getattr(datasets, f"load_{name}")(return_X_y=True)
    order = np.random.default_rng(0).permutation(len(x))[:rows]
    return x[order], y[order]


@dataclass(frozen=True)
class Tuning:
    """A model and its data; calling it with a point computes the loss on held-out folds.

    loss = c - mean of the score over the folds; c = 0 if the score is a negated loss, otherwise 1.

    Attributes:
        space: The parameters.
        estimator: Makes the unfitted model of a point, with standardised inputs.
        source: The data set: NAME of scikit-learn's `load_NAME`.
        rows: Number of its rows that are used.
        scoring: Name of the score in scikit-learn.
        best: Smallest loss seen so far, which is not a proven minimum.
        evaluations: Number of evaluations in which it was the smallest, with repeats of points.
        at: A point with this loss; None if it was not recorded.
        constant: Loss of a constant prediction, which a model has that cannot be fitted; None if all can be.
    """

    space: Space
    estimator: Callable[[Params], Any]
    source: str
    rows: int
    scoring: str
    best: float
    evaluations: int
    at: Params | None = field(default=None, hash=False)
    constant: float | None = None

    def data(self) -> tuple[np.ndarray, np.ndarray]:
        """Inputs and targets."""
        return _data(self.source, self.rows)

    def folds(self) -> Any:
        """The splitter of the rows, which is not random: stratified for classifiers."""
        from sklearn.model_selection import KFold, StratifiedKFold

        return KFold(_FOLDS) if self.scoring == RMSE else StratifiedKFold(_FOLDS)

    def loss(self, score: float) -> float:
        """The loss of a mean score over the folds, smaller is better."""
        return (0.0 if self.scoring.startswith("neg_") else 1.0) - score

    def __call__(self, params: Params) -> float:
        """The loss of a point."""
        from sklearn.model_selection import cross_val_score

        with warnings.catch_warnings():
            # A model that does not converge has a large loss; its warnings add nothing.
            warnings.simplefilter("ignore")
            try:
                with np.errstate(all="ignore"):
                    scores = cross_val_score(
                        self.estimator(params),
                        *self.data(),
                        cv=self.folds(),
                        scoring=self.scoring,
                        error_score="raise",
                    )
            except ValueError:
                if self.constant is None:
                    raise
                return self.constant
        return self.loss(float(np.mean(scores)))


def scaled(model: Any) -> Any:
    """The model with standardised inputs."""
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    return make_pipeline(StandardScaler(), model)


def _svm_digits(p: Params) -> Any:
    from sklearn.svm import SVC

    return scaled(SVC(**p))


def _svm_breast_cancer(p: Params) -> Any:
    from sklearn.svm import SVC

    return scaled(SVC(**p, max_iter=20_000))


def _svr_diabetes(p: Params) -> Any:
    from sklearn.compose import TransformedTargetRegressor
    from sklearn.preprocessing import StandardScaler
    from sklearn.svm import SVR

    model = SVR(C=p["C"], gamma=p["gamma"], epsilon=p["epsilon"], max_iter=20_000)
    return scaled(TransformedTargetRegressor(model, transformer=StandardScaler()))


def _boosting_diabetes(p: Params) -> Any:
    from sklearn.ensemble import GradientBoostingRegressor

    return scaled(GradientBoostingRegressor(**p, random_state=0))


def _boosting_breast_cancer(p: Params) -> Any:
    from sklearn.ensemble import HistGradientBoostingClassifier

    return scaled(HistGradientBoostingClassifier(**p, early_stopping=False, random_state=0))


def _forest_wine(p: Params) -> Any:
    from sklearn.ensemble import RandomForestClassifier

    return scaled(RandomForestClassifier(**p, random_state=0))


def _mlp_digits(p: Params) -> Any:
    from sklearn.neural_network import MLPClassifier

    return scaled(
        MLPClassifier(
            hidden_layer_sizes=(p["width"],) * p["depth"],
            activation=p["activation"],
            alpha=p["alpha"],
            learning_rate_init=p["learning_rate"],
            batch_size=p["batch_size"],
            beta_1=p["beta_1"],
            max_iter=12,
            random_state=0,
        )
    )


def _linear_breast_cancer(p: Params) -> Any:
    from sklearn.linear_model import SGDClassifier

    return scaled(
        SGDClassifier(**p, loss="log_loss", penalty="elasticnet", max_iter=30, tol=None, random_state=0)
    )


TUNING = {
    "svm_digits": Tuning(
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
        "digits",
        900,
        "accuracy",
        best=0.01777777777777778,
        evaluations=9_837,
        at={
            "C": 7.291690424,
            "gamma": 0.010876766336,
            "kernel": "sigmoid",
            "degree": 5,
            "coef0": -0.88523565637,
        },
    ),
    "svr_diabetes": Tuning(
        Space(
            {
                "C": Float(1e-3, 1e2, log=True),
                "gamma": Float(1e-5, 1e1, log=True),
                "epsilon": Float(1e-3, 1.0, log=True),
            }
        ),
        _svr_diabetes,
        "diabetes",
        442,
        RMSE,
        best=53.226618157127085,
        evaluations=11_868,
        at={"C": 1.5328993665, "gamma": 0.022849554889, "epsilon": 0.26723339257},
    ),
    "boosting_diabetes": Tuning(
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
        "diabetes",
        442,
        RMSE,
        best=53.81397831230063,
        evaluations=9_147,
    ),
    "forest_wine": Tuning(
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
        "wine",
        178,
        "neg_log_loss",
        best=0.0909189266208948,
        evaluations=9_456,
        at={
            "n_estimators": 28,
            "max_depth": 6,
            "min_samples_leaf": 1,
            "max_features": 0.613198170445,
            "criterion": "entropy",
            "bootstrap": False,
        },
    ),
    "mlp_digits": Tuning(
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
        "digits",
        450,
        "neg_log_loss",
        best=0.1477667242359718,
        evaluations=9_222,
        at={
            "learning_rate": 0.027358194775,
            "alpha": 0.0065121999251,
            "beta_1": 0.227471747715,
            "batch_size": 26,
            "width": 64,
            "depth": 1,
            "activation": "relu",
        },
    ),
    "linear_breast_cancer": Tuning(
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
        "breast_cancer",
        569,
        "neg_log_loss",
        best=0.07449139374067057,
        evaluations=11_998,
        at={
            "alpha": 0.00044556332363,
            "l1_ratio": 1.0,
            "eta0": 0.56618311334,
            "learning_rate": "invscaling",
            "average": False,
        },
    ),
    "svm_breast_cancer": Tuning(
        Space(
            {
                "C": Float(1e-3, 1e3, log=True),
                "gamma": Float(1e-5, 1e1, log=True),
                "kernel": Choice(("rbf", "poly", "sigmoid")),
                "degree": Int(2, 5),
                "coef0": Float(-1.0, 1.0),
                "class_weight": Choice((None, "balanced")),
            }
        ),
        _svm_breast_cancer,
        "breast_cancer",
        569,
        "roc_auc",
        best=0.0026466924798088654,
        evaluations=7_500,
        at={
            "C": 0.76557916395,
            "gamma": 0.026772084195,
            "kernel": "poly",
            "degree": 3,
            "coef0": 0.93001179699,
            "class_weight": None,
        },
    ),
    "boosting_breast_cancer": Tuning(
        Space(
            {
                "learning_rate": Float(1e-3, 1.0, log=True),
                "max_iter": Int(10, 60, log=True),
                "max_leaf_nodes": Int(2, 31, log=True),
                "min_samples_leaf": Int(1, 60, log=True),
                "l2_regularization": Float(1e-6, 1e2, log=True),
                "max_features": Float(0.05, 1.0),
                "max_bins": Int(4, 64, log=True),
            }
        ),
        _boosting_breast_cancer,
        "breast_cancer",
        569,
        "neg_log_loss",
        best=0.07582626000043985,
        evaluations=6_700,
        at={
            "learning_rate": 0.24751968692,
            "max_iter": 37,
            "max_leaf_nodes": 10,
            "min_samples_leaf": 37,
            "l2_regularization": 3.9083695559e-05,
            "max_features": 0.102809828008,
            "max_bins": 16,
        },
    ),
}


def tuning_problem(name: str, model: Tuning) -> Problem:
    """The problem of tuning a model."""
    return Problem(name=name, space=model.space, function=model, best_known=model.best)
