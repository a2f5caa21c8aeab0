"""The classes that a stored acquisition may name: no other class is ever made from a file."""

_STORED = {
    "acquisition.bore": "Bore RootGamma",
    "acquisition.confidence_bound": "UpperConfidenceBound",
    "acquisition.constrained": "ConstrainedExpectedImprovement",
    "acquisition.improvement": "LogExpectedImprovement NoisyExpectedImprovement",
    "acquisition.knowledge_gradient": "AffineCost KnowledgeGradient",
    "acquisition.stein": "SteinBatch",
    "acquisition.thompson": "ThompsonSampling",
    "classifiers.gp": "GPClassifier",
    "classifiers.mlp": "MLPClassifier",
    "kernels.stationary": "Matern52",
    "optim.maximize": "Search",
    "surrogates.auto": "AutoGP",
    "surrogates.exact": "ExactGP",
    "surrogates.inducing": "GreedyVariance KMeans Subset",
    "surrogates.likelihoods": "BernoulliLogit BernoulliProbit Gaussian Poisson StudentT",
    "surrogates.sgpr": "SGPR",
    "surrogates.svgp": "SVGP",
    "surrogates.training": "Adam NaturalAdam NaturalLBFGS",
}
"""Classes by the module that files name. These are the modules of version 0.8.0, and never change."""

_MOVED: dict[str, str] = {}
"""Today's module, by the module that files name, for classes that have moved."""

CLASSES = {
    f"bo_suite.{module}:{name}": f"bo_suite.{_MOVED.get(module, module)}:{name}"
    for module, names in _STORED.items()
    for name in names.split()
}
"""Where a class is defined today, by its name in files."""

GIVEN_AGAIN = frozenset(
    {
        "bo_suite.classifiers.sklearn:SklearnClassifier",
        "bo_suite.integrations.botorch:BoTorchAcquisition",
        "bo_suite.integrations.botorch_surrogate:BoTorchSurrogate",
        "bo_suite.integrations.botorch_surrogate:ModelKernel",
        "bo_suite.kernels.gpytorch_kernel:GPyTorchKernel",
        "bo_suite.surrogates.inducing:Given",
        "bo_suite.surrogates.likelihoods:MonteCarloLikelihood",
    }
)
"""Classes that hold an object from outside the package, which files do not contain: never restored."""
