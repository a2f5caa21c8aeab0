"""The classes that a stored acquisition or scheduler may name: no other class is ever made from a file."""

from collections.abc import Mapping

_STORED = {
    "acquisition.adaptive": "AdaptiveImprovement",
    "acquisition.bore": "Bore RootGamma",
    "acquisition.confidence_bound": "UpperConfidenceBound",
    "acquisition.hypervolume_improvement": "LogExpectedHypervolumeImprovement",
    "acquisition.improvement": "LogExpectedImprovement NoisyExpectedImprovement",
    "acquisition.knowledge_gradient": "AffineCost KnowledgeGradient",
    "acquisition.per_cost": "PerCost",
    "acquisition.rung_improvement": "RungImprovement",
    "acquisition.scalarised": "Scalarised",
    "acquisition.stein": "SteinBatch",
    "acquisition.thompson": "ThompsonSampling",
    "classifiers.gp": "GPClassifier",
    "classifiers.mlp": "MLPClassifier",
    "kernels.coregional": "Coregional",
    "kernels.decay": "Decay",
    "kernels.learning_curves": "ExponentialDecay",
    "kernels.profiles": "ArcCosine ChordalMatern52 ChordalSquaredExponential",
    "kernels.squared_exponential": "SquaredExponential",
    "kernels.stationary": "Matern52",
    "kernels.zonal": "Zonal",
    "optim.maximize": "Search",
    "run.schedulers.asha": "ASHA",
    "run.schedulers.curve_promotion": "CurvePromotion",
    "run.schedulers.curve_stopping": "CurveStopping",
    "run.schedulers.hyperband": "Hyperband",
    "run.schedulers.median": "MedianRule",
    "run.schedulers.pasha": "PASHA",
    "run.schedulers.promotion": "PromotionASHA",
    "surrogates.auto": "AutoGP",
    "surrogates.curves.freeze_thaw": "FreezeThaw",
    "surrogates.curves.joint": "DecayGP",
    "surrogates.exact": "ExactGP",
    "surrogates.features.activations": "Activations Erf ReLU Softplus",
    "surrogates.features.orthogonal": "Orthogonal",
    "surrogates.features.spherical": "SphericalHarmonics",
    "surrogates.inducing": "GreedyVariance KMeans Subset",
    "surrogates.likelihoods": "BernoulliLogit BernoulliProbit Gaussian Poisson StudentT",
    "surrogates.outputs.coregionalised": "CoregionalisedGP",
    "surrogates.sgpr": "SGPR",
    "surrogates.svgp": "SVGP",
    "surrogates.training": "Adam NaturalAdam NaturalLBFGS",
}
"""Classes by the module that files name: that of version 0.8.0, or that in which a class was added."""

_MOVED = {
    "surrogates.likelihoods": "surrogates.variational.likelihoods",
    "surrogates.training": "surrogates.variational.training",
}
"""Today's module, by the module that files name, for classes that have moved."""


def _homes(stored: Mapping[str, str]) -> dict[str, str]:
    """Where classes are defined today, by their names in files."""
    return {
        f"bo_suite.{module}:{name}": f"bo_suite.{_MOVED.get(module, module)}:{name}"
        for module, names in stored.items()
        for name in names.split()
    }


CLASSES = {
    "bo_suite.acquisition.constrained:ConstrainedExpectedImprovement": (
        "bo_suite.acquisition.improvement:LogExpectedImprovement"
    ),
    **_homes(_STORED),
}
"""Where a class is defined today, by its name in files; of one that is gone, the class that does the same."""

GIVEN_AGAIN = _homes(
    {
        "classifiers.sklearn": "SklearnClassifier",
        "integrations.botorch": "BoTorchAcquisition",
        "integrations.botorch_surrogate": "BoTorchSurrogate ModelKernel",
        "kernels.gpytorch_kernel": "GPyTorchKernel",
        "surrogates.curves.empirical_prior": "EmpiricalPrior",
        "surrogates.inducing": "Given",
        "surrogates.likelihoods": "MonteCarloLikelihood",
    }
)
"""Likewise, classes that hold an object from outside the package, which no file contains: never restored."""

ADDED = {"search": "", "mean": "bo_suite.surrogates.exact:ExactGP"}
"""Fields since version 0.8, each with the one class that has gained it or "" for all.

A file leaves them out while they are None, so that version 0.8 can read it.
"""
