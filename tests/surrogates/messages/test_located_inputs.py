"""Uncertain inputs that outputs locate."""

import math
from itertools import pairwise

import pytest
import torch
from torch import Tensor

from bo_suite.errors import ArgumentError, DataError
from bo_suite.kernels import Matern52, SquaredExponential
from bo_suite.surrogates.messages import (
    FixedPrecision,
    GammaPrecision,
    OperatorOutputs,
    Outputs,
    ScalarOutputs,
    StreamingGP,
    VectorOutputs,
    gradients,
    locate_inputs,
)


def number(value: float) -> Tensor:
    return torch.tensor(value, dtype=torch.float64)


def made(n: int = 80, seed: int = 0, lead: tuple[int, ...] = ()) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Rows as they were meant, as they were, outputs, and standard deviations."""
    generator = torch.Generator().manual_seed(seed)
    shown = torch.rand(*lead, n, 1, generator=generator, dtype=torch.float64)
    x = shown + 0.1 * torch.randn(*lead, n, 1, generator=generator, dtype=torch.float64)
    noise = 0.05 * torch.randn(*lead, n, generator=generator, dtype=torch.float64)
    return shown, x, torch.sin(9.0 * x[..., 0]) + noise, torch.full_like(x, 0.1)


def started(
    outputs: Outputs | None = None, kernel: Matern52 | SquaredExponential | None = None, width: int = 1
) -> StreamingGP:
    theta = torch.tensor([math.log(0.25), 0.0], dtype=torch.float64)
    inducing = torch.linspace(-0.2, 1.2, 20, dtype=torch.float64)[:, None]
    prior = GammaPrecision(number(1.0), number(0.1), width)
    return StreamingGP.start(
        kernel or SquaredExponential(), theta, inducing, outputs or ScalarOutputs(), prior
    )


@pytest.mark.parametrize("seed", [0, 1, 2])
def test_located_inputs_bring_the_function_and_the_inputs_nearer(seed: int) -> None:
    shown, x, y, std = made(seed=seed)
    start = started()
    plain, smeared = start.observed(shown, y).converged(), start.observed(shown, y, std).converged()
    located = locate_inputs(start, shown, y, std)
    at = torch.linspace(0.05, 0.95, 100, dtype=torch.float64)[:, None]
    errors = [
        float((gp.process.mean(at) - torch.sin(9.0 * at[:, 0])).square().mean())
        for gp in (plain, located.process)
    ]
    assert errors[1] < 0.5 * errors[0]
    assert float(located.process.bound) > float(smeared.bound)
    assert float(located.process.noise.mean) > 3.0 * float(plain.noise.mean)
    distance = (located.mean - x).square().mean() / (shown - x).square().mean()
    assert float(distance) < 1.0
    assert float(located.std.mean()) < 0.1


def test_no_round_lowers_the_bound(monkeypatch: pytest.MonkeyPatch) -> None:
    shown, _, y, std = made(40)
    bounds = [float(started(kernel=Matern52()).observed(shown, y, std).converged().bound)]
    for rounds in range(1, 12):
        monkeypatch.setattr("bo_suite.surrogates.messages.inputs._ROUNDS", rounds)
        bounds.append(float(locate_inputs(started(kernel=Matern52()), shown, y, std, 0.0).process.bound))
    assert all(after > before - 1e-9 for before, after in pairwise(bounds))
    assert bounds[-1] > bounds[0] + 1.0


def test_probabilities_are_those_of_the_bound() -> None:
    """One datum, v known but for its posterior: the bound over q(x) is a log sum of exponentials."""
    shown, _, y, std = made(30)
    before = started().observed(shown, y).converged()
    fixed = FixedPrecision(before.noise.mean)
    known = StreamingGP.start(
        SquaredExponential(), before.basis.theta, before.basis.rows, ScalarOutputs(), fixed
    )
    known = known.observed(shown, y)
    one = locate_inputs(known, shown[:1], y[:1], std[:1], 1e-12)
    nothing = known.observed(shown[:1], y[:1], std[:1])
    assert float(one.process.bound) >= float(nothing.bound)
    assert float(one.process.sums.divergence) > 0.0
    assert one.process.sums.count == 31
    again = one.process.converged()
    torch.testing.assert_close(again.bound, one.process.bound)


def test_exact_inputs_stay_where_they_are() -> None:
    shown, _, y, _ = made(20)
    located = locate_inputs(started(), shown, y, torch.zeros_like(shown))
    torch.testing.assert_close(located.mean, shown)
    assert float(located.std.max()) == 0.0
    torch.testing.assert_close(
        located.process.bound, started().observed(shown, y).converged().bound, atol=1e-4, rtol=0.0
    )


def test_several_outputs_locate_better_than_one() -> None:
    shown, x, y, std = made()
    more = torch.stack((y, torch.cos(9.0 * x[:, 0])), -1)
    one = locate_inputs(started(), shown, y, std)
    both = locate_inputs(started(VectorOutputs(torch.eye(2, dtype=torch.float64)), width=2), shown, more, std)
    errors = [float((each.mean - x).square().mean()) for each in (one, both)]
    assert errors[1] < errors[0]


def test_replicates_equal_solo_runs() -> None:
    shown, _, y, std = made(15, lead=(2,))
    start = started()
    inducing, theta = start.basis.rows.expand(2, -1, -1), start.basis.theta.expand(2, -1)
    together = StreamingGP.start(SquaredExponential(), theta, inducing, ScalarOutputs(), start.prior)
    together_located = locate_inputs(together, shown, y, std)
    for i in range(2):
        alone = locate_inputs(start, shown[i], y[i], std[i])
        torch.testing.assert_close(together_located.mean[i], alone.mean, atol=1e-6, rtol=0.0)
        torch.testing.assert_close(together_located.process.bound[i], alone.process.bound)


def test_wrong_arguments_are_refused() -> None:
    shown, _, y, std = made(5)
    with pytest.raises(DataError, match="at least 0"):
        locate_inputs(started(), shown, y, -std)
    with pytest.raises(ArgumentError, match="cannot be located"):
        locate_inputs(started(OperatorOutputs(gradients)), shown, y[:, None], std)
