"""The knowledge gradient beside BoTorch's qKnowledgeGradient, its inner problems solved anew."""

from dataclasses import dataclass
from functools import cache

import gpytorch
import torch
from botorch.acquisition import qKnowledgeGradient
from botorch.models import SingleTaskGP
from botorch.sampling import SobolQMCNormalSampler
from torch import Tensor
from torch.testing import assert_close

from bo_suite.acquisition import KnowledgeGradient, log_discrete_knowledge_gradient
from bo_suite.data import Dataset, Seeds
from bo_suite.surrogates import ExactGP, Process

F64 = torch.float64
FANTASIES = 128


@dataclass(frozen=True, eq=False)
class Given:
    """A surrogate whose process is known."""

    process: Process

    def fit(self, data: Dataset, seeds: Seeds, start: object = None) -> Process:
        return self.process


@dataclass(frozen=True, eq=False)
class Setting:
    """One process in both libraries, and the knowledge gradient at two times five points.

    Attributes:
        process: ours.
        model: theirs, of outcomes with the other sign.
        x: 5 points anywhere, and the 5 of the largest score of 512.
        score: our value at each.
        dense: the value over a grid of 101 x 101 points and our alternatives.
        theirs: mean over seeds of the sampler.
        error: four standard deviations over the seeds, and what the inner problems are solved to.
    """

    process: Process
    model: SingleTaskGP
    x: Tensor
    score: Tensor
    dense: Tensor
    theirs: Tensor
    error: Tensor


def peer(data: Dataset, theta: Tensor, mean: Tensor) -> SingleTaskGP:
    kernel = gpytorch.kernels.ScaleKernel(gpytorch.kernels.MaternKernel(2.5, ard_num_dims=2)).double()
    likelihood = gpytorch.likelihoods.GaussianLikelihood(
        noise_constraint=gpytorch.constraints.GreaterThan(1e-9)
    ).double()
    model = SingleTaskGP(
        data.x, -data.y[:, None], likelihood=likelihood, covar_module=kernel, outcome_transform=None
    )
    kernel.base_kernel.lengthscale = theta[:2].exp()
    kernel.outputscale = theta[2].exp()
    likelihood.noise = theta[3].exp()
    model.mean_module.constant.data = -mean.clone()
    model.eval()
    return model


@cache
def setting() -> Setting:
    generator = torch.Generator().manual_seed(3)
    x = torch.rand(14, 2, generator=generator, dtype=F64)
    y = torch.sin(5.0 * x[:, 0]) + torch.cos(4.0 * x[:, 1])
    y = y + 0.15 * torch.randn(14, generator=generator, dtype=F64)
    data = Dataset(x, (y - y.mean()) / y.std())
    theta = torch.tensor([0.35, 0.5, 1.0, 0.05], dtype=F64).log()
    process = ExactGP().process(data, theta)
    model = peer(data, theta, process.prior_mean.constant)
    score = KnowledgeGradient(surrogate=Given(process)).build(data, Seeds.of(0, 0))

    anywhere = torch.rand(5, 2, generator=generator, dtype=F64)
    many = torch.quasirandom.SobolEngine(2, scramble=True, seed=0).draw(512, dtype=F64)
    points = torch.cat((anywhere, many[score(many).topk(5).indices]))

    axis = torch.linspace(0.0, 1.0, 101, dtype=F64)
    grid = torch.cat((torch.cartesian_prod(axis, axis), score.lookahead.points))
    deviation = (process.var(points) + process.noise).sqrt()[:, None]
    slopes = torch.cat((process.cov(points, grid), process.var(points)[:, None]), -1) / deviation
    means = torch.cat((process.mean(grid).expand(10, -1), process.mean(points)[:, None]), -1)
    dense = log_discrete_knowledge_gradient(-means, slopes).exp()

    box = torch.tensor([[0.0, 0.0], [1.0, 1.0]], dtype=F64)
    best = -process.mean(grid).min()
    values = []
    for seed in range(3):
        torch.manual_seed(seed)  # their inner searches start at random points
        sampler = SobolQMCNormalSampler(torch.Size([FANTASIES]), seed=seed)
        acquisition = qKnowledgeGradient(model, FANTASIES, sampler=sampler, current_value=best)
        value = acquisition.evaluate(
            points[:, None, :], bounds=box, num_restarts=4, raw_samples=128, options={"maxiter": 50}
        )
        values.append(value.detach())
    theirs = torch.stack(values)
    error = 4.0 * theirs.std(0) + 0.005 * theirs.mean(0).max()
    return Setting(process, model, points, score(points).exp(), dense, theirs.mean(0), error)


def test_the_processes_are_the_same() -> None:
    found = setting()
    theirs = found.model.posterior(found.x)
    assert_close(-theirs.mean[:, 0].detach(), found.process.mean(found.x), rtol=1e-8, atol=1e-8)
    assert_close(theirs.covariance_matrix.detach(), found.process.cov(found.x, found.x), rtol=1e-8, atol=1e-8)


def test_the_value_over_a_dense_grid_is_theirs_within_their_error() -> None:
    found = setting()
    assert bool(((found.dense - found.theirs).abs() <= found.error).all()), found
    assert float(found.error[5:].max()) < 0.1 * float(found.theirs.max()), "their error is small"


def test_the_score_is_never_above_theirs_and_little_below_where_it_is_large() -> None:
    found = setting()
    assert bool((found.score <= found.theirs + found.error).all()), found
    assert bool((found.score[5:] >= 0.9 * found.theirs[5:]).all()), found


def test_where_the_score_is_largest_theirs_is_nearly_so() -> None:
    found = setting()
    assert float(found.theirs[found.score.argmax()]) >= 0.95 * float(found.theirs.max())
