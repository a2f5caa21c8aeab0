"""Hyperparameters that maximise the bound of a `StreamingGP`."""

from dataclasses import dataclass

import jaxtyping as jt
import torch
from torch import Tensor

from bo_suite.errors import ArgumentError
from bo_suite.linalg import solve_lower
from bo_suite.linalg.environment import outside_inference_mode
from bo_suite.optim.lbfgs import minimize_batch
from bo_suite.surrogates.basis import jitter_or_default
from bo_suite.surrogates.messages.outputs import ScalarOutputs, VectorOutputs
from bo_suite.surrogates.messages.streaming import StreamingGP
from bo_suite.surrogates.messages.sums import SeparableSums


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
        ArgumentError: `OperatorOutputs`, for which no gradient is there.
        DataError: as `StreamingGP.observed`.
    """
    objective = BoundObjective(process, x, y)
    bounds = process.basis.kernel.bounds(x.shape[-1])
    result = minimize_batch(objective, process.basis.theta, bounds=bounds, max_evaluations=evaluations)
    return objective.at(result.x)


@dataclass(frozen=True, eq=False)
class BoundObjective:
    """-bound at the optimal q(v) q(W), and its gradient by theta, for `minimize_batch`.

    Both q are stationary there, so only the sums are differentiated. With A = a(X), E_j the second moment of
    part j of v, m_j its mean, gains δ_j and mixing M as in `SeparableSums`, and t = tr(W C):
    G = ∂ bound / ∂ A = (t I - Σ_j δ_j E_j) A + Σ_j m_j (M_jᵀ W Yᵀ), and
    d bound = tr(Gᵀ L⁻¹ dk_u(X)) - ½ tr(L⁻ᵀ G Aᵀ L⁻¹ dK_uu) - ½ t Σ_n dk(x_n, x_n).

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
        outputs, sums, basis = process.outputs, process.sums, process.basis
        if not isinstance(sums, SeparableSums) or not isinstance(outputs, ScalarOutputs | VectorOutputs):
            raise ArgumentError("hyperparameters of OperatorOutputs must be given: nothing learns them")
        weight = process.noise.mean
        gains, mixing = sums.rotation(weight)
        gains = gains.movedim(-1, 0)[..., None, None]
        white = solve_lower(process.precision_chol, sums.linear(weight)[..., None])
        mean = solve_lower(process.precision_chol, white, transposed=True)
        cov = torch.cholesky_inverse(process.precision_chol)
        second = (gains * (cov + mean @ mean.mT)).sum(0)
        total = (weight * (sums.root @ sums.root.mT)).sum((-2, -1))[..., None]

        k, pull = basis.variables.joint(basis.kernel, theta, self.x)
        a, residuals = basis.factor.solve(k), outputs.residuals(outputs.stacked(self.y))
        fit = mean[..., 0].movedim(0, -1) @ mixing.mT @ weight @ residuals.mT
        by_a = total[..., None] * a - second @ a + fit
        by_theta = pull(basis.factor.solve(by_a, transposed=True))[0]
        half = basis.factor.solve(by_a @ a.mT, transposed=True)
        by_inducing = basis.factor.solve(half.mT, transposed=True)
        covariance = basis.variables.covariance(basis.kernel, theta, jitter_or_default(None, theta.dtype))
        by_theta = by_theta - 0.5 * covariance.pullback(0.5 * (by_inducing + by_inducing.mT))[0]
        share = (-0.5 * total).expand(self.x.shape[:-1])
        by_theta = by_theta + basis.kernel.diagonal_gradient(theta, self.x, share)[0]
        return -process.bound, -by_theta
