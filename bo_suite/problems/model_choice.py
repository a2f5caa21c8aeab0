"""Problems of choosing a model of scikit-learn together with its parameters, on data that comes with it.

The space is conditional and three levels deep: the model decides which parameters there are, and these decide
about others, such as the degree of a polynomial kernel, the momentum of a solver or the number of leaves of
trees that grow leaf by leaf. Values are losses on held-out folds, as in `tuning`: functions of the parameters
alone. A model that cannot be fitted, as when a network diverges, has the loss of a constant prediction.
"""

from typing import Any

from bo_suite.problems.tuning import RMSE, Tuning, scaled
from bo_suite.space.parameters import Choice, Float, Int
from bo_suite.space.space import Params, Space

_CLASSIFICATION = {
    "penalty": Choice(("l2", "l1", "elasticnet"), when={"model": "linear"}),
    "schedule": Choice(("optimal", "constant", "invscaling"), when={"model": "linear"}),
    "eta0": Float(1e-3, 1.0, log=True, when={"schedule": ["constant", "invscaling"]}),
}
"""Parameters of linear classifiers, fitted by stochastic gradients."""

_REGRESSION = {
    "penalty": Choice(("l2", "l1", "elasticnet"), when={"model": "linear"}),
    "positive": Choice((False, True), when={"penalty": ["l1", "elasticnet"]}),
    "epsilon": Float(1e-3, 1.0, log=True, when={"model": "svm"}),
}
"""Parameters of linear regressions, fitted exactly, and of support vectors."""


def _space(**others: Any) -> Space:
    """The parameters of all models; `others` are those of one kind of task."""
    return Space(
        {
            "model": Choice(("svm", "forest", "boosting", "mlp", "neighbours", "linear")),
            "C": Float(1e-3, 1e3, log=True, when={"model": "svm"}),
            "kernel": Choice(("rbf", "poly", "sigmoid", "linear"), when={"model": "svm"}),
            "gamma": Float(1e-5, 1e1, log=True, when={"kernel": ["rbf", "poly", "sigmoid"]}),
            "degree": Int(2, 5, when={"kernel": "poly"}),
            "coef0": Float(-1.0, 1.0, when={"kernel": ["poly", "sigmoid"]}),
            "trees": Int(5, 40, log=True, when={"model": "forest"}),
            "max_features": Float(0.05, 1.0, when={"model": "forest"}),
            "min_samples_leaf": Int(1, 30, log=True, when={"model": "forest"}),
            "bootstrap": Choice((True, False), when={"model": "forest"}),
            "max_samples": Float(0.2, 1.0, when={"bootstrap": True}),
            "shrinkage": Float(1e-2, 1.0, log=True, when={"model": "boosting"}),
            "rounds": Int(5, 25, log=True, when={"model": "boosting"}),
            "l2": Float(1e-6, 1e2, log=True, when={"model": "boosting"}),
            "growth": Choice(("by depth", "by leaves"), when={"model": "boosting"}),
            "depth": Int(1, 5, when={"growth": "by depth"}),
            "leaves": Int(2, 24, log=True, when={"growth": "by leaves"}),
            "width": Int(4, 48, log=True, when={"model": "mlp"}),
            "layers": Int(1, 2, when={"model": "mlp"}),
            "activation": Choice(("relu", "tanh", "logistic"), when={"model": "mlp"}),
            "decay": Float(1e-6, 1e1, log=True, when={"model": "mlp"}),
            "solver": Choice(("adam", "sgd", "lbfgs"), when={"model": "mlp"}),
            "learning_rate_init": Float(1e-4, 1e-1, log=True, when={"solver": ["adam", "sgd"]}),
            "batch_size": Int(16, 128, log=True, when={"solver": ["adam", "sgd"]}),
            "momentum": Float(0.0, 0.99, when={"solver": "sgd"}),
            "beta_1": Float(0.0, 0.99, when={"solver": "adam"}),
            "neighbours": Int(1, 50, log=True, when={"model": "neighbours"}),
            "weights": Choice(("uniform", "distance"), when={"model": "neighbours"}),
            "metric": Choice(("minkowski", "cosine", "canberra"), when={"model": "neighbours"}),
            "power": Float(1.0, 4.0, when={"metric": "minkowski"}),
            "alpha": Float(1e-6, 1e1, log=True, when={"model": "linear"}),
            **others,
            "l1_ratio": Float(0.0, 1.0, when={"penalty": "elasticnet"}),
        }
    )


def _forest(p: Params) -> Params:
    """Arguments of a random forest."""
    names = ("max_features", "min_samples_leaf", "bootstrap")
    drawn = p["max_samples"] if p["bootstrap"] else None
    return {name: p[name] for name in names} | {
        "n_estimators": p["trees"],
        "max_samples": drawn,
        "random_state": 0,
    }


def _boosting(p: Params) -> Params:
    """Arguments of gradient boosting on histograms."""
    return {
        "learning_rate": p["shrinkage"],
        "max_iter": p["rounds"],
        "l2_regularization": p["l2"],
        "max_depth": p.get("depth"),
        "max_leaf_nodes": p.get("leaves"),
        "max_bins": 32,
        "early_stopping": False,
        "random_state": 0,
    }


def _mlp(p: Params) -> Params:
    """Arguments of a network. Its solver has 15 epochs, or 40 steps if it sees all rows at once."""
    names = ("activation", "solver", "learning_rate_init", "batch_size", "momentum", "beta_1")
    return {name: p[name] for name in names if name in p} | {
        "hidden_layer_sizes": (p["width"],) * p["layers"],
        "alpha": p["decay"],
        "max_iter": 40 if p["solver"] == "lbfgs" else 15,
        "random_state": 0,
    }


def _neighbours(p: Params) -> Params:
    """Arguments of nearest neighbours."""
    return {
        "n_neighbors": p["neighbours"],
        "weights": p["weights"],
        "metric": p["metric"],
        "p": p.get("power", 2.0),
    }


def _svm(p: Params) -> Params:
    """Arguments of a support vector machine."""
    names = ("C", "kernel", "gamma", "degree", "coef0", "epsilon")
    return {name: p[name] for name in names if name in p} | {"max_iter": 20_000}


def _classifier(p: Params, *, calibrated: bool = False) -> Any:
    """The unfitted classifier of a point; `calibrated` support vectors have probabilities."""
    from sklearn.calibration import CalibratedClassifierCV
    from sklearn.ensemble import HistGradientBoostingClassifier, RandomForestClassifier
    from sklearn.linear_model import SGDClassifier
    from sklearn.neighbors import KNeighborsClassifier
    from sklearn.neural_network import MLPClassifier
    from sklearn.svm import SVC

    match p["model"]:
        case "svm":
            svm = SVC(**_svm(p))
            model = CalibratedClassifierCV(svm, cv=3, ensemble=False) if calibrated else svm
        case "forest":
            model = RandomForestClassifier(**_forest(p))
        case "boosting":
            model = HistGradientBoostingClassifier(**_boosting(p))
        case "mlp":
            model = MLPClassifier(**_mlp(p))
        case "neighbours":
            model = KNeighborsClassifier(**_neighbours(p))
        case _:
            model = SGDClassifier(
                loss="log_loss",
                alpha=p["alpha"],
                penalty=p["penalty"],
                l1_ratio=p.get("l1_ratio", 0.5),
                learning_rate=p["schedule"],
                eta0=p.get("eta0", 0.01),
                max_iter=20,
                tol=None,
                random_state=0,
            )
    return scaled(model)


def _calibrated(p: Params) -> Any:
    """The unfitted classifier of a point, with probabilities."""
    return _classifier(p, calibrated=True)


def _regression(p: Params) -> Any:
    """The unfitted regression of a point, on standardised targets."""
    from sklearn.compose import TransformedTargetRegressor
    from sklearn.ensemble import HistGradientBoostingRegressor, RandomForestRegressor
    from sklearn.linear_model import ElasticNet, Ridge
    from sklearn.neighbors import KNeighborsRegressor
    from sklearn.neural_network import MLPRegressor
    from sklearn.preprocessing import StandardScaler
    from sklearn.svm import SVR

    match p["model"]:
        case "svm":
            model = SVR(**_svm(p))
        case "forest":
            model = RandomForestRegressor(**_forest(p))
        case "boosting":
            model = HistGradientBoostingRegressor(**_boosting(p))
        case "mlp":
            model = MLPRegressor(**_mlp(p))
        case "neighbours":
            model = KNeighborsRegressor(**_neighbours(p))
        case _ if p["penalty"] == "l2":
            model = Ridge(alpha=300.0 * p["alpha"])  # about as much as elastic nets shrink, by rows of a fold
        case _:
            model = ElasticNet(
                alpha=p["alpha"], l1_ratio=p.get("l1_ratio", 1.0), positive=p["positive"], random_state=0
            )
    return scaled(TransformedTargetRegressor(model, transformer=StandardScaler()))


MODEL_CHOICE = {
    "model_choice_digits": Tuning(
        _space(**_CLASSIFICATION),
        _classifier,
        "digits",
        450,
        "accuracy",
        best=0.026666666666666727,
        evaluations=1_350,
        constant=0.8866666666666667,
    ),
    "model_choice_wine": Tuning(
        _space(**_CLASSIFICATION),
        _calibrated,
        "wine",
        178,
        "neg_log_loss",
        best=0.030835269721632214,
        evaluations=1_350,
        constant=1.0862214722414691,
    ),
    "model_choice_breast_cancer": Tuning(
        _space(**_CLASSIFICATION),
        _classifier,
        "breast_cancer",
        400,
        "roc_auc",
        best=0.003395643971874418,
        evaluations=1_110,
        constant=0.5,
    ),
    "model_choice_diabetes": Tuning(
        _space(**_REGRESSION),
        _regression,
        "diabetes",
        442,
        RMSE,
        best=53.34291897205415,
        evaluations=1_270,
        constant=77.03127257708609,
    ),
}
