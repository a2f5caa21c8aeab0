"""Methods of benchmarks/gradients.py, from the same budget of evaluations: values, most with gradients.

The model-based methods start with the same points: those with which bo_suite starts.
"""

import time
import warnings
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from gradients_problems import Differentiable, Gradient
from torch import Tensor

from bo_suite import Optimizer, Space
from bo_suite.study.initial import initial_size


@dataclass
class Run:
    """What one run has evaluated.

    Attributes:
        values: of all evaluations, in their order.
        seconds: that each suggestion of a model took.
        failures: the number of evaluations before each suggestion that failed, and why.
        restarts: of the gradient descent.
    """

    values: list[float] = field(default_factory=list)
    seconds: list[float] = field(default_factory=list)
    failures: list[tuple[int, str]] = field(default_factory=list)
    restarts: int = 0


def bo_suite(problem: Differentiable, seed: int, budget: int, gradients: bool) -> Run:
    """Our default, with the gradients or without."""
    run, optimizer = Run(), Optimizer(problem.space, seed=seed, budget=budget)
    for _ in range(budget):
        began = time.perf_counter()
        trial = optimizer.ask()
        run.seconds.append(time.perf_counter() - began)
        if trial.provenance["source"] == "fallback":
            run.failures.append((trial.id, str(trial.provenance["fallback"])[:120]))
        value, gradient = problem.evaluate(trial.params)
        tell(optimizer, trial, value, gradient if gradients else None)
        run.values.append(value)
    return run


def tell(optimizer: Optimizer, trial: Any, value: float, gradient: Gradient | None) -> None:
    """Tells an outcome, with its gradient if there is one."""
    if gradient is None:
        optimizer.tell(trial, value)
    else:
        optimizer.tell(trial, value, gradient=gradient)


def random_search(problem: Differentiable, seed: int, budget: int) -> Run:
    """Uniform points."""
    rows = np.random.default_rng((seed, 1)).random((budget, problem.space.dim))
    return Run([problem.encoded(row)[1] for row in rows])


class _Spent(Exception):
    """The budget is spent."""


def lbfgs(problem: Differentiable, seed: int, budget: int, design: bool) -> Run:
    """SciPy's L-BFGS-B on the unit cube at its defaults, from uniform points, restarted when it has ended.

    With `design` the first descent starts at the best of the points with which bo_suite starts.
    """
    from scipy.optimize import minimize

    run, generator = Run(), np.random.default_rng((seed, 2))

    def evaluated(row: np.ndarray) -> tuple[float, np.ndarray]:
        if len(run.values) == budget:
            raise _Spent
        _, value, slopes = problem.encoded(np.clip(row, 0.0, 1.0))
        run.values.append(value)
        return value, slopes

    with suppress(_Spent):
        first = generator.random(problem.space.dim)
        if design:
            rows = initial_rows(problem.space, seed, budget).numpy()
            values = [evaluated(row)[0] for row in rows]
            first = rows[int(np.argmin(values))]
        while True:
            minimize(evaluated, first, jac=True, method="L-BFGS-B", bounds=[(0.0, 1.0)] * len(first))
            first = generator.random(problem.space.dim)
            run.restarts += 1
    return run


def initial_rows(space: Space, seed: int, budget: int) -> Tensor:
    """The points with which bo_suite starts, encoded."""
    optimizer = Optimizer(space, seed=seed, budget=budget)
    trials = optimizer.ask(initial_size(budget, space))
    return space.encode([trial.params for trial in trials])


def botorch(problem: Differentiable, seed: int, budget: int) -> Run:
    """BoTorch's loop with a derivative GP; a uniform point where it fails."""
    run, rows = Run(), list(initial_rows(problem.space, seed, budget))
    gradients: list[np.ndarray] = []
    generator = torch.Generator().manual_seed(seed)
    while len(run.values) < budget:
        if len(run.values) >= len(rows):
            began = time.perf_counter()
            torch.manual_seed(1000 * seed + len(rows))  # which optimize_acqf draws its starts with
            try:
                row = botorch_suggestion(torch.stack(rows), np.array(run.values), np.array(gradients))
            except Exception as error:  # whatever it is, the benchmark counts it
                run.failures.append((len(rows), f"{type(error).__name__}: {error}"[:120]))
                row = torch.rand(problem.space.dim, generator=generator, dtype=torch.float64)
            run.seconds.append(time.perf_counter() - began)
            rows.append(row)
        _, value, slopes = problem.encoded(rows[len(run.values)].numpy())
        run.values.append(value)
        gradients.append(slopes)
    return run


def botorch_suggestion(x: Tensor, values: np.ndarray, gradients: np.ndarray) -> Tensor:
    """The point of largest log expected improvement under a GP of values and all derivatives.

    The model is that of GPyTorch's tutorial of derivatives: a ScaleKernel of an RBFKernelGrad with a
    lengthscale a column, ConstantMeanGrad and a MultitaskGaussianLikelihood; the prior of the lengthscales is
    that of BoTorch's SingleTaskGP. It is fitted by fit_gpytorch_mll to standardised values. The acquisition
    is LogExpectedImprovement of the value, maximised by optimize_acqf with 10 restarts and 512 raw samples,
    scored 32 at a time to save memory.
    """
    from botorch.acquisition import LogExpectedImprovement
    from botorch.acquisition.objective import ScalarizedPosteriorTransform
    from botorch.fit import fit_gpytorch_mll
    from botorch.optim import optimize_acqf
    from gpytorch.mlls import ExactMarginalLogLikelihood

    scale = values.std(ddof=1)
    outcomes = -np.column_stack(((values - values.mean()) / scale, gradients / scale))  # BoTorch maximises
    y = torch.as_tensor(outcomes, dtype=torch.float64)
    dim = x.shape[-1]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        model = derivative_gp()(x, y)
        fit_gpytorch_mll(ExactMarginalLogLikelihood(model.likelihood, model))
        only_value = torch.zeros(1 + dim, dtype=torch.float64)
        only_value[0] = 1.0
        acquisition = LogExpectedImprovement(
            model, best_f=y[:, 0].max(), posterior_transform=ScalarizedPosteriorTransform(only_value)
        )
        cube = torch.stack((torch.zeros(dim), torch.ones(dim))).double()
        candidate, _ = optimize_acqf(
            acquisition, cube, q=1, num_restarts=10, raw_samples=512, options={"init_batch_limit": 32}
        )
    row: Tensor = candidate[0].detach().clamp(0.0, 1.0)
    return row


def derivative_gp() -> Callable[[Tensor, Tensor], Any]:
    """The class of GPs of values and derivatives, made here because GPyTorch takes seconds to import."""
    import math

    import gpytorch
    from botorch.models.gpytorch import GPyTorchModel
    from gpytorch.priors import LogNormalPrior

    class DerivativeGP(GPyTorchModel, gpytorch.models.ExactGP):
        """A GP whose outputs are the value and the derivative by each column."""

        def __init__(self, x: Tensor, y: Tensor) -> None:
            dim = x.shape[-1]
            likelihood = gpytorch.likelihoods.MultitaskGaussianLikelihood(num_tasks=1 + dim)
            super().__init__(x, y, likelihood)
            prior = LogNormalPrior(loc=math.sqrt(2) + 0.5 * math.log(dim), scale=math.sqrt(3))
            kernel = gpytorch.kernels.RBFKernelGrad(ard_num_dims=dim, lengthscale_prior=prior)
            self.mean_module = gpytorch.means.ConstantMeanGrad()
            self.covar_module = gpytorch.kernels.ScaleKernel(kernel)
            self._num_outputs = 1 + dim
            self.to(x)

        def forward(self, x: Tensor) -> Any:
            """The prior of values and derivatives at rows."""
            return gpytorch.distributions.MultitaskMultivariateNormal(
                self.mean_module(x), self.covar_module(x)
            )

    return DerivativeGP


METHODS: dict[str, Callable[[Differentiable, int, int], Run]] = {
    "bo_suite with gradients": lambda problem, seed, budget: bo_suite(problem, seed, budget, True),
    "bo_suite without": lambda problem, seed, budget: bo_suite(problem, seed, budget, False),
    "L-BFGS-B": lambda problem, seed, budget: lbfgs(problem, seed, budget, False),
    "L-BFGS-B from the best of 6": lambda problem, seed, budget: lbfgs(problem, seed, budget, True),
    "BoTorch with gradients": botorch,
    "random": random_search,
}
