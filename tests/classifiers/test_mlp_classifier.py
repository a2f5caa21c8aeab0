from collections.abc import Callable
from itertools import pairwise

import pytest
import torch
from torch import Tensor
from torch.nn.functional import softplus
from torch.testing import assert_close

from bo_suite.classifiers.base import Classifier, ClassifierScore, WeightedExamples
from bo_suite.classifiers.mlp import MLPClassifier, MLPLogOdds, _layers, _Loss, _Rows
from bo_suite.data import Seeds
from bo_suite.errors import DataError
from bo_suite.surrogates.process import WarmStart


def rows(*shape: int, seed: int = 0) -> Tensor:
    return torch.rand(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def labelled(x: Tensor, share: float = 0.25) -> WeightedExamples:
    """The rows nearest to 0.4 are positive."""
    distance = (x - 0.4).square().sum(-1)
    label = (distance <= distance.quantile(share, -1, keepdim=True)).to(x)
    return WeightedExamples(x, label, 1.0 - label)


def mean_loss(log_odds: ClassifierScore, data: WeightedExamples) -> Tensor:
    logit = log_odds(data.x)
    total = (data.positive + data.negative).sum(-1)
    return (data.positive * softplus(-logit) + data.negative * softplus(logit)).sum(-1) / total


def replicate(data: WeightedExamples, place: int) -> WeightedExamples:
    return WeightedExamples(
        data.x[place], data.positive[place], data.negative[place], data.unordered, data.levels
    )


@pytest.fixture
def evaluations(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Number of networks at each evaluation of the loss."""
    counts: list[int] = []
    original = _Loss.__call__

    def counting(self: _Loss, theta: Tensor, batch: _Rows) -> tuple[Tensor, Tensor]:
        counts.append(theta.shape[0])
        return original(self, theta, batch)

    monkeypatch.setattr(_Loss, "__call__", counting)
    return counts


SEEDS = Seeds.of(0, 0)


def test_it_is_a_classifier_and_its_fit_log_odds() -> None:
    classifier = MLPClassifier(steps=1)
    found = classifier.fit(labelled(rows(8, 2)), SEEDS)
    assert isinstance(classifier, Classifier)
    assert isinstance(found, ClassifierScore)
    assert found.differentiable


@pytest.mark.parametrize("hidden", [(), (5,), (32, 32), (4, 3, 2)])
def test_the_stated_layers_are_built(hidden: tuple[int, ...]) -> None:
    found = MLPClassifier(hidden=hidden, steps=1, members=2).fit(labelled(rows(8, 3)), SEEDS)
    expected, inputs = 0, 3
    for units in (*hidden, 1):
        expected, inputs = expected + (inputs + 1) * units, units
    assert found.theta.shape == (2 * expected,)


def test_the_logit_is_that_of_a_network_of_torch() -> None:
    found = MLPClassifier(hidden=(5, 4), steps=3).fit(labelled(rows(9, 3)), SEEDS)
    layers: list[torch.nn.Module] = []
    for matrix, bias in _layers(found.theta, (3, 5, 4, 1)):
        inputs, outputs = matrix.shape
        linear = torch.nn.Linear(inputs, outputs, dtype=torch.float64)
        linear.weight.data, linear.bias.data = matrix.mT.contiguous(), bias[0]
        layers += [linear, torch.nn.ELU()]
    x = rows(7, 3, seed=1)
    assert_close(found(x), torch.nn.Sequential(*layers[:-1])(2.0 * x - 1.0).detach()[:, 0])


@pytest.mark.parametrize("hidden", [(), (6,), (5, 4)])
def test_the_gradient_of_the_loss_is_the_one_of_autograd(hidden: tuple[int, ...]) -> None:
    data = labelled(rows(3, 20, 2))
    sizes = (2, *hidden, 1)
    count = sum((inputs + 1) * outputs for inputs, outputs in pairwise(sizes))
    theta = (4.0 * rows(3, count, seed=1) - 2.0).requires_grad_()
    value, gradient = _Loss(sizes, rows(3, count, seed=2))(theta, _Rows.of(data))
    (expected,) = torch.autograd.grad(value.sum(), theta)
    assert_close(gradient, expected)
    logit = MLPLogOdds(theta, hidden, 1)
    decay = 0.5 * (rows(3, count, seed=2) * theta.square()).sum(-1)
    assert_close(value, mean_loss(logit, data) + decay)


def test_a_fit_is_a_stationary_point_of_the_loss_with_decay_on_matrices_only() -> None:
    data = labelled(rows(30, 2), 0.4)
    classifier = MLPClassifier(hidden=(3,), steps=4000, weight_decay=0.6)
    theta = classifier.fit(data, SEEDS).theta.requires_grad_()
    matrices = [matrix.square().sum() for matrix, _ in _layers(theta, (2, 3, 1))]
    loss = mean_loss(MLPLogOdds(theta, (3,), 1), data) + 0.5 * 0.6 / 30 * torch.stack(matrices).sum()
    (gradient,) = torch.autograd.grad(loss, theta)
    (bare,) = torch.autograd.grad(mean_loss(MLPLogOdds(theta, (3,), 1), data), theta)
    assert float(gradient.abs().max()) < 2e-3
    assert float(bare.abs().max()) > 1e-2


def test_it_recovers_the_log_ratio_of_two_gaussians() -> None:
    generator = torch.Generator().manual_seed(0)
    normal = torch.randn(2000, generator=generator, dtype=torch.float64)
    x = torch.cat((1.0 + normal[:1000], 2.0 * normal[1000:]))
    label = torch.cat((torch.ones(1000), torch.zeros(1000))).to(x)
    found = MLPClassifier().fit(WeightedExamples((x[:, None] + 7.0) / 14.0, label, 1.0 - label), SEEDS)
    grid = torch.linspace(-3.0, 4.0, 200, dtype=torch.float64)
    p, q = torch.distributions.Normal(1.0, 1.0), torch.distributions.Normal(0.0, 2.0)
    exact = p.log_prob(grid) - q.log_prob(grid)
    logit = found((grid[:, None] + 7.0) / 14.0)
    assert float(torch.corrcoef(torch.stack((exact, logit)))[0, 1]) > 0.97
    assert float((exact - logit).abs().mean()) < 0.4


def test_weighting_a_row_three_times_is_repeating_it_three_times() -> None:
    x = rows(12, 2)
    once = labelled(x)
    weight = torch.ones(12, dtype=torch.float64)
    weight[:4] = 3.0
    weighted = WeightedExamples(x, once.positive * weight, once.negative * weight)
    order = torch.tensor([*range(12), *range(4), *range(4)])
    repeated = WeightedExamples(x[order], once.positive[order], once.negative[order])
    classifier = MLPClassifier(steps=40, weight_decay=0.0)
    expected = classifier.fit(weighted, SEEDS)(x)
    assert_close(classifier.fit(repeated, SEEDS)(x), expected, rtol=1e-8, atol=1e-8)
    assert float((classifier.fit(once, SEEDS)(x) - expected).abs().max()) > 0.1


@pytest.mark.parametrize("n", [20, 600])
def test_the_unit_of_weights_and_rows_without_weight_do_not_matter(n: int) -> None:
    data = labelled(rows(n, 2))
    none = torch.zeros(5, dtype=torch.float64)
    padded = WeightedExamples(
        torch.cat((data.x, rows(5, 2, seed=3))),
        torch.cat((4.0 * data.positive, none)),
        torch.cat((4.0 * data.negative, none)),
    )
    classifier = MLPClassifier(steps=50)
    assert_close(classifier.fit(padded, SEEDS)(data.x), classifier.fit(data, SEEDS)(data.x))


def test_batches_give_an_unbiased_gradient() -> None:
    x = rows(2, 700, 2)
    data = WeightedExamples(x, rows(2, 700, seed=1).square(), rows(2, 700, seed=2) * (x[..., 0] > 0.3))
    whole = _Rows.of(data)
    sizes = (2, 4, 1)
    theta = (2.0 * rows(2, 17, seed=3) - 1.0).repeat_interleave(2, 0)
    loss = _Loss(sizes, torch.zeros_like(theta))
    steps = 400
    batches = whole.batches(2, steps, Seeds((1, 2), (2,)))
    gradients = torch.stack([loss(theta, batch)[1] for batch in batches])
    everything = _Rows(*(t.repeat_interleave(2, 0) for t in (whole.x, whole.label, whole.weight)))
    error = (gradients.mean(0) - loss(theta, everything)[1]) / (gradients.std(0) / steps**0.5)
    assert gradients.shape[0] == steps
    assert float(error.abs().max()) < 4.5
    assert float((gradients[0] - gradients[1]).abs().max()) > 1e-4
    assert float((gradients[0, 0] - gradients[0, 1]).abs().max()) > 1e-4


@pytest.mark.parametrize(("n", "steps"), [(30, 500), (600, 60)])
def test_replicates_are_their_solo_fits(n: int, steps: int) -> None:
    x = rows(2, 2, n, 3)
    data = labelled(x)
    classifier = MLPClassifier(hidden=(8, 8), steps=steps, weight_decay=0.3, members=2)
    together = classifier.fit(data, Seeds((5, 6, 7, 8), (2, 2)))
    assert together(x).shape == (2, 2, n)
    for place, key in enumerate((5, 6, 7, 8)):
        i, j = divmod(place, 2)
        solo = classifier.fit(replicate(replicate(data, i), j), Seeds((key,)))
        assert_close(together.theta[i, j], solo.theta, rtol=1e-6, atol=1e-6)
        assert_close(together(x)[i, j], solo(x[i, j]), rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize("columns", [1, pytest.param(2, marks=pytest.mark.slow), 6])
@pytest.mark.parametrize("n", [4, 15, 16, 17, pytest.param(33, marks=pytest.mark.slow), 61])
def test_replicates_are_their_solo_fits_to_the_last_bit(n: int, columns: int) -> None:
    """As shipped, so that whole runs of several hundred gradient steps a suggestion are equal too."""
    data = labelled(rows(3, n, columns, seed=n))
    classifier = MLPClassifier(steps=120, warm_steps=40)
    keys = (5, 6, 7)
    together = classifier.fit(data, Seeds(keys, (3,)))
    start = WarmStart(together.theta, n)
    again = classifier.fit(data, Seeds(keys, (3,)), start)
    for place, key in enumerate(keys):
        part = replicate(data, place)
        solo = classifier.fit(part, Seeds((key,)))
        assert torch.equal(together.theta[place], solo.theta)
        assert torch.equal(together(data.x)[place], solo(part.x))
        warm = classifier.fit(part, Seeds((key,)), WarmStart(solo.theta, n))
        assert torch.equal(again.theta[place], warm.theta)


def test_a_network_that_has_settled_rests_while_others_move_on(evaluations: list[int]) -> None:
    x = rows(2, 60, 3)
    hard = labelled(x).positive[1]
    easy = (torch.arange(60) % 2).to(x)
    positive = torch.stack((0.5 * torch.ones_like(easy), hard))
    data = WeightedExamples(x, positive, 1.0 - positive)
    classifier = MLPClassifier()
    solo = classifier.fit(replicate(data, 0), Seeds((1,)))
    short = len(evaluations)
    together = classifier.fit(data, Seeds((1, 2), (2,)))
    assert short < len(evaluations) - short <= classifier.steps
    assert_close(together.theta[0], solo.theta, rtol=1e-8, atol=1e-8)


def test_a_warm_start_takes_fewer_steps_to_a_lower_loss(evaluations: list[int]) -> None:
    data = labelled(rows(80, 3))
    found = MLPClassifier().fit(data, SEEDS)
    short = MLPClassifier(steps=40, warm_steps=10)
    evaluations.clear()
    cold = short.fit(data, SEEDS)
    warm = short.fit(data, SEEDS, WarmStart(found.theta, 80))
    assert len(evaluations) == 40 + 10
    assert warm.hyperparameters is warm.theta
    assert found.hyperparameters is None
    assert float(mean_loss(warm, data)) < 0.5 * float(mean_loss(cold, data))


def test_a_fit_from_afresh_begins_at_the_odds_of_the_classes() -> None:
    data = labelled(rows(2, 40, 2))
    found = MLPClassifier(hidden=(3,), steps=1, rate=1e-9).fit(data, Seeds((1, 2), (2,)))
    expected = (data.positive.sum(-1) / data.negative.sum(-1)).log()
    assert_close(found.theta[:, -1], expected, rtol=0.0, atol=1e-8)


def test_a_start_of_another_length_or_that_is_not_finite_is_not_used() -> None:
    data = labelled(rows(2, 20, 3))
    seeds = Seeds((1, 2), (2,))
    classifier = MLPClassifier(hidden=(4,), steps=20, warm_steps=20)
    fresh = classifier.fit(data, seeds)
    other = MLPClassifier(hidden=(5,), steps=20).fit(data, seeds)
    assert_close(
        classifier.fit(data, seeds, WarmStart(other.theta, 20)).theta,
        fresh.theta,
        rtol=0.0,
        atol=0.0,
    )
    broken = fresh.theta.clone()
    broken[0, 3] = torch.nan
    mended = classifier.fit(data, seeds, WarmStart(broken, 20))
    assert bool(mended.theta.isfinite().all())


@pytest.mark.parametrize("step", [5, pytest.param(1, marks=pytest.mark.slow)])
def test_many_warm_starts_on_growing_data_leave_a_network_that_still_learns(step: int) -> None:
    x = rows(110, 2)
    classifier = MLPClassifier(hidden=(16, 16), warm_steps=125)
    start = None
    for n in range(10, 111, step):
        found = classifier.fit(labelled(x[:n]), SEEDS, start)
        start = WarmStart(found.theta, n)
    fresh = classifier.fit(labelled(x), SEEDS)
    assert float(mean_loss(found, labelled(x))) < float(mean_loss(fresh, labelled(x))) + 0.02
    assert float(found.theta.abs().max()) < 20.0
    point = rows(200, 2, seed=1).requires_grad_()
    (slope,) = torch.autograd.grad(found(point).sum(), point)
    assert float(slope.norm(dim=-1).min()) > 1e-3


def test_an_ensemble_gives_the_log_odds_of_the_mean_probability() -> None:
    data = labelled(rows(40, 2))
    found = MLPClassifier(hidden=(4,), steps=60, members=3).fit(data, SEEDS)
    members = [MLPLogOdds(theta, (4,), 1) for theta in found.theta.reshape(3, -1)]
    x = rows(50, 2, seed=1)
    probabilities = torch.stack([member(x).sigmoid() for member in members])
    assert_close(found(x), probabilities.mean(0).logit())
    assert float(probabilities.std(0).max()) > 1e-2


def test_log_odds_of_extreme_members_are_exact() -> None:
    x = torch.tensor([[1.0], [0.0], [0.5]], dtype=torch.float64, requires_grad=True)
    theta = torch.tensor([800.0, 0.0, 800.0, 0.0], dtype=torch.float64)
    value = MLPLogOdds(theta, (), 2)(x)
    (slope,) = torch.autograd.grad(value.sum(), x)
    assert_close(value.tolist(), [800.0, -800.0, 0.0])
    assert_close(slope[:, 0].tolist(), [1600.0, 1600.0, 1600.0])
    theta[2] = 0.0
    assert_close(MLPLogOdds(theta, (), 2)(x)[0].exp(), torch.tensor(3.0, dtype=torch.float64))


@pytest.mark.parametrize("members", [1, 3])
def test_the_gradient_by_x_agrees_with_finite_differences(members: int) -> None:
    found = MLPClassifier(hidden=(8, 8), steps=60, members=members).fit(labelled(rows(30, 3)), SEEDS)
    assert torch.autograd.gradcheck(found, rows(6, 3, seed=1).requires_grad_())


def test_categories_are_only_equal_or_different() -> None:
    level = torch.arange(40) % 4
    order = torch.tensor([2, 0, 3, 1])
    label = ((level == 1) | (level == 2)).to(torch.float64)
    ordered = rows(40)
    classifier = MLPClassifier(hidden=(6,), warm_steps=50)

    def data(codes: Tensor) -> WeightedExamples:
        x = torch.stack((ordered, codes / 3.0), -1)
        return WeightedExamples(x, label, 1.0 - label, (1,), (None, 4))

    start = MLPClassifier(hidden=(6,), steps=1).fit(data(level), SEEDS).theta
    renamed = start.clone()
    matrix = renamed[:30].reshape(5, 6)  # a view: its last four rows are of the levels
    matrix[1 + order] = matrix[1:].clone()
    first = classifier.fit(data(level), SEEDS, WarmStart(start, 40))
    second = classifier.fit(data(order[level]), SEEDS, WarmStart(renamed, 40))
    assert_close(second(data(order[level]).x), first(data(level).x))


def test_columns_that_are_ordered_keep_their_slope_beside_categories() -> None:
    x = torch.stack((rows(60), (torch.arange(60) % 3) / 2.0), -1)
    label = (x[:, 0] > 0.5).to(x)
    found = MLPClassifier().fit(WeightedExamples(x, label, 1.0 - label, (1,), (None, 3)), SEEDS)
    point = x.clone().requires_grad_()
    (slope,) = torch.autograd.grad(found(point).sum(), point)
    assert bool((slope[:, 0] > 0).all())
    assert_close(slope[:, 1], torch.zeros_like(slope[:, 1]))


def test_the_same_seeds_give_the_same_fit_and_others_another() -> None:
    data = labelled(rows(600, 2))
    classifier = MLPClassifier(steps=10)
    first, again, other = (classifier.fit(data, Seeds.of(0, trial)).theta for trial in (0, 0, 1))
    assert_close(again, first, rtol=0.0, atol=0.0)
    assert float((other - first).abs().max()) > 0.1


@pytest.mark.parametrize("n", [40, 600])
def test_single_precision_gives_about_the_same(n: int) -> None:
    double = labelled(rows(n, 2))
    single = WeightedExamples(double.x.float(), double.positive.float(), double.negative.float())
    classifier = MLPClassifier(hidden=(8,), steps=100, members=2)
    found = classifier.fit(single, SEEDS)
    assert found.theta.dtype == torch.float32
    logit = found(single.x)
    assert logit.dtype == torch.float32
    assert_close(logit.double(), classifier.fit(double, SEEDS)(double.x), rtol=1e-2, atol=1e-2)


def test_one_row_of_each_class_is_enough() -> None:
    x = torch.tensor([[0.2, 0.2], [0.8, 0.8]], dtype=torch.float64)
    label = torch.tensor([1.0, 0.0], dtype=torch.float64)
    logit = MLPClassifier().fit(WeightedExamples(x, label, 1.0 - label), SEEDS)(x)
    assert 0.2 < float(logit[0]) < 10.0
    assert -10.0 < float(logit[1]) < -0.2


@pytest.mark.parametrize("split", [False, True])
def test_equal_rows_of_both_classes_have_the_logarithm_of_their_weights_ratio(split: bool) -> None:
    count = 4 if split else 1
    x = torch.full((count, 2), 0.3, dtype=torch.float64)
    positive = torch.full((count,), 3.0, dtype=torch.float64)
    negative = torch.full((count,), 0.5, dtype=torch.float64)
    if split:
        positive[:2], negative[2:] = 0.0, 0.0
    found = MLPClassifier().fit(WeightedExamples(x, positive, negative), SEEDS)
    assert_close(found(x), torch.full((count,), 6.0, dtype=torch.float64).log(), rtol=0.0, atol=0.02)


@pytest.mark.parametrize(
    ("build", "message"),
    [
        (lambda: MLPClassifier(steps=0), r"`steps >= 1` must hold, got 0"),
        (lambda: MLPClassifier(members=0), r"`members >= 1` must hold, got 0"),
        (lambda: MLPClassifier(hidden=(4, 0)), r"every hidden layer needs at least one unit, got \(4, 0\)"),
        (lambda: MLPClassifier(rate=0.0), r"`0 < rate < inf` must hold, got 0.0"),
        (lambda: MLPClassifier(rate=float("nan")), r"`0 < rate < inf` must hold, got nan"),
        (lambda: MLPClassifier(weight_decay=-1.0), r"`0 <= weight_decay < inf` must hold, got -1.0"),
        (lambda: MLPClassifier(weight_decay=float("inf")), r"`0 <= weight_decay < inf` must hold, got inf"),
    ],
)
def test_fields_that_break_a_law_are_refused(build: Callable[[], MLPClassifier], message: str) -> None:
    with pytest.raises(DataError, match=message):
        build()
