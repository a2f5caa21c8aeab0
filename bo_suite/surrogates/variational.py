"""The state of a variational fit, and natural-gradient steps of q on all data."""

from collections.abc import Iterator
from dataclasses import dataclass, replace

import jaxtyping as jt
import torch
from torch import Tensor

from bo_suite.data import Dataset, Seeds
from bo_suite.errors import NumericalError
from bo_suite.linalg import solve_lower
from bo_suite.surrogates.elbo import Model, Whitened
from bo_suite.surrogates.natural import riemannian_step

_CHUNK = 4096
"""Observations whose covariances with the inducing inputs are held in memory at once."""

_SETTLED = 1e-6
"""Rise of the bound below which natural-gradient steps have converged."""


@dataclass(frozen=True, eq=False)
class Point:
    """All that is fitted.

    Attributes:
        eta: free parameters of the prior and the likelihood (`Model`).
        inducing: Z.
        linear: linear natural parameter of q(v), precision times mean.
        precision: of q(v).
    """

    eta: jt.Float[Tensor, "*b p"]
    inducing: jt.Float[Tensor, "*b m d"]
    linear: jt.Float[Tensor, "*b m"]
    precision: jt.Float[Tensor, "*b m m"]

    @staticmethod
    def prior(eta: jt.Float[Tensor, "*b p"], inducing: jt.Float[Tensor, "*b m d"]) -> "Point":
        """With q(v) = N(0, I)."""
        eye = torch.eye(inducing.shape[-2], dtype=inducing.dtype, device=inducing.device)
        precision = eye.expand(*inducing.shape[:-1], -1).clone()
        return Point(eta, inducing, torch.zeros_like(inducing[..., 0]), precision)

    @property
    def chol(self) -> jt.Float[Tensor, "*b m m"]:
        """Factor L_B of the precision.

        Raises:
            NumericalError: it is not positive definite.
        """
        chol, info = torch.linalg.cholesky_ex(self.precision)
        if bool(info.any()):
            raise NumericalError("the precision of q must be positive definite; take smaller natural steps")
        return chol  # type: ignore[no-any-return]

    @property
    def q(self) -> Whitened:
        """The same by mean and root."""
        chol = self.chol
        eye = torch.eye(chol.shape[-1], dtype=chol.dtype, device=chol.device).expand_as(chol)
        root = solve_lower(chol, eye)
        return Whitened((root.mT @ (root @ self.linear[..., None]))[..., 0], root)


@dataclass(frozen=True, eq=False)
class Task:
    """What is to be fitted to what.

    Attributes:
        model: prior and likelihood.
        data: observations.
        learn_inducing: whether Z moves.
        seeds: of the order in which observations are seen.
    """

    model: Model
    data: Dataset
    learn_inducing: bool
    seeds: Seeds

    def survey(self, point: Point) -> tuple[jt.Float[Tensor, "*b"], Tensor, Tensor]:
        """The evidence lower bound on all data, without log priors, and the sums of the sites."""
        q = point.q
        value = -q.divergence
        linear, precision = torch.zeros_like(point.linear), torch.zeros_like(point.precision)
        for first in range(0, self.data.y.shape[-1], _CHUNK):
            rows = slice(first, first + _CHUNK)
            part = self.model.expectation(point.eta, point.inducing, q, self.data, rows)
            part.require_definite()
            value = value + part.value
            linear, precision = linear + part.target[0], precision + part.target[1]
        return value, linear, precision

    def bound(self, point: Point) -> jt.Float[Tensor, "*b"]:
        """The evidence lower bound on all data, without log priors."""
        return self.survey(point)[0]

    def towards(self, point: Point, linear: Tensor, precision: Tensor, rate: float) -> Point:
        """q(v) moved from where it is to where the sites' sums put it, by a share `rate` of the way.

        Where sites may have negative precisions, by the step of Lin, Schmidt and Khan (2020), which stays
        positive definite: the mean then moves by rate P_new⁻¹ (linear - precision mean - mean).
        """
        target = precision.clone()
        target.diagonal(dim1=-2, dim2=-1).add_(1.0)
        if self.model.likelihood.log_concave:
            return replace(
                point,
                linear=torch.lerp(point.linear, linear, rate),
                precision=torch.lerp(point.precision, target, rate),
            )
        mean = point.q.mean
        uphill = linear - (target @ mean[..., None])[..., 0]
        stepped = riemannian_step(point.precision, target, rate)
        moved = (stepped @ mean[..., None])[..., 0] + rate * uphill
        return replace(point, linear=moved, precision=stepped)

    def converge(self, point: Point, rate: float, most: int) -> Point:
        """Natural-gradient steps of q(v) on all data until the bound stays (Khan and Lin 2017).

        One reaches the optimum of a conjugate likelihood. Others are taken back where the bound falls, and
        then the rate is halved.
        """
        value, linear, precision = self.survey(point)
        if self.model.likelihood.conjugate:
            return self.towards(point, linear, precision, 1.0)
        for _ in range(most):
            step = self.towards(point, linear, precision, rate)
            found = self.survey(step)
            better = found[0] >= value - 1e-9 * value.abs()
            if not bool(better.all()):
                rate *= 0.5
            rise = torch.where(better, found[0] - value, 0.0)
            keep = better[..., None]
            point = replace(
                point,
                linear=torch.where(keep, step.linear, point.linear),
                precision=torch.where(keep[..., None], step.precision, point.precision),
            )
            value = torch.where(better, found[0], value)
            linear = torch.where(keep, found[1], linear)
            precision = torch.where(keep[..., None], found[2], precision)
            if bool(better.all()) and float(rise.max()) < _SETTLED:
                break
        return point

    def batches(self, size: int | None, steps: int) -> Iterator[tuple[Dataset, float]]:
        """Data and weight n / size of each of `steps` steps: epochs in random order, last batches whole."""
        n = self.data.y.shape[-1]
        if size is None or size >= n:
            yield from ((self.data, 1.0) for _ in range(steps))
            return
        done, epoch = 0, 0
        while done < steps:
            order = self.seeds.split(f"epoch {epoch}").uniform((n,), self.data.y).argsort(-1)
            for first in range(0, n, size)[: steps - done]:
                rows = order[..., first : first + size]
                yield _taken(self.data, rows), n / rows.shape[-1]
                done += 1
            epoch += 1


def _taken(data: Dataset, rows: Tensor) -> Dataset:
    x = data.x.gather(-2, rows[..., None].expand(*rows.shape, data.x.shape[-1]))
    noise = None if data.noise is None else data.noise.gather(-1, rows)
    return replace(data, x=x, y=data.y.gather(-1, rows), noise=noise)
