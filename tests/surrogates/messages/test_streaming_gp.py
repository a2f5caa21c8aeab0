"""A sparse process that data reach as messages, beside closed forms and dense joint processes."""

import math
import pickle

import pytest
import torch
from torch import Tensor
from torch.distributions import MultivariateNormal

from bo_suite.data import Dataset
from bo_suite.errors import ArgumentError, DataError
from bo_suite.kernels import Matern52, SquaredExponential
from bo_suite.surrogates import SGPR
from bo_suite.surrogates.messages import (
    FixedPrecision,
    GammaPrecision,
    NoisePrecision,
    Outputs,
    ScalarOutputs,
    StreamingGP,
    VectorOutputs,
    WishartPrecision,
)
from bo_suite.surrogates.variational.collapsed import Collapsed, statistics_of

NOISE = 0.02
EYE = torch.eye(3, dtype=torch.float64)
C = torch.tensor([[1.0, 0.6, -0.3], [0.6, 1.5, 0.2], [-0.3, 0.2, 0.7]], dtype=torch.float64)
W = torch.tensor([[30.0, 5.0, 0.0], [5.0, 20.0, -4.0], [0.0, -4.0, 50.0]], dtype=torch.float64)


def draws(*shape: int, seed: int = 0) -> Tensor:
    return torch.rand(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def normal(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def data_of(n: int = 40, d: int = 2, lead: tuple[int, ...] = ()) -> tuple[Tensor, Tensor]:
    x = draws(*lead, n, d)
    return x, torch.sin(6.0 * x).sum(-1) + math.sqrt(NOISE) * normal(*lead, n, seed=1)


def fixed(precision: float) -> FixedPrecision:
    return FixedPrecision(torch.full((1, 1), precision, dtype=torch.float64))


def gamma(shape: float = 1.0, rate: float = 0.1, outputs: int = 1) -> GammaPrecision:
    as_tensors = (torch.tensor(each, dtype=torch.float64) for each in (shape, rate))
    return GammaPrecision(*as_tensors, outputs)


def theta_of(d: int = 2, lead: tuple[int, ...] = ()) -> Tensor:
    return 0.3 * draws(*lead, d + 1, seed=3) - 0.8


def started(
    noise: NoisePrecision,
    outputs: Outputs | None = None,
    lead: tuple[int, ...] = (),
    m: int = 10,
    kernel: Matern52 | SquaredExponential | None = None,
) -> StreamingGP:
    inducing = draws(*lead, m, 2, seed=2)
    theta = theta_of(lead=lead)
    return StreamingGP.start(kernel or Matern52(), theta, inducing, outputs or ScalarOutputs(), noise)


def test_with_known_noise_q_and_the_bound_are_those_of_sparse_regression() -> None:
    x, y = data_of()
    gp = started(fixed(1.0 / NOISE), ScalarOutputs(mean=0.3)).observed(x, y)
    data, noise = Dataset(x, y), torch.tensor(NOISE, dtype=torch.float64)
    expected = Collapsed.of(statistics_of(gp.basis, data, noise), 0.3)
    torch.testing.assert_close(gp.process.precision_chol, expected.precision_chol, atol=1e-8, rtol=1e-8)
    torch.testing.assert_close(gp.process.linear, expected.linear, atol=1e-8, rtol=1e-8)
    torch.testing.assert_close(gp.bound, expected.bound, atol=1e-8, rtol=1e-8)
    eta = torch.cat((gp.basis.theta, noise.log()[None]))
    sgpr = SGPR(kernel=Matern52(), mean=0.3).process(data, eta, gp.basis.rows)
    at = draws(7, 2, seed=5)
    torch.testing.assert_close(gp.process.mean(at), sgpr.mean(at), atol=1e-8, rtol=1e-8)
    torch.testing.assert_close(gp.process.cov(at, at), sgpr.cov(at, at), atol=1e-8, rtol=1e-8)
    torch.testing.assert_close(gp.process.hyperparameters, eta)


@pytest.mark.parametrize(
    ("outputs", "noise"),
    [
        (ScalarOutputs(0.2), gamma()),
        (VectorOutputs(C), WishartPrecision(torch.tensor(4.0, dtype=torch.float64), EYE)),
        (VectorOutputs(EYE, C[0]), gamma(outputs=3)),
    ],
)
def test_order_and_batches_do_not_matter(outputs: Outputs, noise: NoisePrecision) -> None:
    x, y = data_of(30)
    if isinstance(outputs, VectorOutputs):
        y = torch.stack((y, y.cos(), x[:, 0]), -1)
    start = started(noise, outputs)
    whole = start.observed(x, y)
    one_by_one = start
    for i in torch.randperm(30, generator=torch.Generator().manual_seed(0)).tolist():
        one_by_one = one_by_one.observed(x[i : i + 1], y[i : i + 1])
    assert one_by_one.sums.count == 30
    for one, other in ((one_by_one, whole), (one_by_one.converged(), whole.converged())):
        torch.testing.assert_close(one.precision_chol, other.precision_chol, atol=1e-8, rtol=1e-8)
        torch.testing.assert_close(one.process.linear, other.process.linear, atol=1e-8, rtol=1e-8)
        torch.testing.assert_close(one.bound, other.bound, atol=1e-8, rtol=1e-8)
        torch.testing.assert_close(one.noise.mean, other.noise.mean, atol=1e-8, rtol=1e-8)


def test_the_factor_after_updates_is_that_of_the_sums() -> None:
    x, y = data_of(6)
    for noise, outputs in ((gamma(), ScalarOutputs()), (FixedPrecision(W), VectorOutputs(C))):
        targets = y if isinstance(outputs, ScalarOutputs) else y[:, None] * C[0]
        gp = started(noise, outputs).observed(x[:3], targets[:3]).observed(x[3:], targets[3:])
        anew = gp.sums.precision_chol(gp.noise.mean)
        torch.testing.assert_close(gp.precision_chol, anew, atol=1e-10, rtol=1e-10)


def test_coordinate_ascent_never_lowers_the_bound_and_ends_at_a_fixed_point() -> None:
    x, y = data_of(60)
    gp = started(gamma(), m=30).observed(x, y)
    bounds = [gp.bound]
    for _ in range(60):
        gp = gp.iterated()
        bounds.append(gp.bound)
    steps = torch.stack(bounds).diff()
    assert bool((steps > -1e-10).all())
    assert float(steps[0]) > 1.0
    settled = gp.converged(1e-14)
    torch.testing.assert_close(gp.noise.mean, settled.noise.mean, rtol=1e-6, atol=0.0)
    assert float(settled.noise.mean) == pytest.approx(1.0 / NOISE, rel=0.7)


def test_the_bound_is_below_the_log_evidence() -> None:
    """With few data by quadrature over w of the exact evidence; equal to it with known noise and Z = X."""
    x, y = data_of(8)
    kernel = SquaredExponential()
    k = kernel.gram(theta_of(), x)[0]
    eye = torch.eye(8, dtype=torch.float64)
    gp = StreamingGP.start(kernel, theta_of(), x, ScalarOutputs(), fixed(1.0 / NOISE)).observed(x, y)
    exact = MultivariateNormal(torch.zeros_like(y), k + NOISE * eye).log_prob(y)
    assert float(gp.bound) == pytest.approx(float(exact), abs=1e-5)
    prior = gamma(2.0, 0.1)
    log_w = torch.linspace(-6.0, 9.0, 3000, dtype=torch.float64)
    joint = torch.distributions.Gamma(2.0, 0.1).log_prob(log_w.exp()) + log_w
    joint = joint + MultivariateNormal(torch.zeros_like(y), k + eye / log_w.exp()[:, None, None]).log_prob(y)
    evidence = torch.logsumexp(joint, 0) + (log_w[1] - log_w[0]).log()
    for inducing in (x, x[:4]):
        bound = StreamingGP.start(kernel, theta_of(), inducing, ScalarOutputs(), prior).observed(x, y)
        gap = float(evidence - bound.converged().bound)
        assert gap > 0.0
        assert gap < (2.0 if len(inducing) == 8 else 50.0)


def test_running_inference_again_over_the_same_data_changes_nothing() -> None:
    x, y = data_of()
    at = draws(9, 2, seed=6)
    once = started(gamma()).observed(x, y).converged()
    again = once.converged().iterated().converged()
    torch.testing.assert_close(again.process.var(at), once.process.var(at), rtol=1e-5, atol=0.0)
    assert again.sums.count == once.sums.count
    # a posterior that is the next prior for the same data, as published, counts each datum twice
    twice = once.observed(x, y).converged()
    assert bool((twice.process.var(at) < 0.8 * once.process.var(at)).any())


def dense_joint(x: Tensor, y: Tensor, at: Tensor, noise: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Mean and covariance of C ⊗ k at a row each, and log evidence, of n P numbers at once."""
    kernel, p, n = Matern52(), y.shape[-1], len(x)
    k = torch.kron(kernel.gram(theta_of(), x)[0], C)
    k = k + torch.kron(torch.eye(n, dtype=x.dtype), noise.contiguous())
    cross = torch.kron(kernel.cross(theta_of(), at, x)[0], C)
    solved = torch.linalg.solve(k, cross.mT)
    mean = (solved.mT @ y.flatten()).unflatten(0, (-1, p))
    prior = torch.kron(kernel.gram(theta_of(), at)[0], C)
    full = (prior - cross @ solved).unflatten(0, (-1, p)).unflatten(-1, (-1, p))
    evidence = MultivariateNormal(torch.zeros_like(y.flatten()), k).log_prob(y.flatten())
    return mean, torch.stack([full[i, :, i] for i in range(len(at))]), evidence


def test_several_outputs_equal_the_joint_process_at_once() -> None:
    x, y = data_of(12)
    y, at = torch.stack((y, y.cos(), x[:, 0]), -1), draws(5, 2, seed=6)
    gp = StreamingGP.start(Matern52(), theta_of(), x, VectorOutputs(C), FixedPrecision(W))
    gp = gp.observed(x[:7], y[:7]).observed(x[7:], y[7:])
    mean, cov, evidence = dense_joint(x, y, at, torch.linalg.inv(W))
    # K_uu has jitter of 1e-8, which the joint process has not
    predicted, spread = gp.predict(at)
    torch.testing.assert_close(predicted, mean, atol=1e-6, rtol=0.0)
    torch.testing.assert_close(spread, cov, atol=1e-6, rtol=0.0)
    assert float(gp.bound) == pytest.approx(float(evidence), abs=1e-4)
    shifted = StreamingGP.start(Matern52(), theta_of(), x, VectorOutputs(C, C[0]), FixedPrecision(W))
    moved = shifted.observed(x, y + C[0]).predict(at)[0]
    torch.testing.assert_close(moved, predicted + C[0], atol=1e-8, rtol=1e-8)


def test_several_outputs_equal_the_kronecker_algebra_written_out() -> None:
    """q of m r whitened values from I + Rᵀ W R ⊗ S, formed, with fewer inducing inputs than data."""
    x, y = data_of(12)
    y = torch.stack((y, y.cos(), x[:, 0]), -1)
    outputs = VectorOutputs(C)
    gp = started(FixedPrecision(W), outputs, m=5).observed(x, y)
    a, root = gp.basis.whiten(x), outputs.root
    torch.testing.assert_close(root @ root.mT, C)
    precision = torch.eye(15, dtype=x.dtype) + torch.kron(root.mT @ W @ root, a @ a.mT)
    mean = torch.linalg.solve(precision, (root.mT @ W @ y.mT @ a.mT).flatten()).unflatten(0, (3, 5))
    at = draws(4, 2, seed=6)
    b = gp.basis.whiten(at)
    torch.testing.assert_close(gp.predict(at)[0], (root @ mean @ b).mT, atol=1e-8, rtol=1e-8)
    cov = torch.linalg.inv(precision).unflatten(0, (3, 5)).unflatten(-1, (3, 5))
    left = Matern52().diagonal(theta_of(), at) - b.square().sum(0)
    inner = torch.einsum("aibj,in,jn->nab", cov, b, b) + left[:, None, None] * EYE
    torch.testing.assert_close(gp.predict(at)[1], root @ inner @ root.mT, atol=1e-8, rtol=1e-8)
    optimum = gp.sums.optimum(W)
    residual = y.mT - root @ mean @ a
    second = torch.einsum("aibj,in,jn->ab", cov, a, a)
    unexplained = (Matern52().diagonal(theta_of(), x) - a.square().sum(0)).sum()
    scatter = residual @ residual.mT + root @ (second + unexplained * EYE) @ root.mT
    torch.testing.assert_close(optimum.scatter, scatter, atol=1e-8, rtol=1e-8)
    divergence = 0.5 * (
        cov.flatten(0, 1).flatten(1).trace() + mean.square().sum() - 15.0 + torch.logdet(precision)
    )
    torch.testing.assert_close(optimum.divergence, divergence, atol=1e-8, rtol=1e-8)


def test_a_singular_coregionalisation_has_as_many_processes_as_its_rank() -> None:
    weights = torch.tensor([1.0, -2.0, 0.5], dtype=torch.float64)
    x, y = data_of(12)
    gp = started(gamma(outputs=3), VectorOutputs(weights[:, None] * weights))
    gp = gp.observed(x, y[:, None] * weights).converged()
    assert gp.mixing.shape == (3, 1)
    mean = gp.predict(x)[0]
    torch.testing.assert_close(mean, mean[:, :1] / weights[0] * weights, atol=1e-8, rtol=1e-8)


def test_wishart_noise_is_learnt_and_the_bound_never_falls() -> None:
    n = 300
    x, y = data_of(n)
    cov = torch.linalg.inv(W)
    clean = torch.stack((torch.sin(5 * x[:, 0]), x[:, 1], torch.cos(4 * x[:, 1])), -1)
    y = clean + normal(n, 3, seed=9) @ torch.linalg.cholesky(cov).mT
    prior = WishartPrecision(torch.tensor(3.0, dtype=torch.float64), 0.03 * EYE)
    gp = started(prior, VectorOutputs(EYE), m=50).observed(x, y)
    bounds = [gp.bound]
    for _ in range(30):
        gp = gp.iterated()
        bounds.append(gp.bound)
    assert bool((torch.stack(bounds).diff() > -1e-9).all())
    assert isinstance(gp.noise, WishartPrecision)
    assert float(gp.noise.freedom) == pytest.approx(3.0 + n)
    learnt = torch.linalg.inv(gp.noise.mean)
    assert float((learnt - cov).abs().max()) < 0.3 * float(cov.max())


@pytest.mark.parametrize("kernel", [SquaredExponential(), Matern52()])
def test_uncertain_inputs_have_a_bound_below_the_evidence_averaged_over_them(
    kernel: SquaredExponential | Matern52,
) -> None:
    n, count = 5, 20_000
    x, y = data_of(n)
    std = 0.1 * draws(n, 2, seed=4)
    inducing = draws(12, 2, seed=2)
    gp = StreamingGP.start(kernel, theta_of(), inducing, ScalarOutputs(), fixed(1.0 / NOISE))
    gp = gp.observed(x, y, std)
    nodes = x + std * normal(count, n, 2, seed=5)
    k = kernel.gram(theta_of().expand(count, -1), nodes)[0] + NOISE * torch.eye(n, dtype=x.dtype)
    evidence = MultivariateNormal(torch.zeros_like(y), k).log_prob(y).logsumexp(0) - math.log(count)
    assert float(gp.bound) < float(evidence) + 0.02
    at_means = StreamingGP.start(kernel, theta_of(), x, ScalarOutputs(), fixed(1.0 / NOISE)).observed(x, y)
    assert not torch.allclose(gp.bound, at_means.bound, atol=0.01)


def test_uncertain_inputs_in_batches_are_those_at_once() -> None:
    x, y = data_of(20)
    std = torch.zeros_like(x)
    std[5:, 0] = 0.05
    start = started(gamma(), kernel=SquaredExponential())
    whole = start.observed(x, y, std).converged()
    parts = (
        start.observed(x[:5], y[:5]).observed(x[5:12], y[5:12], std[5:12]).observed(x[12:], y[12:], std[12:])
    )
    parts = parts.converged()
    torch.testing.assert_close(parts.bound, whole.bound, atol=1e-6, rtol=1e-8)
    torch.testing.assert_close(parts.process.mean(x), whole.process.mean(x), atol=1e-6, rtol=1e-6)
    nearly = start.observed(x, y, torch.full_like(x, 1e-7)).converged()
    exact = start.observed(x, y).converged()
    torch.testing.assert_close(nearly.process.mean(x), exact.process.mean(x), atol=1e-5, rtol=0.0)


def test_replicates_equal_solo_runs_and_settled_ones_wait() -> None:
    x, y = data_of(20, lead=(3,))
    y[1] = 3.0 * normal(20, seed=4)
    together = started(gamma(), lead=(3,)).observed(x, y).converged()
    for i in range(3):
        alone = StreamingGP.start(
            Matern52(), theta_of(lead=(3,))[i], draws(3, 10, 2, seed=2)[i], ScalarOutputs(), gamma()
        )
        alone = alone.observed(x[i], y[i]).converged()
        torch.testing.assert_close(together.noise.mean[i], alone.noise.mean, rtol=1e-8, atol=0.0)
        torch.testing.assert_close(together.bound[i], alone.bound)
        torch.testing.assert_close(together.process.mean(x)[i], alone.process.mean(x[i]))
    several = started(FixedPrecision(W), VectorOutputs(C), lead=(3,))
    several = several.observed(x, y[..., None] * C[0])
    mean, cov = several.predict(x[..., :4, :])
    assert mean.shape == (3, 4, 3)
    assert cov.shape == (3, 4, 3, 3)


def test_the_process_goes_on_as_any_sparse_process() -> None:
    x, y = data_of()
    gp = started(gamma()).observed(x[:30], y[:30]).converged()
    absorbed = gp.process.absorb(x[30:], y[30:])
    observed = gp.observed(x[30:], y[30:]).process
    at = draws(5, 2, seed=6)
    torch.testing.assert_close(absorbed.mean(at), observed.mean(at), atol=1e-8, rtol=1e-8)
    torch.testing.assert_close(absorbed.var(at), observed.var(at), atol=1e-8, rtol=1e-8)
    assert gp.process.lookahead(at) is not None
    again = pickle.loads(pickle.dumps(gp.observed(x[30:], y[30:])))
    torch.testing.assert_close(again.process.mean(at), observed.mean(at))


def test_before_any_data_it_is_the_prior() -> None:
    gp = started(gamma(2.0, 0.1))
    at = draws(5, 2, seed=6)
    assert float(gp.bound) == 0.0
    assert float(gp.converged().noise.mean) == pytest.approx(20.0)
    torch.testing.assert_close(gp.process.var(at), Matern52().diagonal(theta_of(), at))
    assert float(gp.process.mean(at).abs().max()) == 0.0


def test_single_precision_stays_single() -> None:
    x, y = (each.float() for each in data_of())
    noise = GammaPrecision(torch.tensor(1.0), torch.tensor(0.1))
    gp = StreamingGP.start(SquaredExponential(), theta_of().float(), x[:10], ScalarOutputs(), noise)
    gp = gp.observed(x, y).observed(x, y, torch.full_like(x, 0.01)).converged(1e-5)
    assert gp.process.mean(x).dtype == torch.float32
    assert bool(gp.process.mean(x).isfinite().all())


def test_bad_data_get_one_clear_sentence() -> None:
    x, y = data_of(5)
    gp = started(gamma())
    with pytest.raises(DataError, match="1 outputs for each row"):
        gp.observed(x, y[:4])
    with pytest.raises(DataError, match="3 outputs for each row"):
        started(FixedPrecision(W), VectorOutputs(C)).observed(x, y)
    with pytest.raises(DataError, match="at least 0"):
        gp.observed(x, y, -torch.ones_like(x))
    with pytest.raises(DataError, match="must be finite"):
        gp.observed(x, torch.full_like(y, torch.nan))
    with pytest.raises(ArgumentError, match="symmetric and positive semidefinite"):
        VectorOutputs(-EYE)
    with pytest.raises(ArgumentError, match="only VectorOutputs are mixed"):
        _ = gp.mixing
