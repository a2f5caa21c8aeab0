"""Expectations of covariances over uncertain inputs."""

import math

import pytest
import torch
from torch import Tensor

from bo_suite.kernels import Matern52, SquaredExponential
from bo_suite.surrogates.basis import Basis, inducing_basis
from bo_suite.surrogates.features.points import Points
from bo_suite.surrogates.messages.expectations import (
    closed_expectations,
    expectations,
    quadrature_expectations,
)


def draws(*shape: int, seed: int = 0) -> Tensor:
    return torch.rand(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def basis_of(kernel: Matern52 | SquaredExponential, d: int, lead: tuple[int, ...] = (), m: int = 6) -> Basis:
    theta = 0.4 * draws(*lead, d + 1, seed=1) - 0.9
    return inducing_basis(kernel, theta, Points(draws(*lead, m, d, seed=2)), 1e-8)


@pytest.mark.parametrize("columns", [(0,), (0, 2)])
def test_closed_form_and_gauss_hermite_agree(columns: tuple[int, ...]) -> None:
    basis, x = basis_of(SquaredExponential(), 3, lead=(2,)), draws(2, 5, 3)
    std = torch.zeros_like(x)
    std[..., list(columns)] = 0.25 * draws(2, 5, len(columns), seed=4)
    closed, rule = closed_expectations(basis, x, std), quadrature_expectations(basis, x, std)
    torch.testing.assert_close(closed.prior, rule.prior)
    torch.testing.assert_close(closed.first, rule.first, atol=1e-8, rtol=1e-8)
    torch.testing.assert_close(closed.second, rule.second, atol=1e-7, rtol=1e-7)


def test_gauss_hermite_of_a_rough_kernel_and_the_rule_of_many_columns_are_near_monte_carlo() -> None:
    for kernel, d, limit in ((Matern52(), 1, 5.0), (SquaredExponential(), 5, 5.0)):
        basis, x = basis_of(kernel, d), draws(2, d)
        std = 0.1 + 0.1 * draws(2, d, seed=4)
        rule = quadrature_expectations(basis, x, std)
        noise = torch.randn(20_000, 2, d, generator=torch.Generator().manual_seed(5), dtype=torch.float64)
        a = basis.whiten((x + std * noise).flatten(0, 1)).unflatten(-1, (-1, 2))
        products = torch.einsum("ikn,jkn->ijk", a, a)
        error = products.std(-1) / math.sqrt(products.shape[-1])
        assert bool(((products.mean(-1) - rule.second).abs() < limit * error + 1e-3).all())
        error = a.std(-2) / math.sqrt(a.shape[-2])
        assert bool(((a.mean(-2) - rule.first).abs() < limit * error + 1e-3).all())


def test_many_uncertain_columns_agree_with_the_closed_form() -> None:
    basis, x = basis_of(SquaredExponential(), 6), draws(4, 6)
    std = 0.05 + 0.1 * draws(4, 6, seed=4)
    closed, rule = closed_expectations(basis, x, std), quadrature_expectations(basis, x, std)
    scale = closed.second.diagonal().max()
    assert float((closed.second - rule.second).abs().max() / scale) < 0.01


def test_exact_inputs_are_a_special_case() -> None:
    basis, x = basis_of(SquaredExponential(), 2), draws(5, 2)
    a = basis.whiten(x)
    for std in (None, torch.zeros_like(x)):
        exact = expectations(basis, x, std)
        assert exact.vectors is not None
        assert torch.equal(exact.first, a)
        assert torch.equal(exact.second, a @ a.mT)
    tiny = torch.full_like(x, 1e-9)
    for each in (closed_expectations(basis, x, tiny), quadrature_expectations(basis, x, tiny)):
        torch.testing.assert_close(each.first, a, atol=1e-7, rtol=0.0)
        torch.testing.assert_close(each.second, a @ a.mT, atol=1e-6, rtol=0.0)


def test_the_closed_form_is_taken_where_there_is_one() -> None:
    x, std = draws(3, 2), 0.1 + 0.0 * draws(3, 2)
    for kernel, takes in (
        (SquaredExponential(), closed_expectations),
        (Matern52(), quadrature_expectations),
        (SquaredExponential(unordered=(1,)), quadrature_expectations),
    ):
        basis = basis_of(kernel, 2)
        some = std * torch.tensor([1.0, 0.0], dtype=torch.float64)
        assert torch.equal(expectations(basis, x, some).second, takes(basis, x, some).second)


def test_memory_is_bounded_by_chunks(monkeypatch: pytest.MonkeyPatch) -> None:
    basis, x = basis_of(SquaredExponential(), 2), draws(7, 2)
    std = 0.1 * draws(7, 2, seed=3)
    whole = [take(basis, x, std) for take in (closed_expectations, quadrature_expectations)]
    monkeypatch.setattr("bo_suite.surrogates.messages.expectations._AT_ONCE", 10)
    parts = [take(basis, x, std) for take in (closed_expectations, quadrature_expectations)]
    for one, other in zip(whole, parts, strict=True):
        torch.testing.assert_close(one.first, other.first)
        torch.testing.assert_close(one.second, other.second)
        torch.testing.assert_close(one.prior, other.prior)
