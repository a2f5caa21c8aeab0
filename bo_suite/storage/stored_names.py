"""The classes that a stored acquisition may name: the only ones that a file can bring to life."""

CLASSES = {
    "bo_suite.acquisition.bore:Bore": "bo_suite.acquisition.bore:Bore",
    "bo_suite.acquisition.bore:RootGamma": "bo_suite.acquisition.bore:RootGamma",
    "bo_suite.acquisition.confidence_bound:UpperConfidenceBound": (
        "bo_suite.acquisition.confidence_bound:UpperConfidenceBound"
    ),
    "bo_suite.acquisition.constrained:ConstrainedExpectedImprovement": (
        "bo_suite.acquisition.constrained:ConstrainedExpectedImprovement"
    ),
    "bo_suite.acquisition.improvement:LogExpectedImprovement": (
        "bo_suite.acquisition.improvement:LogExpectedImprovement"
    ),
    "bo_suite.acquisition.improvement:NoisyExpectedImprovement": (
        "bo_suite.acquisition.improvement:NoisyExpectedImprovement"
    ),
    "bo_suite.acquisition.knowledge_gradient:AffineCost": (
        "bo_suite.acquisition.knowledge_gradient:AffineCost"
    ),
    "bo_suite.acquisition.knowledge_gradient:KnowledgeGradient": (
        "bo_suite.acquisition.knowledge_gradient:KnowledgeGradient"
    ),
    "bo_suite.acquisition.stein:SteinBatch": "bo_suite.acquisition.stein:SteinBatch",
    "bo_suite.acquisition.thompson:ThompsonSampling": "bo_suite.acquisition.thompson:ThompsonSampling",
    "bo_suite.classifiers.gp:GPClassifier": "bo_suite.classifiers.gp:GPClassifier",
    "bo_suite.classifiers.mlp:MLPClassifier": "bo_suite.classifiers.mlp:MLPClassifier",
    "bo_suite.kernels.stationary:Matern52": "bo_suite.kernels.stationary:Matern52",
    "bo_suite.surrogates.auto:AutoGP": "bo_suite.surrogates.auto:AutoGP",
    "bo_suite.surrogates.exact:ExactGP": "bo_suite.surrogates.exact:ExactGP",
    "bo_suite.surrogates.inducing:GreedyVariance": "bo_suite.surrogates.inducing:GreedyVariance",
    "bo_suite.surrogates.inducing:KMeans": "bo_suite.surrogates.inducing:KMeans",
    "bo_suite.surrogates.inducing:Subset": "bo_suite.surrogates.inducing:Subset",
    "bo_suite.surrogates.likelihoods:BernoulliLogit": (
        "bo_suite.surrogates.variational.likelihoods:BernoulliLogit"
    ),
    "bo_suite.surrogates.likelihoods:BernoulliProbit": (
        "bo_suite.surrogates.variational.likelihoods:BernoulliProbit"
    ),
    "bo_suite.surrogates.likelihoods:Gaussian": ("bo_suite.surrogates.variational.likelihoods:Gaussian"),
    "bo_suite.surrogates.likelihoods:Poisson": ("bo_suite.surrogates.variational.likelihoods:Poisson"),
    "bo_suite.surrogates.likelihoods:StudentT": ("bo_suite.surrogates.variational.likelihoods:StudentT"),
    "bo_suite.surrogates.sgpr:SGPR": "bo_suite.surrogates.sgpr:SGPR",
    "bo_suite.surrogates.svgp:SVGP": "bo_suite.surrogates.svgp:SVGP",
    "bo_suite.surrogates.training:Adam": ("bo_suite.surrogates.variational.training:Adam"),
    "bo_suite.surrogates.training:NaturalAdam": ("bo_suite.surrogates.variational.training:NaturalAdam"),
    "bo_suite.surrogates.training:NaturalLBFGS": ("bo_suite.surrogates.variational.training:NaturalLBFGS"),
}
"""Where a class is defined, by its name in files. The names in files are those of version 0.8.0 for ever."""

ADDED = {"bo_suite.surrogates.exact:ExactGP": frozenset({"mean"})}
"""Fields that a class has gained since 0.8.0. A file leaves them out while they have their default."""

GIVEN_AGAIN = {
    "bo_suite.classifiers.sklearn:SklearnClassifier": "bo_suite.classifiers.sklearn:SklearnClassifier",
    "bo_suite.integrations.botorch:BoTorchAcquisition": "bo_suite.integrations.botorch:BoTorchAcquisition",
    "bo_suite.integrations.botorch_surrogate:BoTorchSurrogate": (
        "bo_suite.integrations.botorch_surrogate:BoTorchSurrogate"
    ),
    "bo_suite.integrations.botorch_surrogate:ModelKernel": (
        "bo_suite.integrations.botorch_surrogate:ModelKernel"
    ),
    "bo_suite.kernels.gpytorch_kernel:GPyTorchKernel": "bo_suite.kernels.gpytorch_kernel:GPyTorchKernel",
    "bo_suite.surrogates.inducing:Given": "bo_suite.surrogates.inducing:Given",
    "bo_suite.surrogates.likelihoods:MonteCarloLikelihood": (
        "bo_suite.surrogates.variational.likelihoods:MonteCarloLikelihood"
    ),
}
"""Likewise for classes that always hold an object from outside the package: these are never restored."""
