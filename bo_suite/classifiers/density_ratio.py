"""The ratio of two densities, from a classifier of their samples."""

import math
from dataclasses import dataclass

import jaxtyping as jt
import torch
from torch import Tensor
from torch.nn.functional import softplus

from bo_suite.classifiers.base import Classifier, ClassifierScore, WeightedExamples
from bo_suite.data import Seeds
from bo_suite.errors import DataError
from bo_suite.surrogates.process import Hyperparameters, WarmStart


@dataclass(frozen=True, eq=False)
class DensityRatio:
    """r(x) = p(x) / q(x) by the odds of a classifier that was fitted to samples of both.

    log r(x) = log odds(x) - log(N_p / N_q), N the total weights of the two classes (Sugiyama, Suzuki and
    Kanamori 2012, chapter 4).

    Attributes:
        log_odds: that a row is a sample of p, for the shares of the classes in the fitted data.
        balance: log(N_p / N_q).
    """

    log_odds: ClassifierScore
    balance: jt.Float[Tensor, "*b"]

    def log_ratio(self, x: jt.Float[Tensor, "*b m d"]) -> jt.Float[Tensor, "*b m"]:
        """log p(x) - log q(x)."""
        return self.log_odds(x) - self.balance[..., None]

    def ratio(self, x: jt.Float[Tensor, "*b m d"]) -> jt.Float[Tensor, "*b m"]:
        """p(x) / q(x)."""
        return self.log_ratio(x).exp()

    def kl(self, x: jt.Float[Tensor, "*b n d"]) -> jt.Float[Tensor, "*b"]:
        """KL[p || q] = E_p[log r], from samples of p, preferably not those of the fit."""
        return self.log_ratio(x).mean(-1)

    def kl_lower_bound(
        self, p: jt.Float[Tensor, "*b n d"], q: jt.Float[Tensor, "*b k d"]
    ) -> jt.Float[Tensor, "*b"]:
        """E_p[log r] - log E_q[r] ≤ KL[p || q], for any r (Donsker and Varadhan 1983).

        Args:
            p: samples of p that are not those of the fit.
            q: samples of q that are not those of the fit.
        """
        return self.kl(p) - (self.log_ratio(q).logsumexp(-1) - math.log(q.shape[-2]))

    def cross_entropy(
        self, p: jt.Float[Tensor, "*b n d"], q: jt.Float[Tensor, "*b k d"]
    ) -> jt.Float[Tensor, "*b"]:
        """-E_p[log σ(log r)] - E_q[log(1 - σ(log r))]: smallest, 2 log 2 - 2 JS[p, q], for the true ratio."""
        return softplus(-self.log_ratio(p)).mean(-1) + softplus(self.log_ratio(q)).mean(-1)


@dataclass(frozen=True, eq=False)
class _Scaled:
    """Log odds of rows that are scaled before the classifier sees them."""

    log_odds: ClassifierScore
    unit: jt.Float[Tensor, "*b d"]
    location: jt.Float[Tensor, "*b d"]
    scale: jt.Float[Tensor, "*b d"]

    @property
    def differentiable(self) -> bool:
        return self.log_odds.differentiable

    @property
    def hyperparameters(self) -> Hyperparameters | None:
        return self.log_odds.hyperparameters

    def __call__(self, x: jt.Float[Tensor, "*b m d"]) -> jt.Float[Tensor, "*b m"]:
        in_units = x / self.unit[..., None, :]
        return self.log_odds((in_units - self.location[..., None, :]) / self.scale[..., None, :])


def fit_density_ratio(
    classifier: Classifier, p: jt.Float[Tensor, "*b n d"], q: jt.Float[Tensor, "*b k d"], seeds: Seeds
) -> DensityRatio:
    """The ratio of the densities of two samples, of any sizes.

    Rows are shifted and scaled for the classifier, to mean ½ and standard deviation 1/6 over both samples.

    Args:
        classifier: any.
        p: samples of the density in the numerator.
        q: samples of the density in the denominator.
        seeds: of the fit.

    Raises:
        DataError: a sample that is empty or not finite, or samples with different numbers of columns.
    """
    if (
        p.ndim < 2
        or p.shape[-1] != q.shape[-1]
        or p.shape[:-2] != q.shape[:-2]
        or not p.shape[-2]
        or not q.shape[-2]
    ):
        raise DataError(
            "two samples (*b, n, d) and (*b, k, d) of at least one row must be given, got "
            f"{tuple(p.shape)} and {tuple(q.shape)}"
        )
    x = torch.cat((p, q), -2)
    largest = x.abs().amax(-2)
    unit = torch.where(largest > 0, largest, 1.0)  # squares of 1e300 and 1e-300 overflow and underflow
    in_units = x / unit[..., None, :]
    spread = in_units.std(-2, correction=0)
    scale = torch.where(spread > 0, 6.0 * spread, 1.0)
    location = in_units.mean(-2) - 0.5 * scale
    label = torch.cat((torch.ones_like(p[..., 0]), torch.zeros_like(q[..., 0])), -1)
    rows = (in_units - location[..., None, :]) / scale[..., None, :]
    ratio = ratio_of(classifier, WeightedExamples(rows, label, 1.0 - label), seeds)
    return DensityRatio(_Scaled(ratio.log_odds, unit, location, scale), ratio.balance)


def ratio_of(
    classifier: Classifier, data: WeightedExamples, seeds: Seeds, start: WarmStart | None = None
) -> DensityRatio:
    """The ratio of the weighted densities of positive and negative rows; `start` warm-starts the fit."""
    balance = data.positive.sum(-1).log() - data.negative.sum(-1).log()
    return DensityRatio(classifier.fit(data, seeds, start), balance)
