"""A sparse Gaussian process that data reach as messages."""

import math
from dataclasses import dataclass, replace

import jaxtyping as jt
import torch
from torch import Tensor

from bo_suite.errors import ArgumentError, DataError
from bo_suite.kernels import Kernel
from bo_suite.linalg import cholesky_update
from bo_suite.surrogates.basis import Basis, inducing_basis, jitter_or_default
from bo_suite.surrogates.features.points import Points
from bo_suite.surrogates.features.variables import InducingVariables
from bo_suite.surrogates.messages.outputs import Outputs, ScalarOutputs, VectorOutputs
from bo_suite.surrogates.messages.precision import NoisePrecision
from bo_suite.surrogates.messages.sums import Optimum, SeparableSums, Sums
from bo_suite.surrogates.sparse import SparseProcess


@dataclass(frozen=True, eq=False)
class StreamingGP:
    """q(v) q(W) of whitened inducing values v and the precision W of the noise, given the data so far.

    v ~ N(0, I) stands for u = L v, L Lᵀ = K_uu. A datum (x, y) of P outputs, y ~ N(f̃(x), W⁻¹), sends to v a
    Gaussian message, a term of rank P (or as `Sums` say), and to W one of Gamma or Wishart form. q(v) is
    always the optimum given E[W] (Titsias 2009), a Cholesky factor that `observed` updates; `iterated` and
    `converged` are coordinate ascent between q(v) and q(W), which never lowers the `bound`.

    The messages are stored as `sums` over the data: each datum is in them once, whatever is recomputed. So
    q does not become narrower by being iterated, as it does where a posterior is the next prior for the same
    data, and the prior of v is K_uu, not a multiple of the identity.

    Attributes:
        basis: kernel, its parameters theta, the inducing variables and L, without L_B.
        outputs: what is observed at an input.
        prior: p(W).
        noise: q(W).
        sums: what the data have added.
        precision_chol: L_B, the factor of the precision of each of r independent parts of v.
    """

    basis: Basis
    outputs: Outputs
    prior: NoisePrecision
    noise: NoisePrecision
    sums: Sums
    precision_chol: jt.Float[Tensor, "r *b m m"]

    @staticmethod
    def start(
        kernel: Kernel,
        theta: jt.Float[Tensor, "*b p"],
        inducing: jt.Float[Tensor, "*b m d"] | InducingVariables,
        outputs: Outputs,
        noise: NoisePrecision,
    ) -> "StreamingGP":
        """The prior, before any data.

        Args:
            kernel: covariance function.
            theta: its parameters.
            inducing: inputs, or other inducing variables, such as those of a fitted `SparseProcess`.
            outputs: what is observed at an input.
            noise: p(W).

        Raises:
            NumericalError: K_uu does not factorise, jitter included.
        """
        variables = Points(inducing) if isinstance(inducing, Tensor) else inducing
        basis = inducing_basis(kernel, theta, variables, jitter_or_default(None, theta.dtype))
        lead, count = theta.shape[:-1], noise.outputs
        nothing = basis.rows[..., :0, :]
        sums = outputs.message(basis, nothing, theta.new_zeros(*lead, 0, count), None).sums
        prior = noise.updated(0, theta.new_zeros(*lead, count, count))
        return StreamingGP(basis, outputs, prior, prior, sums, sums.precision_chol(prior.mean))

    def observed(
        self,
        x: jt.Float[Tensor, "*b n d"],
        y: jt.Float[Tensor, "*outputs"],
        x_std: jt.Float[Tensor, "*b n d"] | None = None,
    ) -> "StreamingGP":
        """The process with the messages of more data to v, q(W) as it is: O(m² n P).

        The order of the data and how they are cut into batches do not matter. Messages of uncertain inputs
        have full rank, so that L_B is factorised anew. They take q(x) = p(x), which outputs do not change, so
        that f becomes smoother than it is if the deviations are as large as its features; `locate_inputs`
        does better.

        Args:
            x: inputs, or their means.
            y: outputs: (*b, n) of `ScalarOutputs`, else (*b, n, P).
            x_std: standard deviations of the inputs, 0 where exact; 0 in columns that hold categories.

        Raises:
            DataError: shapes that do not fit, numbers that are not finite, or negative deviations.
        """
        outputs = self.outputs.stacked(y)
        check_data(x, outputs, self.prior.outputs, x_std)
        message = self.outputs.message(self.basis, x, outputs, x_std)
        sums, precision = self.sums.plus(message.sums), self.noise.mean
        if message.vectors is None:
            chol = sums.precision_chol(precision)
        else:
            chol = cholesky_update(self.precision_chol, sums.terms(message.vectors, precision))
        return replace(self, sums=sums, precision_chol=chol)

    @property
    def bound(self) -> jt.Float[Tensor, "*b"]:
        """Evidence lower bound, the negative variational free energy.

        ½ n (E[log |W|] - P log 2π) - ½ tr(E[W] G) - KL(q(v) ‖ p(v)) - KL(q(W) ‖ p(W)), with G the expectation
        of the sum of squared residuals, the variance that u leaves unexplained included; less the divergence
        of located inputs from their priors.
        """
        return self._bound(self.noise, self.sums.optimum(self.noise.mean))

    def iterated(self) -> "StreamingGP":
        """One round of coordinate ascent: q(W) given q(v), then q(v) given q(W)."""
        return self._with_noise(self._noise_given(self.sums.optimum(self.noise.mean)))

    def converged(self, tolerance: float = 1e-9, rounds: int = 1000) -> "StreamingGP":
        """Coordinate ascent until a round raises the bound by less than `tolerance`.

        The tolerance is relative to max(1, |bound|). A round costs O(r m) after one eigendecomposition, or
        O(m³) for `OperatorOutputs`; L_B is factorised at the end. A replicate that has settled does not
        change while others go on.
        """
        noise, optimum = self.noise, self.sums.optimum(self.noise.mean)
        bound = self._bound(noise, optimum)
        going = torch.ones_like(bound, dtype=torch.bool)
        for _ in range(rounds):
            noise = self._noise_given(optimum).where(going, noise)
            optimum = self.sums.optimum(noise.mean)
            higher = self._bound(noise, optimum)
            going = going & (higher - bound > tolerance * higher.abs().clamp(min=1.0))
            bound = higher
            if not bool(going.any()):
                break
        return self._with_noise(noise)

    @property
    def process(self) -> SparseProcess:
        """The posterior of f as a process; the noise is E[W]⁻¹, that of the first output.

        Of `VectorOutputs`: the r independent processes h with y = M h, as a further dimension in front of the
        replicates; M is the `mixing`.
        """
        parts = self.sums.linear(self.noise.mean)
        basis, lead = self.basis, parts.shape[:-1]
        if isinstance(self.outputs, VectorOutputs):
            theta = basis.theta.expand(*lead, -1)
            variables = basis.variables.moved(basis.variables.parameters.expand(*lead, -1))
            basis = replace(basis, theta=theta, variables=variables, precision_chol=self.precision_chol)
            noise = self._separable.rotation(self.noise.mean)[0].movedim(-1, 0).reciprocal()
        else:
            parts = parts[0]
            basis = replace(basis, precision_chol=self.precision_chol[0])
            noise = torch.cholesky_inverse(torch.linalg.cholesky(self.noise.mean))[..., 0, 0]
        hyperparameters = torch.cat((basis.theta, noise.log()[..., None]), -1)
        return SparseProcess(basis, parts, self.outputs.prior_mean(noise), noise, hyperparameters)

    @property
    def mixing(self) -> jt.Float[Tensor, "*b p r"]:
        """M of `VectorOutputs`, with f̃ = M h + mean and the processes h of `process`."""
        return self._separable.rotation(self.noise.mean)[1]

    def predict(
        self, x: jt.Float[Tensor, "*b q d"]
    ) -> tuple[jt.Float[Tensor, "*b q p"], jt.Float[Tensor, "*b q p p"]]:
        """Mean and covariance of `ScalarOutputs` or `VectorOutputs` at each row, without noise."""
        process = self.process
        if isinstance(self.outputs, ScalarOutputs):
            mean, var = process.mean_and_var(x)
            return mean[..., None], var[..., None, None]
        mixing = self.mixing
        assert isinstance(self.outputs, VectorOutputs), "mixing has checked it"
        mean, var = process.mean_and_var(x.expand(mixing.shape[-1], *x.shape))
        outputs = mean.movedim(0, -1) @ mixing.mT
        if self.outputs.mean is not None:
            outputs = outputs + self.outputs.mean.to(outputs)
        wide = mixing[..., None, :, :]
        return outputs, (wide * var.movedim(0, -1)[..., None, :]) @ wide.mT

    @property
    def _separable(self) -> SeparableSums:
        if not isinstance(self.outputs, VectorOutputs) or not isinstance(self.sums, SeparableSums):
            raise ArgumentError("only VectorOutputs are mixed from several processes; take `process` instead")
        return self.sums

    def _bound(self, noise: NoisePrecision, optimum: Optimum) -> Tensor:
        constant = 0.5 * self.sums.count * (noise.log_determinant - noise.outputs * math.log(2.0 * math.pi))
        fit = 0.5 * (noise.mean * optimum.scatter).sum((-2, -1))
        divergence = optimum.divergence + noise.divergence(self.prior) + self.sums.divergence
        return constant - fit - divergence

    def _noise_given(self, optimum: Optimum) -> NoisePrecision:
        return self.prior.updated(self.sums.count, optimum.scatter)

    def _with_noise(self, noise: NoisePrecision) -> "StreamingGP":
        return replace(self, noise=noise, precision_chol=self.sums.precision_chol(noise.mean))


def check_data(x: Tensor, y: Tensor, outputs: int, x_std: Tensor | None) -> None:
    """Raise DataError unless y is (*b, n, outputs) and x_std like x, and all numbers are finite."""
    if y.shape != (*x.shape[:-1], outputs):
        raise DataError(
            f"y must have {outputs} outputs for each row of x {tuple(x.shape)}, got {tuple(y.shape)} of them"
        )
    if x_std is not None and not bool((x_std >= 0).all()):
        raise DataError("standard deviations of inputs must be at least 0")
    if not all(bool(each.isfinite().all()) for each in (x, y, x_std) if each is not None):
        raise DataError("inputs and outputs must be finite; leave out what was not observed")
