"""Processes as BoTorch models, BoTorch models as surrogates, BoTorch acquisitions as ours."""

import copy
import io
import math
import pickle
from dataclasses import replace
from typing import Any

import gpytorch
import pytest
import torch
from botorch.acquisition import (
    LogExpectedImprovement,
    PosteriorMean,
    UpperConfidenceBound,
    qKnowledgeGradient,
    qLowerBoundMaxValueEntropy,
)
from botorch.acquisition.logei import qLogExpectedImprovement, qLogNoisyExpectedImprovement
from botorch.acquisition.max_value_entropy_search import qMaxValueEntropy
from botorch.acquisition.objective import ScalarizedPosteriorTransform
from botorch.exceptions.errors import (
    BotorchTensorDimensionError,
    InputDataError,
    ModelFittingError,
    UnsupportedError,
)
from botorch.models import MixedSingleTaskGP, SingleTaskGP, SingleTaskVariationalGP
from botorch.models.transforms import Log, Normalize, Standardize, Warp
from botorch.optim import optimize_acqf
from botorch.sampling import SobolQMCNormalSampler
from botorch.settings import propagate_grads, validate_input_scaling
from botorch.utils import manual_seed
from botorch.utils.testing import MockPosterior
from gpytorch.kernels import MaternKernel, ScaleKernel
from gpytorch.means import LinearMean
from torch import Tensor

from bo_suite import Choice, Float, Optimizer, Space, acquisition
from bo_suite.acquisition.likely import build_score
from bo_suite.data import Columns, Dataset, Seeds
from bo_suite.errors import DataError, FitError
from bo_suite.integrations import botorch_surrogate
from bo_suite.integrations.botorch import (
    AcquisitionContext,
    BoTorchAcquisition,
    BoTorchSurrogate,
    ProcessModel,
)
from bo_suite.surrogates import SGPR, ExactGP, ExactProcess, WarmStart
from bo_suite.surrogates.features import Activations, Orthogonal
from bo_suite.surrogates.process import Process
from bo_suite.testing import check_acquisition, check_surrogate

SEEDS = Seeds.of(0, 1)
THETA = torch.tensor([-0.9, -0.3, -0.6, 0.4, math.log(0.05)], dtype=torch.float64)


def draw(*shape: int, seed: int = 0) -> Tensor:
    return torch.rand(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def smooth(count: int, *batch: int, seed: int = 0, pending: int = 0) -> Dataset:
    x = draw(*batch, count, 3, seed=seed)
    y = torch.sin(5.0 * x[..., 0]) + (x[..., 1] - 0.4).square() - 0.5 * x[..., 2]
    return Dataset(x, y, None, draw(*batch, pending, 3, seed=seed + 1))


def exact(count: int = 12, *batch: int) -> ExactProcess:
    data = smooth(count, *batch)
    return ExactGP().process(data, THETA.expand(*batch, -1))


def sparse() -> Process:
    return SGPR(inducing=6).fit(smooth(20), SEEDS)


def twin(process: ExactProcess, y: Tensor) -> SingleTaskGP:
    """BoTorch's own model at the hyperparameters of the process, of outcomes y."""
    kernel = ScaleKernel(MaternKernel(nu=2.5, ard_num_dims=3))
    with validate_input_scaling(False):
        model = SingleTaskGP(process.x, y[:, None], covar_module=kernel, outcome_transform=None).double()
    kernel.base_kernel.lengthscale = process.theta[:3].exp()
    kernel.outputscale = process.theta[3].exp()
    model.likelihood.noise_covar.register_constraint("raw_noise", gpytorch.constraints.Positive())
    model.likelihood.noise = process.noise
    model.mean_module.constant.data = process.prior_mean.constant * (
        1.0 if torch.equal(y, smooth(12).y) else -1.0
    )
    return model.eval()


@pytest.fixture
def pair() -> tuple[ProcessModel, SingleTaskGP]:
    process = exact()
    return ProcessModel(process, negate=True), twin(process, -smooth(12).y)


def close(left: Tensor, right: Tensor, tolerance: float = 1e-8) -> None:
    assert left.shape == right.shape
    assert float((left - right).detach().abs().max()) < tolerance


# --- a process as a BoTorch model ---------------------------------------------------------------------


@pytest.mark.parametrize("shape", [(1, 3), (4, 3), (5, 2, 3), (2, 5, 3, 3)])
def test_posteriors_are_those_of_a_single_task_gp(shape: tuple[int, ...]) -> None:
    process = exact()
    ours, theirs = ProcessModel(process), twin(process, smooth(12).y)
    x = draw(*shape, seed=3)
    for noise in (False, True, torch.full((*x.shape[:-1], 1), 0.3, dtype=torch.float64)):
        left, right = (model.posterior(x, observation_noise=noise) for model in (ours, theirs))
        close(left.mean, right.mean)
        close(left.variance, right.variance)
        close(left.distribution.covariance_matrix, right.distribution.covariance_matrix)


def test_a_negated_model_has_the_negated_mean_and_the_same_covariance() -> None:
    process, x = exact(), draw(2, 4, 3)
    plain, negated = ProcessModel(process).posterior(x), ProcessModel(process, negate=True).posterior(x)
    close(plain.mean, -negated.mean, 1e-12)
    close(plain.distribution.covariance_matrix, negated.distribution.covariance_matrix, 1e-12)
    close(plain.mean[..., 0], torch.stack([process.mean(rows) for rows in x]), 1e-12)


def test_arguments_of_posterior_are_taken_and_other_outcomes_refused() -> None:
    model, x = ProcessModel(exact()), draw(2, 3, 3)
    plain = model.posterior(x)
    assert model.num_outputs == 1
    assert model.batch_shape == torch.Size()
    assert model.subset_output([0]) is model
    close(model.posterior(x, output_indices=[0]).mean, plain.mean, 1e-15)
    scaled = ScalarizedPosteriorTransform(torch.tensor([-2.0], dtype=torch.float64))
    close(model.posterior(x, posterior_transform=scaled).mean, -2.0 * plain.mean, 1e-12)
    with pytest.raises(UnsupportedError, match="outcome 0 only"):
        model.posterior(x, output_indices=[1])


@pytest.mark.parametrize("make", [exact, sparse])
def test_a_batch_is_a_loop_over_its_elements(make: Any) -> None:
    process = make()
    model = ProcessModel(process)
    known, y, x = draw(5, 2, 3, seed=1), draw(4, 5, 2, 1, seed=2), draw(5, 3, 3, seed=3)
    together = model.condition_on_observations(known, y)
    assert together.batch_shape == torch.Size((4, 5))
    for place in range(5):
        rows = x[place]
        plain = model.posterior(x)
        close(plain.mean[place, :, 0], process.mean(rows), 1e-10)
        close(plain.distribution.covariance_matrix[place], process.cov(rows, rows), 1e-10)
        for fantasy in range(4):
            alone = process.condition(known[place], y[fantasy, place, :, 0])
            found = together.posterior(x)
            close(found.mean[fantasy, place, :, 0], alone.mean(rows))
            close(found.distribution.covariance_matrix[fantasy, place], alone.cov(rows, rows))


def test_replicates_are_the_batch_shape() -> None:
    process = exact(12, 2)
    model, x = ProcessModel(process), draw(5, 2, 4, 3)
    assert model.batch_shape == torch.Size((2,))
    found = model.posterior(x)
    for place in range(5):
        close(found.mean[place, ..., 0], process.mean(x[place]), 1e-12)
        close(found.distribution.covariance_matrix[place], process.cov(x[place], x[place]), 1e-12)
    close(model.posterior(x[0, 0]).mean[..., 0], process.mean(x[0, 0].expand(2, -1, -1)), 1e-12)
    given = model.condition_on_observations(draw(2, 1, 3, seed=5), draw(3, 2, 1, 1, seed=6))
    assert given.posterior(x[0]).mean.shape == (3, 2, 4, 1)


@pytest.mark.parametrize("make", [exact, sparse])
def test_conditioning_in_turns_is_conditioning_at_once(make: Any) -> None:
    process = make()
    x, y, rows = draw(5, 3, seed=1), draw(5, 1, seed=2), draw(4, 3, seed=3)
    model = ProcessModel(process)
    turns = model.condition_on_observations(x[:2], y[:2]).condition_on_observations(x[2:], y[2:])
    once = ProcessModel(process.condition(x, y[:, 0]))
    close(turns.posterior(rows).mean, once.posterior(rows).mean)
    close(turns.posterior(rows).variance, once.posterior(rows).variance)


def test_conditioning_is_refitting_at_the_same_hyperparameters() -> None:
    process, x, y = exact(), draw(3, 3, seed=1), draw(3, 1, seed=2)
    rows = draw(4, 3, seed=3)
    data = smooth(12)
    joint = torch.cat((data.x, x))
    covariance = process.kernel.gram(process.theta, joint)[0] + process.noise * torch.eye(15)
    cross = process.kernel.cross(process.theta, rows, joint)[0]
    residual = torch.cat((data.y, y[:, 0])) - process.prior_mean.constant
    found = ProcessModel(process).condition_on_observations(x, y).posterior(rows)
    close(found.mean[:, 0], process.prior_mean.constant + cross @ torch.linalg.solve(covariance, residual))


def test_known_noise_of_observations_is_used() -> None:
    process, x, y, rows = exact(), draw(3, 3, seed=1), draw(3, 1, seed=2), draw(4, 3, seed=3)
    noise = torch.tensor([0.01, 0.5, 2.0], dtype=torch.float64)
    found = ProcessModel(process).condition_on_observations(x, y, noise=noise[:, None]).posterior(rows)
    wanted = process.condition(x, y[:, 0], noise)
    close(found.mean[:, 0], wanted.mean(rows))
    close(found.variance[:, 0], wanted.var(rows))
    assert float((found.mean[:, 0] - process.condition(x, y[:, 0]).mean(rows)).abs().max()) > 1e-3


def test_shapes_that_do_not_fit_are_refused() -> None:
    model = ProcessModel(exact())
    with pytest.raises(BotorchTensorDimensionError, match=r"got \(3,\) and \(3, 3\)"):
        model.condition_on_observations(draw(3, 3), draw(3))
    with pytest.raises(BotorchTensorDimensionError, match=r"got \(1,\) and \(1, 3\)"):
        model.condition_on_observations(draw(1, 3), draw(1))


@pytest.mark.parametrize(
    ("x", "y", "noise", "law"),
    [
        (0.5, math.nan, None, "Y must be finite"),
        (0.5, math.inf, None, "Y must be finite"),
        (math.nan, 0.5, None, "X must be finite"),
        (0.5, 0.5, math.nan, "noise must be finite"),
        (0.5, 0.5, -1.0, "variances >= 0, got -1.0"),
    ],
)
def test_observations_that_are_no_numbers_are_refused(
    x: float, y: float, noise: float | None, law: str
) -> None:
    one = draw(1, 1)
    with pytest.raises(InputDataError, match=law):
        ProcessModel(exact()).condition_on_observations(
            torch.full_like(draw(1, 3), x),
            torch.full_like(one, y),
            None if noise is None else torch.full_like(one, noise),
        )


def test_fantasies_are_those_of_a_single_task_gp(pair: tuple[ProcessModel, SingleTaskGP]) -> None:
    x, rows = draw(5, 2, 3, seed=1), draw(6, 5, 4, 3, seed=2)
    found = []
    for model in pair:
        sampler = SobolQMCNormalSampler(torch.Size([6]), seed=1)
        fantasies = model.fantasize(x, sampler)
        assert fantasies.batch_shape == torch.Size((6, 5))
        found.append(fantasies.posterior(rows))
    close(found[0].mean, found[1].mean)
    close(found[0].variance, found[1].variance)
    empty = pair[0].fantasize(x[:, :0], SobolQMCNormalSampler(torch.Size([6]), seed=1))
    assert empty.posterior(rows).mean.shape == (6, 5, 4, 1)


def test_a_fantasy_at_the_mean_keeps_the_mean_and_lowers_the_variance() -> None:
    model, x, rows = ProcessModel(exact()), draw(2, 3, seed=1), draw(20, 3, seed=2)

    class AtMean:
        sample_shape = torch.Size((1,))

        def __call__(self, posterior: Any) -> Tensor:
            return posterior.mean[None]

    before, after = model.posterior(rows), model.fantasize(x, AtMean()).posterior(rows)
    close(after.mean[0], before.mean, 1e-12)
    assert bool((after.variance[0] < before.variance).all())


def test_posteriors_have_the_gradient_by_x_and_no_second_one() -> None:
    model = ProcessModel(exact())
    x = draw(2, 3, 3, seed=1).requires_grad_()

    def moments(rows: Tensor) -> tuple[Tensor, Tensor]:
        posterior = model.posterior(rows)
        return posterior.mean, posterior.distribution.covariance_matrix

    assert torch.autograd.gradcheck(moments, x, atol=1e-6)
    (slope,) = torch.autograd.grad(model.posterior(x).mean.square().sum(), x, create_graph=True)
    with pytest.raises(RuntimeError, match="once_differentiable"):
        slope.sum().backward()


@pytest.mark.parametrize("make", [exact, sparse])
def test_gradients_reach_the_point_conditioned_on_and_its_outcome(make: Any) -> None:
    model, rows = ProcessModel(make()), draw(4, 2, 3, 3, seed=3)
    x, y = draw(2, 1, 3, seed=1).requires_grad_(), draw(4, 2, 1, 1, seed=2).requires_grad_()

    def moments(known: Tensor, outcome: Tensor) -> tuple[Tensor, Tensor]:
        posterior = model.condition_on_observations(known, outcome).posterior(rows)
        return posterior.mean, posterior.distribution.covariance_matrix

    assert torch.autograd.gradcheck(moments, (x, y), atol=1e-6)


def test_gradients_flow_through_fantasies() -> None:
    model, rows = ProcessModel(exact()), draw(4, 1, 3, 3, seed=3)

    def best(x: Tensor) -> Tensor:
        fantasies = model.fantasize(x, SobolQMCNormalSampler(torch.Size([4]), seed=1))
        return fantasies.posterior(rows).mean

    assert torch.autograd.gradcheck(best, draw(1, 2, 3, seed=1).requires_grad_(), atol=1e-6)


@pytest.mark.parametrize("foreign", [False, True])
def test_models_survive_pickle_deepcopy_and_moves(foreign: bool) -> None:
    process = BoTorchSurrogate(transformed).fit(scaled_data(), SEEDS) if foreign else exact()
    model = ProcessModel(process).condition_on_observations(draw(2, 3, seed=1), draw(2, 1, seed=2))
    rows = draw(4, 3, seed=3)
    wanted = model.posterior(rows)
    stream = io.BytesIO(pickle.dumps(model))
    for other in (copy.deepcopy(model), pickle.load(stream)):
        close(other.posterior(rows).mean, wanted.mean, 1e-15)
    single = copy.deepcopy(model).to(torch.float32).posterior(rows.float())
    assert single.mean.dtype == torch.float32
    close(single.mean.double() / 30.0, wanted.mean / 30.0, 1e-3)
    close(model.posterior(rows).mean, wanted.mean, 1e-15)


def test_a_model_of_features_is_moved() -> None:
    surrogate = SGPR(inducing=Orthogonal(Activations(5), 4))
    model, rows = ProcessModel(surrogate.fit(scaled_data(), SEEDS)), draw(4, 3, seed=3)
    single = copy.deepcopy(model).to(torch.float32).posterior(rows.float())
    assert single.mean.dtype == torch.float32
    close(single.mean.double() / 30.0, model.posterior(rows).mean / 30.0, 1e-3)


@pytest.mark.cuda
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
def test_models_move_to_another_device() -> None:
    model, rows = ProcessModel(exact()), draw(4, 3, seed=3)
    moved = copy.deepcopy(model).to("cuda").posterior(rows.cuda())
    close(moved.mean.cpu(), model.posterior(rows).mean)


def test_settings_of_gpytorch_change_nothing() -> None:
    model, rows = ProcessModel(exact()), draw(4, 3, seed=3)
    given = model.condition_on_observations(draw(2, 3, seed=1), draw(2, 1, seed=2))
    wanted = given.posterior(rows)
    with (
        gpytorch.settings.max_cholesky_size(1),
        gpytorch.settings.fast_computations(True, True, True),
        gpytorch.settings.detach_test_caches(True),
        propagate_grads(False),
    ):
        found = given.posterior(rows)
    assert torch.equal(found.mean, wanted.mean)
    assert torch.equal(found.distribution.covariance_matrix, wanted.distribution.covariance_matrix)


def test_a_pending_point_explains_as_much_variance_as_conditioning_on_it() -> None:
    model, pending, x = ProcessModel(exact()), draw(2, 3, seed=1), draw(1, 3, seed=2)
    joint = model.posterior(torch.cat((x, pending))).distribution.covariance_matrix
    noisy = joint[1:, 1:] + exact().noise * torch.eye(2)
    left = joint[0, 0] - joint[0, 1:] @ torch.linalg.solve(noisy, joint[1:, 0])
    given = model.condition_on_observations(pending, draw(2, 1, seed=3))
    close(given.posterior(x).variance[0, 0], left, 1e-10)


def test_a_process_with_fantasies_or_no_basis_is_refused() -> None:
    process = exact()
    with pytest.raises(DataError, match="without fantasies"):
        ProcessModel(process.condition(draw(1, 3), draw(2, 1)))
    with pytest.raises(DataError, match="Pathwise"):
        ProcessModel(MockPosterior())


# --- BoTorch's acquisitions on it -----------------------------------------------------------------------


def sampler() -> SobolQMCNormalSampler:
    return SobolQMCNormalSampler(torch.Size([32]), seed=7)


ACQUISITIONS = {
    "LogEI": lambda model, x: LogExpectedImprovement(model, best_f=0.4),
    "UCB": lambda model, x: UpperConfidenceBound(model, beta=2.0),
    "mean": lambda model, x: PosteriorMean(model),
    "qLogEI": lambda model, x: qLogExpectedImprovement(model, best_f=0.4, sampler=sampler()),
    "qLogEI pending": lambda model, x: qLogExpectedImprovement(
        model, best_f=0.4, sampler=sampler(), X_pending=draw(2, 3, seed=8)
    ),
    "qLogNEI": lambda model, x: qLogNoisyExpectedImprovement(
        model, X_baseline=x, sampler=sampler(), prune_baseline=False, cache_root=False
    ),
    "MES": lambda model, x: qMaxValueEntropy(model, draw(50, 3, seed=9)),
    "MES pending": lambda model, x: qMaxValueEntropy(
        model, draw(50, 3, seed=9), X_pending=draw(2, 3, seed=8)
    ),
    "GIBBON": lambda model, x: qLowerBoundMaxValueEntropy(
        model, draw(50, 3, seed=9), X_pending=draw(2, 3, seed=8)
    ),
}


@pytest.mark.parametrize("name", ACQUISITIONS)
def test_acquisitions_have_the_values_and_gradients_that_they_have_on_botorchs_model(
    name: str, pair: tuple[ProcessModel, SingleTaskGP]
) -> None:
    found = []
    for model in pair:
        with manual_seed(3):
            function = ACQUISITIONS[name](model, smooth(12).x)
            x = draw(6, 1, 3, seed=4).requires_grad_()
            value = function(x)
        found.append((value.detach(), torch.autograd.grad(value.sum(), x)[0]))
    close(found[0][0], found[1][0], 1e-7)
    close(found[0][1], found[1][1], 1e-5)


def test_the_one_shot_knowledge_gradient_is_that_on_botorchs_model(
    pair: tuple[ProcessModel, SingleTaskGP],
) -> None:
    found = []
    for model in pair:
        gradient = qKnowledgeGradient(
            model, num_fantasies=4, sampler=SobolQMCNormalSampler(torch.Size([4]), 2)
        )
        x = draw(5, 6, 3, seed=4).requires_grad_()
        value = gradient(x)
        found.append((value.detach(), torch.autograd.grad(value.sum(), x)[0]))
    close(found[0][0], found[1][0])
    close(found[0][1], found[1][1], 1e-6)


def test_optimize_acqf_finds_candidates_of_the_model(pair: tuple[ProcessModel, SingleTaskGP]) -> None:
    bounds = torch.tensor([[0.0] * 3, [1.0] * 3], dtype=torch.float64)
    values = []
    for model in pair:
        with manual_seed(0):
            function = qLogExpectedImprovement(model, best_f=0.4, sampler=sampler())
            options = {"num_restarts": 2, "raw_samples": 16, "fixed_features": {2: 0.5}}
            x, value = optimize_acqf(function, bounds, q=2, sequential=True, **options)
            assert x.shape == (2, 3)
            assert bool((x[:, 2] == 0.5).all())
            values.append(value.detach().sum())
    assert abs(float(values[0] - values[1])) < 1e-2
    with manual_seed(0):
        x, _ = optimize_acqf(
            qKnowledgeGradient(pair[0], num_fantasies=4), bounds, q=1, num_restarts=2, raw_samples=8
        )
    assert bool(((x >= 0) & (x <= 1)).all())


# --- a BoTorch model as a surrogate --------------------------------------------------------------------


def plain(x: Tensor, y: Tensor, noise: Tensor | None) -> SingleTaskGP:
    return SingleTaskGP(x, y, noise)


def transformed(x: Tensor, y: Tensor, noise: Tensor | None) -> SingleTaskGP:
    normalize, standardize = Normalize(x.shape[-1]), Standardize(1)
    return SingleTaskGP(x, y, noise, input_transform=normalize, outcome_transform=standardize)


def scaled_data(count: int = 15) -> Dataset:
    """Rows that fill a part of the cube, and outcomes far from standardised."""
    data = smooth(count)
    return replace(data, x=0.2 + 0.5 * data.x, y=30.0 + 12.0 * data.y)


@pytest.mark.parametrize("factory", [pytest.param(plain, marks=pytest.mark.slow), transformed])
def test_a_botorch_model_is_a_surrogate(factory: Any) -> None:
    check_surrogate(BoTorchSurrogate(factory))


@pytest.mark.slow
def test_a_mixed_model_is_a_surrogate() -> None:
    check_surrogate(BoTorchSurrogate(lambda x, y, noise: MixedSingleTaskGP(x, y, cat_dims=[2])))


def with_warp(x: Tensor, y: Tensor, noise: Tensor | None) -> SingleTaskGP:
    bounds = torch.tensor([[0.0] * 3, [1.0] * 3], dtype=torch.float64)
    return SingleTaskGP(x, y, noise, input_transform=Warp(3, indices=[0, 1, 2], bounds=bounds))


@pytest.mark.parametrize("factory", [plain, transformed, with_warp])
def test_the_process_is_the_posterior_of_the_model_in_raw_units(factory: Any) -> None:
    made = []

    def remembered(*data: Any) -> SingleTaskGP:
        made.append(factory(*data))
        return made[-1]

    process = BoTorchSurrogate(remembered, fit_model=factory is not with_warp).fit(scaled_data(), SEEDS)
    rows = draw(6, 3, seed=4)
    theirs = made[0].posterior(rows)
    close(process.mean(rows), theirs.mean[:, 0], 1e-6)
    close(process.cov(rows, rows), theirs.distribution.covariance_matrix, 1e-6)
    noisy = made[0].posterior(rows, observation_noise=True).variance[:, 0]
    close(process.var(rows) + process.noise, noisy, 1e-6)


def test_conditioning_under_transforms_is_a_model_rebuilt_in_raw_units() -> None:
    made = []

    def remembered(*data: Any) -> SingleTaskGP:
        made.append(transformed(*data))
        return made[-1]

    data, more = scaled_data(), 0.1 + 0.8 * draw(3, 3, seed=8)
    outcomes = 25.0 + 9.0 * draw(3, seed=9)
    process = BoTorchSurrogate(remembered).fit(data, SEEDS).condition(more, outcomes)
    first = made[0]
    seen = first.input_transform
    mean, deviation = first.outcome_transform.means.item(), first.outcome_transform.stdvs.item()
    x, y = torch.cat((data.x, more)), (torch.cat((data.y, outcomes)) - mean) / deviation
    with validate_input_scaling(False):
        rebuilt = SingleTaskGP(seen(x), y[:, None], outcome_transform=None)
    for part in ("covar_module", "mean_module", "likelihood"):
        getattr(rebuilt, part).load_state_dict(getattr(first, part).state_dict())
    rows = draw(5, 3, seed=4)
    theirs = rebuilt.posterior(seen(rows))
    close(process.mean(rows), mean + deviation * theirs.mean[:, 0], 1e-6)
    close(process.var(rows), deviation**2 * theirs.variance[:, 0], 1e-6)


def test_known_noise_reaches_the_model_in_its_own_units() -> None:
    made = []

    def remembered(*data: Any) -> SingleTaskGP:
        made.append((transformed(*data), data[2]))
        return made[-1][0]

    noise = 0.5 + 4.0 * draw(15, seed=3)
    noise[3] = torch.nan
    process = BoTorchSurrogate(remembered).fit(replace(scaled_data(), noise=noise), SEEDS)
    model, variances = made[0]
    filled = torch.where(noise.isnan(), noise.nanmean(), noise)
    close(variances[:, 0], filled, 1e-12)
    close(process.noise, filled.mean(), 1e-6)
    rows = draw(5, 3, seed=4)
    close(process.mean(rows), model.posterior(rows).mean[:, 0], 1e-6)
    x, y = draw(2, 3, seed=5), 30.0 + draw(2, seed=6)
    few, many = (process.condition(x, y, y.new_full((2,), level)).var(rows) for level in (0.1, 40.0))
    assert bool((few < many).all())


def test_fits_follow_from_the_seeds_and_leave_the_global_random_numbers() -> None:
    torch.manual_seed(5)
    before = torch.get_rng_state()
    surrogate = BoTorchSurrogate(lambda *data: plain(*data))
    first = surrogate.fit(smooth(10), SEEDS)
    assert torch.equal(torch.get_rng_state(), before)
    torch.rand(3)
    assert torch.equal(first.mean(draw(4, 3)), surrogate.fit(smooth(10), SEEDS).mean(draw(4, 3)))


def test_a_warm_start_begins_where_the_last_fit_ended_until_the_data_have_grown(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    begun = []

    def noted(mll: Any) -> None:
        begun.append(mll.likelihood.noise.item())

    monkeypatch.setattr(botorch_surrogate, "fit_gpytorch_mll", noted)
    surrogate, data = BoTorchSurrogate(plain), smooth(10)
    fresh = surrogate.fit(data, SEEDS)
    vector = fresh.hyperparameters.clone()
    vector[1] += 1.0  # the first parameter is the raw noise
    surrogate.fit(data, SEEDS, WarmStart(vector, 10))
    surrogate.fit(data, SEEDS, WarmStart(vector, 5))
    surrogate.fit(data, SEEDS, WarmStart(vector[:3], 10))
    assert begun[1] > 1.5 * begun[0]
    assert begun[2:] == [begun[0], begun[0]]


def test_a_model_that_comes_fitted_is_left_as_it_is() -> None:
    def fixed(x: Tensor, y: Tensor, noise: Tensor | None) -> SingleTaskGP:
        model = plain(x, y, noise)
        model.covar_module.lengthscale = 0.7
        return model

    process = BoTorchSurrogate(fixed, fit_model=False).fit(smooth(10), SEEDS)
    close(process.kernel.models[0].covar_module.lengthscale, torch.full((1, 3), 0.7).double(), 1e-12)


def test_a_failed_fit_is_a_fit_error(monkeypatch: pytest.MonkeyPatch) -> None:
    def failing(mll: Any) -> None:
        raise ModelFittingError("no luck")

    monkeypatch.setattr(botorch_surrogate, "fit_gpytorch_mll", failing)
    with pytest.raises(FitError, match="no luck"):
        BoTorchSurrogate(plain).fit(smooth(8), SEEDS)
    with pytest.raises(FitError, match="at least one"):
        BoTorchSurrogate(plain).fit(smooth(0), SEEDS)


@pytest.mark.parametrize(
    ("factory", "law"),
    [
        (lambda x, y, noise: SingleTaskVariationalGP(x, y), "exact BoTorch model of one outcome"),
        (lambda x, y, noise: SingleTaskGP(x, torch.cat((y, y), -1)), "of one outcome"),
        (lambda x, y, noise: SingleTaskGP(x, y.exp(), outcome_transform=Log()), "affine, got Log"),
        (lambda x, y, noise: SingleTaskGP(x, y, mean_module=LinearMean(3)), "constant prior mean"),
        (lambda x, y, noise: None, "got NoneType"),
        (lambda x, y, noise: SingleTaskGP(x.float(), y.float()), "dtype and on the device of its data"),
        (lambda x, y, noise: SingleTaskGP(x, y).float(), "dtype and on the device of its data"),
    ],
)
def test_models_that_no_exact_process_can_stand_for_are_refused(factory: Any, law: str) -> None:
    with pytest.raises(DataError, match=law):
        BoTorchSurrogate(factory).fit(smooth(8), SEEDS)


def test_a_model_whose_posterior_is_not_that_of_its_prior_is_refused() -> None:
    class Shifted(SingleTaskGP):
        def posterior(self, X: Tensor, **options: Any) -> Any:
            return super().posterior(X + 0.3, **options)

    with pytest.raises(DataError, match="posterior must be that of its prior"):
        BoTorchSurrogate(lambda x, y, noise: Shifted(x, y)).fit(smooth(8), SEEDS)


def test_things_that_are_no_factories_are_refused() -> None:
    for make in (BoTorchSurrogate, BoTorchAcquisition):
        with pytest.raises(DataError, match="factory must be a function"):
            make(3)


@pytest.mark.parametrize("factory", [plain, transformed])
def test_paths_of_thompson_sampling_have_the_moments_of_the_posterior(factory: Any) -> None:
    from bo_suite.surrogates.paths import draw_paths

    process = BoTorchSurrogate(factory).fit(scaled_data(), SEEDS)
    rows = draw(4, 3, seed=4)
    values = draw_paths(process, 4000, SEEDS)(rows)
    deviation = process.var(rows).sqrt()
    assert float(((values.mean(0) - process.mean(rows)) / deviation).abs().max()) < 0.15
    assert float((values.std(0) / deviation - 1.0).abs().max()) < 0.15


def test_paths_of_a_kernel_without_known_spectrum_are_refused() -> None:
    surrogate = BoTorchSurrogate(lambda x, y, noise: with_warp(x, y, noise), fit_model=False)
    model_of = BoTorchSurrogate(lambda x, y, noise: MixedSingleTaskGP(x, y, cat_dims=[2]), fit_model=False)
    with pytest.raises(DataError, match="RBF or Matérn"):
        acquisition.ThompsonSampling(surrogate=model_of).build(smooth(8), SEEDS)
    made = surrogate.fit(smooth(8), SEEDS)
    made.kernel.models[0].input_transform.concentration0.data.fill_(2.0)
    with pytest.raises(DataError, match="affine input transform"):
        made.kernel.frequencies(made.theta, 8, 3, SEEDS)


OURS = ("LogExpectedImprovement", "NoisyExpectedImprovement", "ThompsonSampling", "KnowledgeGradient")


@pytest.mark.slow
@pytest.mark.parametrize("kind", OURS)
def test_our_acquisitions_keep_their_contract_on_a_botorch_model(kind: str) -> None:
    check_acquisition(getattr(acquisition, kind)(surrogate=BoTorchSurrogate(transformed)))


@pytest.mark.parametrize("kind", OURS)
def test_our_acquisitions_are_built_of_a_botorch_model_with_pending_points(kind: str) -> None:
    recipe = getattr(acquisition, kind)(surrogate=BoTorchSurrogate(transformed, fit_model=False))
    score, rows = recipe.build(smooth(8, pending=2), SEEDS), draw(16, 3, seed=3)
    assert bool(score(rows).isfinite().all())
    leaf = rows.clone().requires_grad_()
    (gradient,) = torch.autograd.grad(score(leaf).sum(), leaf)
    step = torch.tensor([1e-6, 0.0, 0.0], dtype=torch.float64)
    slope = (score(rows + step) - score(rows - step)) / 2e-6
    assert float(((gradient[:, 0] - slope).abs() / (1.0 + slope.abs())).max()) < 1e-3


# --- a BoTorch acquisition as ours --------------------------------------------------------------------------

FACTORIES = {
    "LogEI": lambda model, seen: LogExpectedImprovement(model, best_f=seen.best_f),
    "UCB": lambda model, seen: UpperConfidenceBound(model, beta=2.0),
    "qLogEI": lambda model, seen: qLogExpectedImprovement(model, best_f=seen.best_f),
    "qLogNEI": lambda model, seen: qLogNoisyExpectedImprovement(
        model, X_baseline=seen.X, sampler=seen.sampler(64)
    ),
    "MES": lambda model, seen: qMaxValueEntropy(model, seen.candidates(128)),
    "GIBBON": lambda model, seen: qLowerBoundMaxValueEntropy(model, seen.candidates(128)),
}
FIXED = BoTorchSurrogate(plain, fit_model=False)


QUICK = ("LogEI", "qLogNEI", "GIBBON")


@pytest.mark.parametrize(
    "name",
    [*QUICK, *(pytest.param(name, marks=pytest.mark.slow) for name in ("UCB", "MES"))],
)
def test_a_botorch_acquisition_is_an_acquisition(name: str) -> None:
    check_acquisition(BoTorchAcquisition(FACTORIES[name]))


@pytest.mark.slow
def test_botorch_at_both_ends_is_an_acquisition() -> None:
    check_acquisition(BoTorchAcquisition(FACTORIES["LogEI"], surrogate=BoTorchSurrogate(transformed)))


def test_expected_improvement_is_that_of_this_package() -> None:
    data, rows = smooth(12), draw(20, 3, seed=3)
    theirs = BoTorchAcquisition(FACTORIES["LogEI"], surrogate=ExactGP()).build(data, SEEDS)
    ours = acquisition.LogExpectedImprovement(surrogate=ExactGP()).build(data, SEEDS)
    near = ours(rows) > -30.0
    close(theirs(rows)[near], ours(rows)[near], 1e-6)


def test_scores_follow_from_the_seeds_and_leave_the_global_random_numbers() -> None:
    recipe = BoTorchAcquisition(FACTORIES["qLogEI"], surrogate=FIXED)
    data, rows = smooth(10), draw(8, 3, seed=3)
    torch.manual_seed(5)
    before = torch.get_rng_state()
    first = recipe.build(data, SEEDS)(rows)
    assert torch.equal(torch.get_rng_state(), before)
    torch.rand(3)
    assert torch.equal(first, recipe.build(data, SEEDS)(rows))
    assert not torch.equal(first, recipe.build(data, Seeds.of(1, 1))(rows))


def test_monte_carlo_acquisitions_are_told_what_is_pending() -> None:
    data = smooth(10, pending=2)
    recipe = BoTorchAcquisition(FACTORIES["qLogEI"], surrogate=FIXED)
    score, rows = recipe.build(data, SEEDS), draw(40, 3, seed=3)
    assert torch.equal(score.acquisitions[0].X_pending, data.pending)
    joint = score(torch.cat((rows, data.pending)))
    assert bool((joint[:40].amax() > joint[40:]).all())  # nothing is gained by a point that is pending
    close(joint[40], joint[41], 1e-1)


def test_analytic_acquisitions_see_pending_points_as_observed_at_their_means() -> None:
    data, rows = smooth(10, pending=2), draw(8, 3, seed=3)
    score = BoTorchAcquisition(FACTORIES["UCB"], surrogate=FIXED).build(data, SEEDS)
    process = FIXED.fit(data, SEEDS)
    given = process.condition(data.pending, process.mean(data.pending))
    close(score(rows), -process.mean(rows) + (2.0 * given.var(rows)).sqrt(), 1e-6)


def test_what_is_seen_is_negated_and_on_the_scale_of_the_model() -> None:
    found: list[tuple[Any, AcquisitionContext]] = []

    def factory(model: Any, seen: AcquisitionContext) -> Any:
        found.append((model, seen))
        return FACTORIES["LogEI"](model, seen)

    data = smooth(10, pending=1)
    BoTorchAcquisition(factory, surrogate=FIXED).build(data, SEEDS)
    model, seen = found[0]
    assert torch.equal(seen.Y[:, 0], -data.y)
    assert float(seen.best_f) == -float(data.y.min())
    assert torch.equal(seen.X_pending, data.pending)
    assert torch.equal(seen.bounds, torch.tensor([[0.0] * 3, [1.0] * 3], dtype=torch.float64))
    assert float((model.posterior(data.x).mean - seen.Y).square().mean()) < float(seen.Y.var())


def test_one_shot_acquisitions_and_what_is_none_are_refused() -> None:
    data = smooth(8)
    with pytest.raises(DataError, match="one-shot qKnowledgeGradient"):
        BoTorchAcquisition(lambda model, seen: qKnowledgeGradient(model, 4), surrogate=FIXED).build(
            data, SEEDS
        )
    with pytest.raises(DataError, match="must return a BoTorch AcquisitionFunction"):
        BoTorchAcquisition(lambda model, seen: model, surrogate=FIXED).build(data, SEEDS)
    with pytest.raises(DataError, match="does not support fidelities"):
        build_score(
            BoTorchAcquisition(FACTORIES["LogEI"]), replace(data, columns=Columns(fidelities=(2,))), SEEDS
        )


# --- the loop, as in the README ---------------------------------------------------------------------------


def test_a_fitted_process_drives_optimize_acqf() -> None:
    x = torch.rand(12, 2, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    y = ((x - 0.3) ** 2).sum(-1)
    y = (y - y.mean()) / y.std()
    process = ExactGP().fit(Dataset(x, y), Seeds.of(0, 0))
    model = ProcessModel(process, negate=True)  # BoTorch maximises
    function = qLogExpectedImprovement(model, best_f=-y.min(), sampler=sampler())
    bounds = torch.tensor([[0.0, 0.0], [1.0, 1.0]], dtype=torch.float64)
    with manual_seed(0):
        candidates, _ = optimize_acqf(function, bounds, q=2, num_restarts=4, raw_samples=64)
    assert float((candidates[0] - 0.3).abs().max()) < 0.3


SPACE = Space({"x": Float(-1.0, 1.0), "kind": Choice(["plain", "raised"])})


def shifted(params: dict[str, Any]) -> float:
    return float((params["x"] - 0.3) ** 2 + (0.5 if params["kind"] == "raised" else 0.0))


@pytest.mark.parametrize(
    "recipe",
    [
        pytest.param(
            acquisition.LogExpectedImprovement(surrogate=BoTorchSurrogate(plain)), marks=pytest.mark.slow
        ),
        BoTorchAcquisition(FACTORIES["LogEI"]),
        pytest.param(BoTorchAcquisition(FACTORIES["qLogNEI"]), marks=pytest.mark.slow),
    ],
    ids=["model", "analytic", "Monte Carlo"],
)
def test_an_optimizer_finds_the_minimum_with_parts_of_botorch(recipe: Any) -> None:
    optimizer = Optimizer(SPACE, acquisition=recipe, seed=1, budget=10)
    for _ in range(10):
        trial = optimizer.ask()
        optimizer.tell(trial, shifted(trial.params))
    sources = {trial.provenance["source"] for trial in optimizer.trials}
    assert sources == {"design", "acquisition"}
    assert optimizer.best.value < 0.02
    batch = optimizer.ask(2)  # the second one sees the first as pending
    assert batch[0].params != batch[1].params


@pytest.mark.parametrize(
    "surrogate", [ExactGP(), pytest.param(BoTorchSurrogate(plain), marks=pytest.mark.slow)]
)
def test_points_of_which_a_part_is_given_are_chosen_by_parts_of_botorch(surrogate: Any) -> None:
    recipe = BoTorchAcquisition(lambda model, seen: LogExpectedImprovement(model, seen.best_f), surrogate)
    opt = Optimizer(Space({"x": Float(0, 1), "y": Float(0, 1), "kind": Choice(["a", "b"])}), recipe)
    for _ in range(8):
        trial = opt.ask()
        opt.tell(trial, (trial.params["y"] - trial.params["x"]) ** 2)
    for x in (0.2, 0.8):
        trial = opt.ask(fixed={"x": x, "kind": "b"})
        assert (trial.params["x"], trial.params["kind"]) == (x, "b")
        assert abs(trial.params["y"] - x) < 0.3
        opt.tell(trial, (trial.params["y"] - x) ** 2)


def test_features_that_optimize_acqf_holds_fixed_are_chosen_around() -> None:
    model = ProcessModel(exact(), negate=True)
    score = PosteriorMean(model)
    bounds = torch.stack((torch.zeros(3), torch.ones(3))).double()
    found, value = optimize_acqf(score, bounds, 1, 4, 64, fixed_features={0: 0.7})
    rows = draw(500, 3)
    rows[:, 0] = 0.7
    assert float(found[0, 0]) == 0.7
    assert float(value) >= float(score(rows[:, None]).max())
