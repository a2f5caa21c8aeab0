"""Sparse Gaussian processes of other libraries, trained with a clock that stands still while they are scored.

GPyTorch's is the SVGP of its tutorial "Stochastic Variational GP Regression": whitened strategy, learned
inducing inputs started at random data rows, Adam with rate 0.01; but Matérn-5/2 with ARD, a chosen batch
size, and batches indexed from tensors, which is faster than the tutorial's DataLoader. BoTorch's is
SingleTaskVariationalGP through fit_gpytorch_mll, as shipped but for the number of inducing inputs and the
kernel, which is the Matérn-5/2 with its own dimension-scaled priors. Beyond 1024 rows that means full-batch
Adam with rate 0.001 until its own stopping criterion holds; here until the time is over too.
"""

import math
import time
import warnings
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import Any

import torch
from torch import Tensor

from bo_suite.problems import get_problem

GREEDY_ROWS = 5000
"""Rows from which BoTorch chooses inducing inputs: it forms the matrix of all pairs, 80 GB at 100,000."""

Predict = Callable[[Tensor], tuple[Tensor, Tensor]]
"""Mean and variance of noisy outcomes at rows."""

Clock = Callable[[], float]
"""Seconds since some time."""


@dataclass(frozen=True)
class Data:
    """Rows in the unit cube and outcomes standardised by the training set.

    Attributes:
        x: training rows (n, d).
        y: their outcomes (n,).
        test_x: held-out rows.
        test_y: their outcomes, with the same noise.
        floor: mean negative log density of the held-out outcomes, were function and noise variance known.
    """

    x: Tensor
    y: Tensor
    test_x: Tensor
    test_y: Tensor
    floor: float

    def to(self, like: Any) -> "Data":
        """The same on a device or in a dtype."""
        moved = (part.to(like) for part in (self.x, self.y, self.test_x, self.test_y))
        return Data(*moved, floor=self.floor)

    def head(self, count: int) -> "Data":
        """The first rows of the training set only."""
        return replace(self, x=self.x[:count], y=self.y[:count])

    def score(self, predict: Predict) -> tuple[float, float]:
        """Held-out mean negative log predictive density and root mean squared error."""
        mean, variance = (part.double() for part in predict(self.test_x))
        residual = self.test_y.double() - mean
        nlpd = 0.5 * (residual.square() / variance + (2.0 * math.pi * variance).log()).mean()
        return float(nlpd), float(residual.square().mean().sqrt())


def hartmann(x: Tensor) -> tuple[Tensor, float]:
    """Values of hartmann6, and a tenth of their standard deviation as that of the noise."""
    problem = get_problem("hartmann6")
    values = torch.tensor([problem.value(params) for params in problem.space.decode(x)], dtype=x.dtype)
    return values, 0.1 * float(values.std())


def friedman(x: Tensor) -> tuple[Tensor, float]:
    """Friedman (1991), equation 61: 10 sin(π x₁x₂) + 20 (x₃ - ½)² + 10 x₄ + 5 x₅; unit noise."""
    wave = 10.0 * torch.sin(math.pi * x[:, 0] * x[:, 1])
    return wave + 20.0 * (x[:, 2] - 0.5).square() + 10.0 * x[:, 3] + 5.0 * x[:, 4], 1.0


def make_data(function: Callable[[Tensor], tuple[Tensor, float]], n: int, dim: int, seed: int) -> Data:
    """n uniform rows with noisy outcomes, and 5,000 more that are held out."""
    generator = torch.Generator().manual_seed(seed)
    x = torch.rand(n + 5000, dim, generator=generator, dtype=torch.float64)
    values, std = function(x)
    noise = std * torch.randn(len(x), generator=generator, dtype=x.dtype)
    mean, scale = (values + noise)[:n].mean(), (values + noise)[:n].std()
    y, variance = (values + noise - mean) / scale, (std / scale) ** 2
    floor = 0.5 * ((noise[n:] / scale).square().mean() / variance + (2.0 * math.pi * variance).log())
    return Data(x[:n], y[:n], x[n:], y[n:], float(floor))


@dataclass
class Curve:
    """Held-out scores over training seconds, taken whenever these have grown by a twentieth."""

    data: Data
    predict: Predict
    clock: Clock = time.perf_counter
    points: list[tuple[float, float, float]] = field(default_factory=list)
    seconds: float = 0.0
    _since: float = field(init=False)

    def __post_init__(self) -> None:
        self._since = self.clock()

    def tick(self, last: bool = False) -> None:
        """After a step: reads the clock, and scores where it is time to."""
        due = max(1.05 * self.points[-1][0], self.points[-1][0] + 0.02) if self.points else 0.0
        if not last and self.now() < due:
            return
        if self.data.x.is_cuda:
            torch.cuda.synchronize()
        self.seconds = self.now()
        self.points.append((self.seconds, *self.data.score(self.predict)))
        self._since = self.clock()

    def now(self) -> float:
        """Training seconds by now."""
        return self.seconds + self.clock() - self._since


def gpytorch_svgp(
    data: Data,
    inducing: int,
    batch: int,
    epochs: int,
    dtype: torch.dtype,
    seed: int,
    clock: Clock = time.perf_counter,
) -> dict[str, Any]:
    """The curve of GPyTorch's SVGP over a number of epochs."""
    import gpytorch
    from gpytorch.variational import CholeskyVariationalDistribution, VariationalStrategy

    class Model(gpytorch.models.ApproximateGP):
        def __init__(self, z: Tensor) -> None:
            distribution = CholeskyVariationalDistribution(len(z))
            super().__init__(VariationalStrategy(self, z, distribution, learn_inducing_locations=True))
            self.mean_module = gpytorch.means.ConstantMean()
            matern = gpytorch.kernels.MaternKernel(nu=2.5, ard_num_dims=z.shape[-1])
            self.covar_module = gpytorch.kernels.ScaleKernel(matern)

        def forward(self, x: Tensor) -> gpytorch.distributions.MultivariateNormal:
            return gpytorch.distributions.MultivariateNormal(self.mean_module(x), self.covar_module(x))

    data = data.to(dtype)
    n = len(data.x)
    torch.manual_seed(seed)

    def predict(x: Tensor) -> tuple[Tensor, Tensor]:
        model.eval(), likelihood.eval()
        with torch.no_grad():
            outcome = likelihood(model(x))
            moments = outcome.mean, outcome.variance
        model.train(), likelihood.train()
        return moments

    curve = Curve(data, predict, clock)
    model = Model(data.x[torch.randperm(n)[:inducing].to(data.x.device)]).to(data.x)
    likelihood = gpytorch.likelihoods.GaussianLikelihood().to(data.x)
    loss = gpytorch.mlls.VariationalELBO(likelihood, model, num_data=n)
    adam = torch.optim.Adam([*model.parameters(), *likelihood.parameters()], lr=0.01)
    steps = 0
    for _ in range(epochs):
        for rows in torch.randperm(n).to(data.x.device).split(batch):
            adam.zero_grad()
            (-loss(model(data.x[rows]), data.y[rows])).backward()
            adam.step()
            curve.tick()
            steps += 1
    curve.tick(last=True)
    shape = {"batch": batch, "epochs": epochs, "steps": steps, "dtype": str(dtype).removeprefix("torch.")}
    return {"curve": curve.points, "stopped": "all epochs done", **shape}


def botorch_svgp(data: Data, inducing: int, seconds: float, seed: int) -> dict[str, Any]:
    """The curve of BoTorch's SingleTaskVariationalGP, up to a number of training seconds."""
    from botorch.fit import fit_gpytorch_mll
    from botorch.models import SingleTaskVariationalGP
    from botorch.models.utils.gpytorch_modules import get_covar_module_with_dim_scaled_prior
    from botorch.models.utils.inducing_point_allocators import GreedyVarianceReduction
    from botorch.optim.core import OptimizationStatus
    from gpytorch.mlls import VariationalELBO

    n, dim = data.x.shape
    torch.manual_seed(seed)

    def predict(x: Tensor) -> tuple[Tensor, Tensor]:
        with torch.no_grad():
            posterior = model.posterior(x, observation_noise=True)
            moments = posterior.mean[:, 0], posterior.variance[:, 0]
        model.train()
        return moments

    said = {"stopped": "", "steps": 0}

    def after_step(_: dict[str, Tensor], result: Any) -> None:
        said["steps"] = result.step
        if result.status != OptimizationStatus.RUNNING:
            said["stopped"] = "own criterion"
        elif curve.now() > seconds:
            said["stopped"], result.status = f"{seconds:g} s", OptimizationStatus.STOPPED
        curve.tick()

    curve = Curve(data, predict)
    kernel = get_covar_module_with_dim_scaled_prior(dim, use_rbf_kernel=False).to(data.x)
    start: Tensor | int = inducing
    if n > 2 * GREEDY_ROWS:
        rows = data.x[torch.randperm(n)[:GREEDY_ROWS].to(data.x.device)]
        start = GreedyVarianceReduction().allocate_inducing_points(rows, kernel, inducing, torch.Size())
    model = SingleTaskVariationalGP(data.x, data.y[:, None], covar_module=kernel, inducing_points=start)
    loss = VariationalELBO(model.likelihood, model.model, num_data=n)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        fit_gpytorch_mll(loss, optimizer_kwargs={"callback": after_step})
    curve.tick(last=True)
    return {"curve": curve.points, **said, "batch": n, "dtype": "float64"}
