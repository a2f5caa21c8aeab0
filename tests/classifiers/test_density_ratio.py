"""p = N(1, 1) and q = N(0, 4): KL[p || q] = log 2 - 1/4, and the least cross-entropy by quadrature."""

import math

import jaxtyping
import pytest
import torch
from scipy import integrate
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import PolynomialFeatures
from torch import Tensor
from torch.testing import assert_close

from bo_suite.classifiers import Classifier, GPClassifier, MLPClassifier, SklearnClassifier, WeightedExamples
from bo_suite.classifiers.density_ratio import DensityRatio, fit_density_ratio, ratio_of
from bo_suite.data import Seeds
from bo_suite.errors import DataError

F64 = torch.float64
KL = math.log(2.0) + (1.0 + 1.0) / 8.0 - 0.5
QUADRATIC = SklearnClassifier(make_pipeline(PolynomialFeatures(2), LogisticRegression(C=1e4)))
"""The true log ratio is in this model."""


def samples(count: int, seed: int) -> tuple[Tensor, Tensor]:
    normal = torch.randn(2, count, 1, dtype=F64, generator=torch.Generator().manual_seed(seed))
    return normal[0] + 1.0, 2.0 * normal[1]


def truth(x: Tensor) -> Tensor:
    return math.log(2.0) - 0.5 * (x - 1.0).square() + x.square() / 8.0


def least_cross_entropy() -> float:
    """∫ p log(1 + q / p) + q log(1 + p / q)."""

    def density(x: float) -> float:
        log_p = -0.5 * (x - 1.0) ** 2 - 0.5 * math.log(2.0 * math.pi)
        log_q = -(x**2) / 8.0 - 0.5 * math.log(8.0 * math.pi)
        return math.exp(log_p) * math.log1p(math.exp(log_q - log_p)) + math.exp(log_q) * math.log1p(
            math.exp(log_p - log_q)
        )

    return float(integrate.quad(density, -20.0, 20.0)[0])


def test_the_reference_numbers_are_those_of_the_literature() -> None:
    assert pytest.approx(0.4431472, abs=1e-7) == KL
    assert least_cross_entropy() == pytest.approx(1.1299444, abs=1e-6)


@pytest.mark.parametrize(
    "classifier",
    [QUADRATIC, MLPClassifier(members=5), pytest.param(GPClassifier(), marks=pytest.mark.slow)],
    ids=["lr", "mlp", "gp"],
)
def test_divergence_and_held_out_cross_entropy_of_two_gaussians(classifier: Classifier) -> None:
    ratio = fit_density_ratio(classifier, *samples(10_000, 0), Seeds.of(0, 0))
    p, q = samples(10_000, 1)
    with torch.no_grad():
        assert float(ratio.kl(p)) == pytest.approx(KL, abs=0.03)
        assert float(ratio.kl_lower_bound(p, q)) == pytest.approx(KL, abs=0.03)
        loss = float(ratio.cross_entropy(p, q))
        each = (
            torch.nn.functional.softplus(-ratio.log_ratio(p)),
            torch.nn.functional.softplus(ratio.log_ratio(q)),
        )
        error = math.sqrt(sum(float(part.var()) / 10_000 for part in each))
        assert least_cross_entropy() - 3.0 * error <= loss <= least_cross_entropy() + 0.02
        grid = torch.linspace(-2.0, 3.5, 56, dtype=F64)[:, None]
        assert float((ratio.log_ratio(grid) - truth(grid[:, 0])).abs().max()) < 0.25
        assert_close(ratio.ratio(grid), ratio.log_ratio(grid).exp())


def test_samples_of_different_sizes_give_the_same_ratio() -> None:
    p, q = samples(8_000, 2)
    grid = torch.linspace(-2.0, 3.0, 21, dtype=F64)[:, None]
    uneven = fit_density_ratio(QUADRATIC, p, q[:1_000], Seeds.of(0, 0))
    assert float(uneven.balance) == pytest.approx(math.log(8.0))
    assert_close(uneven.log_ratio(grid), truth(grid[:, 0]), rtol=0.0, atol=0.25)
    naive = uneven.log_odds(grid) - truth(grid[:, 0])
    assert float(naive.mean()) > 1.5


def test_weights_stand_for_numbers_of_samples() -> None:
    p, q = samples(500, 3)
    x = torch.cat((p, q)) / 10.0
    label = torch.cat((torch.ones(500, dtype=F64), torch.zeros(500, dtype=F64)))
    even = ratio_of(QUADRATIC, WeightedExamples(x, label, 1.0 - label), Seeds.of(0, 0))
    tilted = ratio_of(QUADRATIC, WeightedExamples(x, 3.0 * label, 1.0 - label), Seeds.of(0, 0))
    assert float(tilted.balance) == pytest.approx(math.log(3.0))
    assert_close(tilted.log_ratio(x), even.log_ratio(x), rtol=0.0, atol=0.2)


def test_the_lower_bound_is_not_raised_by_a_constant_and_is_below_the_divergence() -> None:
    ratio = fit_density_ratio(QUADRATIC, *samples(2_000, 4), Seeds.of(0, 0))
    shifted = DensityRatio(ratio.log_odds, ratio.balance - 1.0)
    p, q = samples(50_000, 5)
    assert_close(shifted.kl_lower_bound(p, q), ratio.kl_lower_bound(p, q))
    assert_close(shifted.kl(p), ratio.kl(p) + 1.0)
    assert float(ratio.kl_lower_bound(p, q)) <= KL + 0.02


def test_columns_of_any_scale_are_taken() -> None:
    p, q = samples(2_000, 6)
    far = fit_density_ratio(QUADRATIC, 1e6 + 1e3 * p, 1e6 + 1e3 * q, Seeds.of(0, 0))
    near = fit_density_ratio(QUADRATIC, p, q, Seeds.of(0, 0))
    assert_close(far.log_ratio(1e6 + 1e3 * p), near.log_ratio(p), rtol=0.0, atol=1e-3)
    for scale in (1e-300, 1e300):
        tiny = fit_density_ratio(QUADRATIC, scale * p, scale * q, Seeds.of(0, 0))
        assert_close(tiny.log_ratio(scale * p), near.log_ratio(p), rtol=0.0, atol=1e-3)
    constant = torch.cat((p, torch.ones_like(p)), -1), torch.cat((q, torch.ones_like(q)), -1)
    assert_close(
        fit_density_ratio(QUADRATIC, *constant, Seeds.of(0, 0)).log_ratio(constant[0]),
        near.log_ratio(p),
        rtol=0.0,
        atol=0.05,
    )


def test_samples_that_do_not_fit_together_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(jaxtyping.config, "jaxtyping_disable", True)
    p, q = samples(5, 7)
    for pair in ((p, q.expand(5, 2)), (p[:, 0], q[:, 0]), (p, q[:0]), (p[:0], q)):
        with pytest.raises(DataError, match="two samples"):
            fit_density_ratio(QUADRATIC, *pair, Seeds.of(0, 0))
    with pytest.raises(DataError, match="inputs must be finite"):
        fit_density_ratio(QUADRATIC, p * torch.nan, q, Seeds.of(0, 0))
