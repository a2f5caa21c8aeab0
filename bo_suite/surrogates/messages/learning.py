"""Hyperparameters that maximise the bound of a `StreamingGP`."""

from collections.abc import Callable
from dataclasses import dataclass

import jaxtyping as jt
import torch
from torch import Tensor

from bo_suite.kernels import Functionals
from bo_suite.linalg import solve_lower
from bo_suite.linalg.environment import outside_inference_mode
from bo_suite.optim.lbfgs import minimize_batch
from bo_suite.surrogates.basis import Basis, jitter_or_default
from bo_suite.surrogates.features.observables import Observables
from bo_suite.surrogates.messages.outputs import OperatorOutputs, ScalarOutputs, VectorOutputs
from bo_suite.surrogates.messages.streaming import StreamingGP
from bo_suite.surrogates.messages.sums import SeparableSums
from bo_suite.surrogates.observed import differentiable


@outside_inference_mode
def fit_hyperparameters(
    process: StreamingGP,
    x: jt.Float[Tensor, "*b n d"],
    y: jt.Float[Tensor, "*outputs"],
    evaluations: int = 100,
) -> StreamingGP:
    """The process given these data alone, at the theta that maximises the bound, and converged there.

    A local maximum, by L-BFGS from the theta of `process` within the bounds of the kernel; no prior of theta
    enters. A stream forgets its data, so theta is learnt from those that are given, and stays.

    Args:
        process: kernel, first theta, inducing variables, outputs and p(W); its own data are left out.
        x: exact inputs.
        y: outputs.
        evaluations: of the bound at most.

    Raises:
        DataError: as `StreamingGP.observed`.
    """
    objective = BoundObjective(process, x, y)
    bounds = process.basis.kernel.bounds(x.shape[-1])
    result = minimize_batch(objective, process.basis.theta, bounds=bounds, max_evaluations=evaluations)
    return objective.at(result.x)


@dataclass(frozen=True, eq=False)
class BoundObjective:
    """-bound at the optimal q(v) q(W), and its gradient by theta, for `minimize_batch`.

    Both q are stationary there, so only the sums are differentiated. With A = L⁻¹ k_u(X), G = ∂ bound / ∂ A
    and prior covariances K_n of the outputs of a datum:
    d bound = tr(Gᵀ L⁻¹ dk_u(X)) - ½ tr(L⁻ᵀ G Aᵀ L⁻¹ dK_uu) - ½ Σ_n tr(W dK_n).
    With E the second moment of a part of v, m its mean, gains δ and mixing M as in `SeparableSums`, G is
    (tr(W C) I - Σ_j δ_j E_j) A + Σ_j m_j (M_jᵀ W Yᵀ), or ((I - E) A + m Yᵀ) W for operators.

    Attributes:
        process: what is the same for every theta.
        x: exact inputs.
        y: outputs.
    """

    process: StreamingGP
    x: jt.Float[Tensor, "*b n d"]
    y: jt.Float[Tensor, "*outputs"]

    def at(self, theta: jt.Float[Tensor, "*b p"]) -> StreamingGP:
        """The process at a theta, given the data, converged."""
        same = self.process
        start = StreamingGP.start(same.basis.kernel, theta, same.basis.variables, same.outputs, same.prior)
        return start.observed(self.x, self.y).converged()

    def __call__(
        self, theta: jt.Float[Tensor, "*b p"]
    ) -> tuple[jt.Float[Tensor, "*b"], jt.Float[Tensor, "*b p"]]:
        """-bound and its gradient."""
        process = self.at(theta)
        basis = process.basis
        if isinstance(process.outputs, OperatorOutputs):
            part = _operator_part(process, process.outputs, self.x, self.y)
        else:
            part = _separable_part(process, self.x, self.y)
        by_theta = part.by_prior + part.pull(basis.factor.solve(part.by_a, transposed=True))
        half = basis.factor.solve(part.by_a @ part.a.mT, transposed=True)
        by_inducing = basis.factor.solve(half.mT, transposed=True)
        covariance = basis.variables.covariance(basis.kernel, theta, jitter_or_default(None, theta.dtype))
        by_theta = by_theta - 0.5 * covariance.pullback(0.5 * (by_inducing + by_inducing.mT))[0]
        return -process.bound, -by_theta


@dataclass(frozen=True, eq=False)
class _Part:
    """What one kind of outputs has of the gradient.

    Attributes:
        a: A.
        by_a: G.
        pull: the map of a gradient by k_u(X) to that by theta.
        by_prior: gradient by theta through the prior covariances of outputs.
    """

    a: Tensor
    by_a: Tensor
    pull: Callable[[Tensor], Tensor]
    by_prior: Tensor


def _separable_part(process: StreamingGP, x: Tensor, y: Tensor) -> _Part:
    """G = (t I - Σ_j δ_j E_j) A + Σ_j m_j (M_jᵀ W Yᵀ), with t = tr(W C)."""
    outputs, sums, basis = process.outputs, process.sums, process.basis
    assert isinstance(sums, SeparableSums), "of outputs that are mixed from processes"
    assert isinstance(outputs, ScalarOutputs | VectorOutputs), "outputs that are mixed from processes"
    weight = process.noise.mean
    gains, mixing = sums.rotation(weight)
    mean, second = _moments(process)
    explained = (gains.movedim(-1, 0)[..., None, None] * second).sum(0)
    total = (weight * (sums.root @ sums.root.mT)).sum((-2, -1))[..., None]
    k, pull = basis.variables.joint(basis.kernel, basis.theta, x)
    a, residuals = basis.factor.solve(k), outputs.residuals(outputs.stacked(y))
    fit = mean.movedim(0, -1) @ mixing.mT @ weight @ residuals.mT
    by_a = total[..., None] * a - explained @ a + fit
    share = (-0.5 * total).expand(x.shape[:-1])
    by_prior, _ = basis.kernel.diagonal_gradient(basis.theta, x, share)
    return _Part(a, by_a, lambda weights: pull(weights)[0], by_prior)


def _operator_part(process: StreamingGP, outputs: OperatorOutputs, x: Tensor, y: Tensor) -> _Part:
    """G = ((I - E) A + m Yᵀ) W, of the P columns of each datum."""
    basis, weight = process.basis, process.noise.mean
    kernel, functionals = differentiable(basis.kernel), outputs.operator(x)
    mean, second = (each[0] for each in _moments(process))
    k, pull = kernel.functionals_cross(basis.theta, _functionals_of(basis), functionals)
    a, sizes = basis.factor.solve(k), y.shape[-2:]
    constant = functionals.gathered(functionals.weight, -1).unflatten(-1, sizes)
    fit = mean[..., None, None] * (y - outputs.mean * constant)[..., None, :, :]
    by_a = ((a - second @ a).unflatten(-1, sizes) + fit) @ weight[..., None, :, :]
    own = outputs.operator(x[..., None, :])
    theta = basis.theta[..., None, :].expand(*x.shape[:-1], -1)
    pull_own = kernel.functionals_cross(theta, own, own)[1]
    shares = (-0.5 * weight)[..., None, :, :].expand(*x.shape[:-1], *weight.shape[-2:])
    by_prior = pull_own(shares)[0].sum(-2)
    return _Part(a, by_a.flatten(-2), lambda weights: pull(weights)[0], by_prior)


def _moments(process: StreamingGP) -> tuple[Tensor, Tensor]:
    """Means (r, *b, m) and second moments (r, *b, m, m) of the parts of v."""
    chol = process.precision_chol
    white = solve_lower(chol, process.sums.linear(process.noise.mean)[..., None])
    mean = solve_lower(chol, white, transposed=True)
    return mean[..., 0], torch.cholesky_inverse(chol) + mean @ mean.mT


def _functionals_of(basis: Basis) -> Functionals:
    """The inducing variables, values at points or functionals."""
    variables = basis.variables
    return variables.functionals if isinstance(variables, Observables) else Functionals.values(basis.rows)
