"""A prior mean that is a function of x: everything is GP regression on the residuals, plus the function."""

import math
from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.testing import assert_close

from bo_suite.acquisition import KnowledgeGradient
from bo_suite.classifiers import GPClassifier, WeightedExamples
from bo_suite.data import Dataset, Seeds
from bo_suite.errors import DataError
from bo_suite.integrations.botorch import ProcessModel
from bo_suite.surrogates import SGPR, SVGP, AutoGP, ExactGP, ExactProcess, PriorMean, Process, WarmStart
from bo_suite.surrogates.inducing import Given
from bo_suite.surrogates.paths import draw_paths
from bo_suite.surrogates.prior_mean import check_mean, without_function
from bo_suite.surrogates.variational.training import NaturalLBFGS
from bo_suite.testing.data import dataset, rows

CLOSE = {"rtol": 1e-9, "atol": 1e-9}
THETA = torch.tensor([-0.7, -0.3, 0.1, 0.2, -3.0], dtype=torch.float64)
NEW, TEST = rows(2, seed=8), rows(5, seed=3)


def slope(x: Tensor) -> Tensor:
    """A mean function that is not linear and not small."""
    return 3.0 * torch.sin(2.0 * x[..., 0]) - x[..., 1].square()


def data(*batch: int, count: int = 12) -> tuple[Dataset, Dataset]:
    """Data, and the same with the residuals as outcomes."""
    whole = dataset(count, *batch)
    return whole, Dataset(whole.x, whole.y - slope(whole.x), None, whole.pending, whole.columns)


def exact(surrogate: ExactGP, part: Dataset) -> ExactProcess:
    return surrogate.process(part, THETA.expand(*part.batch_shape, -1))


PAIRS: dict[str, Any] = {
    "exact": lambda mean, part: exact(ExactGP(mean=mean), part),
    "sgpr": lambda mean, part: SGPR(mean=mean).process(part, THETA, rows(6, seed=5)),
    "auto": lambda mean, part: AutoGP(ExactGP(mean=mean), 5, 6, Given(rows(6, seed=5))).fit(
        part, Seeds.of(0, 0), WarmStart(THETA, 12, settled=True)
    ),
    "svgp": lambda mean, part: SVGP(mean=mean).process(part, THETA, rows(6, seed=5)),
}
each = pytest.mark.parametrize("name", PAIRS)


def pair(name: str, *batch: int) -> tuple[Process, Process]:
    """A process with the mean function, and one of the residuals with mean zero."""
    whole, residuals = data(*batch)
    return PAIRS[name](slope, whole), PAIRS[name](0.0, residuals)


def test_the_exact_process_is_regression_on_residuals_by_hand() -> None:
    whole, residuals = data(2)
    process = exact(ExactGP(mean=slope), whole)
    x, y = NEW.expand(2, -1, -1), torch.tensor([[0.3, -1.2], [2.0, 0.4]], dtype=torch.float64)
    fantasies = torch.stack((y, y + 1.0, -y))
    test = TEST.expand(2, -1, -1)

    def by_hand(rows_seen: Tensor, residual: Tensor) -> tuple[Tensor, Tensor]:
        joint = process.kernel.gram(process.theta, torch.cat((rows_seen, test), -2))[0]
        n = rows_seen.shape[-2]
        noise = process.noise[..., None, None] * torch.eye(n, dtype=torch.float64)
        gain = torch.linalg.solve(joint[..., :n, :n] + noise, joint[..., :n, n:]).mT
        mean = slope(test) + (gain @ residual[..., None])[..., 0]
        return mean, joint[..., n:, n:] - gain @ joint[..., :n, n:]

    mean, cov = by_hand(whole.x, residuals.y)
    assert_close(process.mean(test), mean, **CLOSE)
    assert_close(process.cov(test, test), cov, **CLOSE)
    seen = torch.cat((whole.x, x), -2)
    conditioned = process.condition(x, fantasies)
    moments = conditioned.lookahead(test[:, :2]).moments(test)
    for index, outcomes in enumerate(fantasies):
        mean, cov = by_hand(seen, torch.cat((residuals.y, outcomes - slope(x)), -1))
        assert_close(conditioned.mean(test)[index], mean, **CLOSE)
        assert_close(moments[0][index], mean, **CLOSE)
        assert_close(moments[2], cov[..., :2], **CLOSE)
    mean, _ = by_hand(seen[:, 2:], torch.cat((residuals.y, y - slope(x)), -1)[:, 2:])
    assert_close(process.slide(x, y).mean(test), mean, **CLOSE)
    mean, _ = by_hand(whole.x[:, 3:], residuals.y[:, 3:])
    assert_close(process.delete(slice(3)).mean(test), mean, **CLOSE)


@each
def test_moments_fantasies_lookahead_and_paths_are_those_of_the_residuals(name: str) -> None:
    process, twin = pair(name)
    y = torch.tensor([[0.3, -1.2], [1.0, 0.4]], dtype=torch.float64)
    for ours, theirs in (
        (process, twin),
        (process.condition(NEW, y), twin.condition(NEW, y - slope(NEW))),
    ):
        assert_close(ours.mean(TEST), theirs.mean(TEST) + slope(TEST), **CLOSE)
        assert_close(ours.cov(TEST, NEW), theirs.cov(TEST, NEW), **CLOSE)
        mean, cov = ours.lookahead(NEW).mean_and_cov(TEST)
        assert_close(mean, ours.mean(TEST), **CLOSE)
        assert_close(cov, ours.cov(TEST, NEW), **CLOSE)
    paths = [draw_paths(each, 3, Seeds.of(0, 1))(TEST) for each in (process, twin)]
    assert_close(paths[0], paths[1] + slope(TEST), **CLOSE)
    if not isinstance(process, ExactProcess):
        absorbed, other = process.absorb(NEW, y), twin.absorb(NEW, y - slope(NEW))
        assert_close(absorbed.mean(TEST), other.mean(TEST) + slope(TEST), **CLOSE)
        assert_close(
            absorbed.release(NEW, y).mean(TEST), process.mean(TEST).expand(2, -1), rtol=0.0, atol=1e-7
        )


@each
def test_gradients_go_through_the_mean_function(name: str) -> None:
    process, x = pair(name)[0], TEST.clone()

    def values(ordered: Tensor) -> Tensor:
        z = torch.cat((ordered, x[:, 2:]), -1)
        path, ahead = draw_paths(process, 1, Seeds.of(0, 1), features=8)(z)[0], process.lookahead(NEW)
        return torch.stack((process.mean(z), ahead.moments(z)[0], ahead.mean_and_cov(z)[0], path))

    assert torch.autograd.gradcheck(values, x[:, :2].clone().requires_grad_())


@pytest.mark.parametrize("sign", [1.0, -1.0])
def test_a_botorch_model_has_the_mean_function_too(sign: float) -> None:
    process, _ = pair("exact")
    model = ProcessModel(process, negate=sign < 0).to(torch.float64)
    assert_close(model.posterior(TEST).mean[:, 0], sign * process.mean(TEST), **CLOSE)
    y = torch.tensor([0.3, -1.2], dtype=torch.float64)
    conditioned = model.condition_on_observations(NEW, sign * y[:, None])
    assert_close(conditioned.posterior(TEST).mean[:, 0], sign * process.condition(NEW, y).mean(TEST), **CLOSE)


@pytest.mark.parametrize(
    "surrogate",
    [ExactGP, SGPR, lambda mean: SVGP(mean=mean, training=NaturalLBFGS(rounds=2))],
    ids=["exact", "sgpr", "svgp"],
)
def test_a_fit_with_a_mean_function_is_that_of_the_residuals(surrogate: Any) -> None:
    whole, residuals = data(2)
    seeds = Seeds((1, 2), (2,))
    process, twin = surrogate(mean=slope).fit(whole, seeds), surrogate(mean=0.0).fit(residuals, seeds)
    assert_close(process.hyperparameters, twin.hyperparameters, rtol=0.0, atol=1e-2)
    assert_close(process.mean(whole.x), twin.mean(whole.x) + slope(whole.x), rtol=0.0, atol=1e-2)
    free = surrogate(mean=None).fit(whole, seeds)
    assert free.prior_mean.function is None
    assert bool((free.prior_mean.constant != 0.0).all())


@pytest.mark.parametrize("mean", [0.4, slope, None], ids=["constant", "function", "fitted"])
def test_the_gradient_of_the_posterior_density_at_any_mean(mean: Any) -> None:
    surrogate, whole = ExactGP(mean=mean), data()[0]
    _, gradient = surrogate.log_posterior(whole, THETA)
    for column in range(len(THETA)):
        step = torch.zeros_like(THETA)
        step[column] = 1e-5
        values = [surrogate.log_posterior(whole, THETA + sign * step)[0] for sign in (1.0, -1.0)]
        assert_close(gradient[column], (values[0] - values[1]) / 2e-5, rtol=1e-6, atol=1e-6)


def test_a_classifier_takes_a_function_as_it_takes_a_constant() -> None:
    x = rows(20, seed=2)
    label = (x[:, 0] > 0.5).to(x)
    examples = WeightedExamples(x, label, 1.0 - label)
    constant, function = (
        GPClassifier(mean=mean).fit(examples, Seeds.of(0, 0))
        for mean in (0.7, lambda z: torch.full_like(z[..., 0], 0.7))
    )
    assert_close(function(TEST), constant(TEST), **CLOSE)
    assert_close(function.bound, constant.bound, **CLOSE)


def test_other_means_are_refused() -> None:
    message = "mean must be a finite number, a function of encoded rows, or None, got"
    for mean in (True, "zero", torch.zeros(2)):
        with pytest.raises(DataError, match=message):
            check_mean(mean)
    for surrogate in (ExactGP, SGPR, SVGP, GPClassifier):
        with pytest.raises(DataError, match=message):
            surrogate(mean=math.nan)


def test_a_function_without_one_value_a_row_is_refused() -> None:
    for function in (lambda x: x, lambda x: 0.0):
        with pytest.raises(DataError, match=r"a mean function must return \(12,\) for \(12, 3\), got"):
            ExactGP(mean=function).process(data()[0], THETA)
    assert PriorMean(torch.tensor([1.0, 2.0]))(torch.zeros(2, 3, 1)).tolist() == [[1.0] * 3, [2.0] * 3]


class Plain:
    """An outside surrogate, whose process has what `Process` asks for and no more."""

    class Posterior:
        def __init__(self, process: Process) -> None:
            self.noise, self.scale, self.hyperparameters = (
                process.noise,
                process.scale,
                process.hyperparameters,
            )
            self.mean, self.var, self.cov = process.mean, process.var, process.cov
            self.mean_and_var, self.condition = process.mean_and_var, process.condition

    def fit(self, data: Dataset, seeds: Seeds, start: WarmStart | None = None) -> Process:
        return Plain.Posterior(ExactGP().fit(data, seeds, start))


def test_the_knowledge_gradient_says_what_a_process_lacks() -> None:
    assert isinstance(Plain().fit(data()[0], Seeds.of(0, 0)), Process)
    with pytest.raises(
        DataError, match=r"needs a surrogate whose process has a method `lookahead`.*Posterior"
    ):
        KnowledgeGradient(Plain()).build(data()[0], Seeds.of(0, 0))


@pytest.mark.parametrize("batch", [(), (2,)])
def test_the_gradient_of_the_function_is_taken_off_known_derivatives(batch: tuple[int, ...]) -> None:
    whole, residuals = data(*batch)
    known = torch.ones_like(whole.x)
    known[..., 3, 1] = math.nan
    less = without_function(replace(whole, gradient=known), slope)
    assert_close(less.y, residuals.y)
    x = whole.x
    expected = known - torch.stack(
        (6.0 * torch.cos(2.0 * x[..., 0]), -2.0 * x[..., 1], torch.zeros_like(x[..., 2])), -1
    )
    assert less.gradient is not None
    assert_close(less.gradient, expected, equal_nan=True)
    assert not less.gradient.requires_grad
    constant = without_function(replace(whole, gradient=known), lambda rows: rows.new_ones(rows.shape[:-1]))
    assert constant.gradient is not None
    assert_close(constant.gradient, known, equal_nan=True)
