"""Gaussian process classification by Pólya-gamma augmentation: weights, scores, fits."""

import math
import re
from dataclasses import replace

import mpmath
import pytest
import torch
from scipy.stats import norm
from torch import Tensor
from torch.testing import assert_close

from bo_suite.classifiers.base import Classifier, ClassifierScore, WeightedExamples
from bo_suite.classifiers.gp import GPClassifier, GPLogOdds, predictive_logit
from bo_suite.data import Dataset, Seeds
from bo_suite.errors import BoSuiteError, DataError, FitError
from bo_suite.kernels import as_kernel
from bo_suite.surrogates import SVGP, WarmStart
from bo_suite.surrogates.features.points import Points
from bo_suite.surrogates.variational.elbo import Model
from bo_suite.surrogates.variational.likelihoods import BernoulliLogit
from bo_suite.surrogates.variational.problem import VariationalProblem, VariationalState

SEEDS = Seeds.of(0, 0)
F64 = torch.float64
NEAR = {"rtol": 1e-6, "atol": 1e-6}


def rows(*shape: int, seed: int = 0) -> Tensor:
    return torch.rand(*shape, generator=torch.Generator().manual_seed(seed), dtype=F64)


def latent(x: Tensor) -> Tensor:
    return 2.5 * torch.sin(5.0 * x[..., 0]) + 2.0 * (x[..., 1] - 0.5)


def labelled(*shape: int, seed: int = 0) -> WeightedExamples:
    """Labels drawn from σ(latent)."""
    x = rows(*shape, seed=seed)
    y = (rows(*shape[:-1], seed=seed + 100) < torch.sigmoid(latent(x))).to(F64)
    return WeightedExamples(x, y, 1.0 - y)


def theta_of(dim: int) -> Tensor:
    return torch.tensor([math.log(0.5)] * dim + [math.log(3.0)], dtype=F64)


@pytest.mark.parametrize("var", [0.0, 0.3, 4.0, 16.0])
@pytest.mark.parametrize("mean", [0.1, -1.0, 7.0, -30.0])
def test_the_score_is_the_logit_of_the_expected_probability(mean: float, var: float) -> None:
    point = torch.tensor([mean], dtype=F64), torch.tensor([var], dtype=F64)
    std = math.sqrt(var)

    def expected(sign: int) -> mpmath.mpf:
        if var == 0.0:
            return 1 / (1 + mpmath.exp(-sign * mpmath.mpf(mean)))
        nodes = [mpmath.mpf(end) for end in range(-24, 25, 4)]
        return mpmath.quad(lambda z: mpmath.npdf(z) / (1 + mpmath.exp(-sign * (mean + std * z))), nodes)

    with mpmath.workdps(40):
        exact = float(mpmath.log(expected(1)) - mpmath.log(expected(-1)))
    assert_close(float(predictive_logit(*point)), exact, rtol=1e-10 if var <= 4 else 1e-6, atol=1e-11)


@pytest.mark.parametrize("dtype", [F64, torch.float32])
@pytest.mark.parametrize("var", [0.0, 0.1, 1.0, 10.0, 100.0, 1000.0])
def test_the_score_increases_with_the_mean_without_ever_saturating(var: float, dtype: torch.dtype) -> None:
    mean = torch.linspace(-1000.0, 1000.0, 4001, dtype=dtype)
    score = predictive_logit(mean, torch.full_like(mean, var))
    assert score.dtype == dtype
    assert bool(torch.isfinite(score).all())
    assert bool((score.diff() > 0).all())
    assert_close(score, -score.flip(0), rtol=1e-6, atol=1e-6)
    leaf = mean.clone().requires_grad_()
    (slope,) = torch.autograd.grad(predictive_logit(leaf, torch.full_like(leaf, var)).sum(), leaf)
    assert bool((slope > 0).all())


def test_the_probability_shrinks_towards_one_half_as_the_variance_grows() -> None:
    var = torch.linspace(0.0, 20.0, 50, dtype=F64)
    score = predictive_logit(torch.full_like(var, 2.0), var)
    assert bool((score.diff() < 0).all())
    assert float(score[-1]) > 0
    probit = norm.ppf(torch.sigmoid(score[-1]).item())
    assert_close(probit, 2.0 / math.sqrt(20.0 + 1.7**2), rtol=0.02, atol=0.0)


def test_it_is_what_a_classifier_must_be() -> None:
    classifier = GPClassifier()
    odds = classifier.fit(labelled(12, 2), SEEDS)
    assert isinstance(classifier, Classifier)
    assert isinstance(odds, ClassifierScore)
    assert odds.differentiable
    assert odds.hyperparameters.shape == (3,)


def test_weights_of_one_and_nothing_are_bernoulli_labels() -> None:
    data = labelled(60, 2)
    theta, inducing = theta_of(2), data.x[:20]
    odds = GPClassifier(mean=0.0).posterior(data, theta, inducing)
    plain = Dataset(data.x, data.positive, None, data.x[:0])
    svgp = SVGP(mean=0.0, likelihood=BernoulliLogit())
    assert_close(odds.bound, svgp.bound(plain, odds.process), rtol=1e-9, atol=1e-9)

    task = VariationalProblem(Model(as_kernel(None, ()), BernoulliLogit(), 0.0, 1e-8, 2), plain, False, SEEDS)
    best = task.converge(VariationalState.prior(theta, Points(inducing)), 1.0, 500)
    assert_close(odds.process.linear, best.linear, rtol=1e-2, atol=1e-2)
    assert_close(odds.bound, task.bound(best), rtol=0.0, atol=1e-5)
    assert float(odds.bound) >= float(task.bound(best)) - 1e-9


@pytest.mark.parametrize("mean", [None, 0.3])
def test_a_weight_of_k_is_k_copies_of_the_row(mean: float | None) -> None:
    data = labelled(30, 2)
    copies = torch.tensor([1 + i % 4 for i in range(30)])
    both = replace(
        data, positive=data.positive * copies, negative=data.negative * copies + (torch.arange(30) < 5)
    )
    again = torch.arange(30).repeat_interleave(copies)
    x = torch.cat((data.x[again], data.x[:5]))
    positive = torch.cat((data.positive[again], torch.zeros(5, dtype=F64)))
    classifier, inducing, test = GPClassifier(mean=mean), data.x[:15], rows(50, 2, seed=9)
    weighted = classifier.posterior(both, theta_of(2), inducing)
    copied = classifier.posterior(WeightedExamples(x, positive, 1.0 - positive), theta_of(2), inducing)
    for found, expected in zip(
        weighted.process.mean_and_var(test), copied.process.mean_and_var(test), strict=True
    ):
        assert_close(found, expected, **NEAR)
    assert_close(weighted(test), copied(test), **NEAR)
    assert_close(weighted.bound, copied.bound, **NEAR)


def test_rows_without_weight_do_nothing() -> None:
    data, extra = labelled(30, 2), rows(10, 2, seed=5)
    nothing = torch.zeros(10, dtype=F64)
    more = WeightedExamples(
        torch.cat((extra, data.x)),
        torch.cat((nothing, data.positive)),
        torch.cat((nothing, data.negative)),
    )
    test = rows(20, 2, seed=9)
    assert_close(GPClassifier().fit(more, SEEDS)(test), GPClassifier().fit(data, SEEDS)(test))
    stacked = WeightedExamples(
        torch.stack((more.x, more.x)),
        torch.stack((more.positive, torch.cat((nothing + 1.0, data.positive)))),
        torch.stack((more.negative, torch.cat((nothing, data.negative)))),
    )
    theta = theta_of(2)
    inducing = data.x[:12]
    alone = GPClassifier().posterior(data, theta, inducing)
    joint = GPClassifier().posterior(stacked, theta.expand(2, -1), inducing.expand(2, -1, -1))
    assert_close(joint(test.expand(2, -1, -1))[0], alone(test), **NEAR)


@pytest.mark.parametrize("optimism", [0.0, 1.5])
def test_the_gradient_of_the_score_agrees_with_finite_differences(optimism: float) -> None:
    data = labelled(40, 3)
    odds = GPClassifier(optimism=optimism).fit(data, SEEDS)
    x = torch.cat((rows(5, 3, seed=7), data.x[:2] + 1e-3)).requires_grad_()
    (gradient,) = torch.autograd.grad(odds(x).sum(), x)
    for column in range(3):
        shift = torch.zeros(3, dtype=F64)
        shift[column] = 1e-5
        with torch.no_grad():
            slope = (odds(x + shift) - odds(x - shift)) / 2e-5
        assert_close(gradient[:, column], slope, rtol=1e-5, atol=1e-6)


def test_optimism_raises_the_score_by_the_standard_deviation() -> None:
    x = torch.cat((0.2 * rows(30, 2), torch.ones(1, 2, dtype=F64)))[:30]
    y = (torch.arange(30) % 2).to(F64)
    data = WeightedExamples(x, y, 1.0 - y)
    plain = GPClassifier().posterior(data, theta_of(2), x)
    hopeful = GPClassifier(optimism=2.0).posterior(data, theta_of(2), x)
    test = torch.cat((x[:1], torch.ones(1, 2, dtype=F64)))
    mean, var = plain.process.mean_and_var(test)
    gain = hopeful(test) - mean
    assert_close(gain, 2.0 * var.sqrt(), rtol=1e-6, atol=1e-6)
    assert float(gain[1]) > 1.5 * float(gain[0])
    assert abs(float(plain(test)[1])) < float(hopeful(test)[1])


def test_probabilities_are_calibrated() -> None:
    data, test = labelled(2000, 2), rows(1000, 2, seed=9)
    odds = GPClassifier(inducing=64).fit(data, SEEDS)
    error = (torch.sigmoid(odds(test)) - torch.sigmoid(latent(test))).abs()
    assert float(error.mean()) < 0.05
    rate = data.positive.mean()
    assert float(error.mean()) < 0.3 * float((rate - torch.sigmoid(latent(test))).abs().mean())


def test_replicates_are_as_fits_alone() -> None:
    data, test = labelled(3, 40, 2), rows(3, 25, 2, seed=9)
    joint = GPClassifier().fit(data, Seeds((1, 2, 3), (3,)))
    assert joint.bound.shape == (3,)
    for i in range(3):
        part = WeightedExamples(data.x[i], data.positive[i], data.negative[i])
        alone = GPClassifier().fit(part, Seeds((i + 1,)))
        assert_close(joint.hyperparameters[i], alone.hyperparameters, rtol=1e-5, atol=1e-5)
        assert_close(joint(test)[i], alone(test[i]), rtol=1e-5, atol=1e-5)


def test_the_same_seeds_give_the_same_scores() -> None:
    data, test = labelled(300, 2), rows(20, 2, seed=9)
    classifier = GPClassifier(inducing=20)
    first, second = (classifier.fit(data, SEEDS)(test) for _ in range(2))
    assert torch.equal(first, second)


def test_float32_is_near_float64() -> None:
    data, test = labelled(80, 2), rows(50, 2, seed=9)
    single = WeightedExamples(data.x.float(), data.positive.float(), data.negative.float())
    found = GPClassifier().fit(single, SEEDS)(test.float())
    assert found.dtype == torch.float32
    assert_close(found.double(), GPClassifier().fit(data, SEEDS)(test), rtol=0.05, atol=0.05)


def test_one_row_of_each_class_is_enough() -> None:
    x = torch.tensor([[0.2], [0.8]], dtype=F64)
    positive = torch.tensor([1.0, 0.0], dtype=F64)
    score = GPClassifier().fit(WeightedExamples(x, positive, 1.0 - positive), SEEDS)(x)
    assert float(score[0]) > 0 > float(score[1])


def test_a_row_of_both_labels_is_undecided() -> None:
    x = torch.tensor([[0.5], [0.5], [0.5], [0.5]], dtype=F64)
    positive = torch.tensor([1.0, 0.0, 1.0, 0.0], dtype=F64)
    score = GPClassifier().fit(WeightedExamples(x, positive, 1.0 - positive), SEEDS)(x[:1])
    assert_close(float(score), 0.0, rtol=0.0, atol=1e-6)


@pytest.mark.parametrize("dtype", [F64, torch.float32])
def test_weights_may_differ_by_orders_of_magnitude(dtype: torch.dtype) -> None:
    data = labelled(40, 2)
    weight = torch.logspace(-8.0, 6.0, 40, dtype=F64)[torch.randperm(40, generator=torch.manual_seed(0))]
    heavy = WeightedExamples(
        *(part.to(dtype) for part in (data.x, data.positive * weight, data.negative * weight))
    )
    odds = GPClassifier().fit(heavy, SEEDS)
    score = odds(heavy.x)
    assert bool(torch.isfinite(score).all())
    certain = weight > 1e3
    assert bool(((score > 0) == (heavy.positive > 0))[certain].all())


def test_categories_are_only_equal_or_different() -> None:
    codes = torch.tensor([0.0, 0.5, 1.0], dtype=F64).repeat(20)
    x = torch.stack((rows(60), codes), -1)
    positive = (codes == 0.5).to(F64)
    data = WeightedExamples(x, positive, 1.0 - positive, (1,), (None, 3))
    odds = GPClassifier().fit(data, SEEDS)
    test = torch.stack((torch.full((3,), 0.5, dtype=F64), codes[:3]), -1).requires_grad_()
    score = odds(test)
    (gradient,) = torch.autograd.grad(score.sum(), test)
    first, second, third = score.tolist()
    assert second > 0 > max(first, third)
    assert abs(first - third) < 0.5 * (second - max(first, third))
    assert_close(gradient[:, 1], torch.zeros(3, dtype=F64))


def test_a_fit_raises_the_bound_and_a_warm_start_keeps_it() -> None:
    data = labelled(80, 2)
    classifier = GPClassifier()
    cold = classifier.fit(data, SEEDS)
    start = as_kernel(None, ()).start(2)
    untrained = classifier.posterior(data, start, cold.process.inducing)
    assert float(cold.bound) > float(untrained.bound)
    warm = classifier.fit(data, SEEDS, WarmStart(cold.hyperparameters, 80))
    assert_close(float(warm.bound), float(cold.bound), rtol=0.0, atol=0.1)
    assert_close(warm.hyperparameters, cold.hyperparameters, rtol=0.0, atol=0.3)


def test_a_warm_start_is_trusted_until_the_rows_have_grown() -> None:
    data = labelled(40, 2)
    far = torch.tensor([math.log(500.0), math.log(500.0), math.log(0.02)], dtype=F64)
    cold = GPClassifier().fit(data, SEEDS)
    trusted = GPClassifier().fit(data, SEEDS, WarmStart(far, 40))
    grown = GPClassifier().fit(data, SEEDS, WarmStart(far, 20))
    other = GPClassifier().fit(data, SEEDS, WarmStart(far[:2], 40))
    assert bool((trusted.hyperparameters != cold.hyperparameters).all())
    assert torch.equal(grown.hyperparameters, cold.hyperparameters)
    assert torch.equal(other.hyperparameters, cold.hyperparameters)


def test_the_score_of_held_out_labels_is_better_than_their_rate() -> None:
    data, test = labelled(300, 2), labelled(1000, 2, seed=3)
    score = GPClassifier(inducing=40).fit(data, SEEDS)(test.x)
    signed = (2.0 * test.positive - 1.0) * score
    loss = torch.nn.functional.softplus(-signed).mean()
    rate = data.positive.mean()
    chance = -(test.positive * rate.log() + test.negative * (1.0 - rate).log()).mean()
    assert float(loss) < 0.8 * float(chance)


def test_the_cost_of_many_rows_is_kept_down_by_the_inducing_inputs() -> None:
    def inducing(odds: GPLogOdds) -> int:
        return odds.process.inducing.shape[-2]

    assert inducing(GPClassifier(inducing=9).fit(labelled(50, 2), SEEDS)) == 9
    assert inducing(GPClassifier().fit(labelled(50, 2), SEEDS)) == 50
    assert inducing(GPClassifier().fit(labelled(120, 2), SEEDS)) == 64 + 44


def test_weights_that_overflow_are_refused() -> None:
    data = labelled(10, 2)
    huge = replace(data, positive=data.positive * 0.5e308 + 1e308, negative=data.negative + 1e308)
    with pytest.raises(FitError, match="the bound is not finite"):
        GPClassifier(inducing=3).posterior(huge, theta_of(2), data.x[:3])


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"optimism": -0.1}, "`0 <= optimism < inf` must hold, got -0.1"),
        ({"optimism": math.inf}, "`0 <= optimism < inf` must hold, got inf"),
        ({"optimism": math.nan}, "`0 <= optimism < inf` must hold, got nan"),
        ({"inducing": 0}, "`inducing >= 1` must hold, a whole number, got 0"),
        ({"mean": math.nan}, "mean must be a finite number, a function of encoded rows, or None, got nan"),
        ({"jitter": -1.0}, "`0 <= jitter < inf` must hold, got -1.0"),
    ],
)
def test_settings_that_cannot_be_are_refused(settings: dict[str, float], message: str) -> None:
    with pytest.raises(DataError, match=re.escape(message)) as found:
        GPClassifier(**settings)  # type: ignore[arg-type]
    assert isinstance(found.value, BoSuiteError)
