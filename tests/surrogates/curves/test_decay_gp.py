"""Regression on configurations and steps against exact regression on the same rows."""

import math
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.testing import assert_close

from bo_suite.data import Curves, Dataset, Seeds
from bo_suite.errors import DataError, FitError
from bo_suite.kernels import ExponentialDecay, Matern52
from bo_suite.surrogates import DecayGP, ExactGP, Process, Surrogate, WarmStart
from bo_suite.testing import check_surrogate

SEEDS = Seeds.of(0, 0)
CLOSE: Any = {"atol": 1e-8, "rtol": 1e-8}


def curves_of(count: int, size: int, seed: int = 0) -> Curves:
    generator = torch.Generator().manual_seed(seed)
    x = torch.rand(count, 2, generator=generator, dtype=torch.float64)
    steps = torch.arange(1, size + 1, dtype=torch.float64) / size
    y = torch.sin(3.0 * x[:, :1]) + 0.8 * torch.exp(-3.0 * steps)
    y = y + 0.02 * torch.randn(count, size, generator=generator, dtype=torch.float64)
    lengths = torch.randint(1, size + 1, (count,), generator=generator)
    y[torch.arange(size) >= lengths[:, None]] = math.nan
    return Curves(x, steps, y)


def data_of(curves: Curves) -> Dataset:
    x = curves.x[..., :2, :]
    return Dataset(x, x[..., 0], curves=curves)


def test_it_is_exact_regression_on_rows_of_configurations_and_steps() -> None:
    """Used are steps 8, 4, 2 and 1 of 8, and the last one of each curve."""
    curves = curves_of(6, 8)
    rows, outcomes = [], []
    for x, y in zip(curves.x, curves.y, strict=True):
        last = int((~y.isnan()).sum())
        for step in sorted({1, 2, 4, 8, last}):
            if step <= last:
                rows.append(torch.cat((x, curves.steps[step - 1 : step])))
                outcomes.append(y[step - 1])
    by_hand = Dataset(torch.stack(rows), torch.stack(outcomes))
    surrogate, data = DecayGP(ExactGP(mean=0.1)), data_of(curves)
    exact = ExactGP(ExponentialDecay(Matern52()), mean=0.1)
    start = surrogate.start(data)
    assert_close(start, exact.start(by_hand))
    expected, process = exact.process(by_hand, start), surrogate.process(data, start)
    test = torch.rand(4, 2, generator=torch.Generator().manual_seed(5), dtype=torch.float64)
    for step in (1.0, 0.4):
        wide = torch.cat((test, torch.full((4, 1), step, dtype=torch.float64)), -1)
        view = process.at(step)
        assert_close(view.mean(test), expected.mean(wide), **CLOSE)
        assert_close(view.var(test), expected.var(wide), **CLOSE)
        assert_close(view.cov(test, test[:2]), expected.cov(wide, wide[:2]), **CLOSE)
        more = view.condition(test[:1], torch.tensor([0.3], dtype=torch.float64))
        conditioned = expected.condition(wide[:1], torch.tensor([0.3], dtype=torch.float64))
        assert_close(more.mean(test), conditioned.mean(wide), **CLOSE)
        target = torch.cat((test, torch.ones(4, 1, dtype=torch.float64)), -1)
        assert_close(more.at(1.0).mean(test), conditioned.mean(target), **CLOSE)


def test_a_mean_function_sees_configurations() -> None:
    curves = curves_of(5, 4)
    data = data_of(curves)
    surrogate = DecayGP(ExactGP(mean=lambda x: x.sum(-1)))
    residuals = Curves(curves.x, curves.steps, curves.y - curves.x.sum(-1, keepdim=True))
    start = surrogate.start(data)
    process = surrogate.process(data, start)
    plain = DecayGP(ExactGP(mean=0.0)).process(data_of(residuals), start)
    assert_close(process.mean(curves.x), plain.mean(curves.x) + curves.x.sum(-1), **CLOSE)


def test_replicates_equal_each_alone() -> None:
    """With different numbers of rows."""
    alone = [curves_of(5, 6, seed) for seed in (0, 1)]
    assert alone[0].observed.sum() != alone[1].observed.sum()
    both = Curves(torch.stack([c.x for c in alone]), alone[0].steps, torch.stack([c.y for c in alone]))
    surrogate = DecayGP()
    theta = surrogate.start(data_of(alone[0]))
    together = surrogate.process(data_of(both), theta.expand(2, -1))
    test = torch.rand(2, 4, 2, generator=torch.Generator().manual_seed(5), dtype=torch.float64)
    for index, curves in enumerate(alone):
        single = surrogate.process(data_of(curves), theta)
        assert_close(together.mean(test)[index], single.mean(test[index]), **CLOSE)
        assert_close(together.var(test)[index], single.var(test[index]), **CLOSE)
    fitted = surrogate.fit(data_of(both), SEEDS)
    assert bool(torch.isfinite(fitted.mean(test)).all())


def test_a_fit_extrapolates_curves_that_have_hardly_begun() -> None:
    curves = curves_of(20, 9)
    x, last = curves.x, torch.sin(3.0 * curves.x[:, 0]) + 0.8 * math.exp(-3.0)
    data = data_of(curves)
    process = DecayGP().fit(data, SEEDS)
    assert float((process.mean(x) - last).abs().mean()) < 0.15
    begun = process.at(1 / 9).mean(x) - process.mean(x)
    assert_close(
        begun, torch.full_like(begun, 0.8 * (math.exp(-1 / 3) - math.exp(-3.0))), atol=0.15, rtol=0.0
    )
    start = WarmStart(process.hyperparameters, 2, settled=True)
    assert_close(DecayGP().fit(data, SEEDS, start).mean(x), process.mean(x), atol=1e-6, rtol=0.0)


def test_gradients_agree_with_finite_differences() -> None:
    curves = curves_of(6, 4)
    process = DecayGP().process(data_of(curves), DecayGP().start(data_of(curves)))
    leaf = curves.x[:2].clone().requires_grad_()
    mean, var = process.at(0.5).mean_and_var(leaf)
    (gradient,) = torch.autograd.grad(mean.sum() + var.sum(), leaf)

    def total(x: Tensor) -> Tensor:
        return sum((each.sum() for each in process.at(0.5).mean_and_var(x)), torch.zeros(()))

    step = torch.tensor([0.0, 1e-6], dtype=torch.float64)
    slope = (total(curves.x[:2] + step) - total(curves.x[:2] - step)) / 2e-6
    assert_close(gradient[:, 1].sum(), slope, atol=1e-6, rtol=1e-6)


def test_wrong_data_and_arguments_are_refused() -> None:
    curves = curves_of(3, 4)
    empty = Curves(curves.x, curves.steps, torch.full_like(curves.y, math.nan))
    with pytest.raises(FitError, match="at least one observation"):
        DecayGP().fit(data_of(empty), SEEDS)
    for factor in (1.0, math.nan):
        with pytest.raises(DataError, match="factor"):
            DecayGP(factor=factor)


def test_it_is_a_surrogate() -> None:
    assert isinstance(DecayGP(), Surrogate)
    curves = curves_of(4, 3)
    assert isinstance(DecayGP().process(data_of(curves), DecayGP().start(data_of(curves))), Process)
    check_surrogate(DecayGP())
