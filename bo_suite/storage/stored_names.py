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
    "bo_suite.optim.maximize:Search": "bo_suite.optim.maximize:Search",
    "bo_suite.surrogates.auto:AutoGP": "bo_suite.surrogates.auto:AutoGP",
    "bo_suite.surrogates.exact:ExactGP": "bo_suite.surrogates.exact:ExactGP",
    "bo_suite.surrogates.inducing:GreedyVariance": "bo_suite.surrogates.inducing:GreedyVariance",
    "bo_suite.surrogates.inducing:KMeans": "bo_suite.surrogates.inducing:KMeans",
    "bo_suite.surrogates.inducing:Subset": "bo_suite.surrogates.inducing:Subset",
    "bo_suite.surrogates.likelihoods:BernoulliLogit": "bo_suite.surrogates.likelihoods:BernoulliLogit",
    "bo_suite.surrogates.likelihoods:BernoulliProbit": "bo_suite.surrogates.likelihoods:BernoulliProbit",
    "bo_suite.surrogates.likelihoods:Gaussian": "bo_suite.surrogates.likelihoods:Gaussian",
    "bo_suite.surrogates.likelihoods:Poisson": "bo_suite.surrogates.likelihoods:Poisson",
    "bo_suite.surrogates.likelihoods:StudentT": "bo_suite.surrogates.likelihoods:StudentT",
    "bo_suite.surrogates.sgpr:SGPR": "bo_suite.surrogates.sgpr:SGPR",
    "bo_suite.surrogates.svgp:SVGP": "bo_suite.surrogates.svgp:SVGP",
    "bo_suite.surrogates.training:Adam": "bo_suite.surrogates.training:Adam",
    "bo_suite.surrogates.training:NaturalAdam": "bo_suite.surrogates.training:NaturalAdam",
    "bo_suite.surrogates.training:NaturalLBFGS": "bo_suite.surrogates.training:NaturalLBFGS",
}
"""Where a class is defined, by its name in files. The names in files are those of version 0.8.0 for ever."""

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
"""Classes that always hold an object from outside the package, which no file has: they are never restored."""
