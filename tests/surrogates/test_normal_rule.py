"""Expectations over normal variables, against closed forms."""

import pytest
import torch
from torch import Tensor

from bo_suite.surrogates.normal_rule import normal_nodes, normal_rule

DOUBLES = {"dtype": torch.float64, "device": "cpu"}


def averaged(x: Tensor, ratio: float) -> Tensor:
    """E exp(-½ |x + ratio z|²), z standard normal."""
    spread = 1.0 + ratio**2
    return torch.exp(-0.5 * x.square().sum(-1) / spread) * spread ** (-0.5 * x.shape[-1])


@pytest.mark.parametrize(
    ("dim", "most", "error"), [(1, 64, 1e-6), (2, 64, 1e-6), (3, 64, 1e-3), (7, 64, 3e-2)]
)
def test_averages_of_a_squared_exponential_have_the_stated_errors(dim: int, most: int, error: float) -> None:
    nodes, weights = normal_rule(dim, most)
    assert len(nodes) == len(weights) <= most
    generator = torch.Generator("cpu").manual_seed(0)
    x = torch.randn(300, dim, generator=generator, **DOUBLES) / dim**0.5
    exact = averaged(x, 0.5)
    value = torch.exp(-0.5 * (x[:, None] + 0.5 * nodes).square().sum(-1)) @ weights
    changed = (exact - torch.exp(-0.5 * x.square().sum(-1))).square().mean().sqrt()
    assert (value - exact).square().mean().sqrt() < error * changed


@pytest.mark.parametrize("dim", [0, 1, 2, 3, 5, 9, 40])
@pytest.mark.parametrize("most", [1, 8, 64, 512])
def test_weights_are_positive_and_moments_up_to_the_third_exact(dim: int, most: int) -> None:
    nodes, weights = normal_rule(dim, most)
    assert nodes.shape == (len(weights), dim)
    assert bool((weights > 0.0).all())
    torch.testing.assert_close(weights.sum(), torch.ones((), **DOUBLES))
    mean, second = weights @ nodes, nodes.mT @ (weights[:, None] * nodes)
    torch.testing.assert_close(mean, torch.zeros(dim, **DOUBLES), atol=1e-12, rtol=0.0)
    torch.testing.assert_close(second, torch.eye(dim, **DOUBLES), atol=1e-9, rtol=0.0)
    third = torch.einsum("k,ka,kb,kc->abc", weights, *(nodes[:, :4],) * 3)
    torch.testing.assert_close(third, torch.zeros_like(third), atol=1e-11, rtol=0.0)


def test_nodes_move_only_the_columns_that_are_uncertain_in_some_row() -> None:
    x = torch.rand(2, 3, 4, generator=torch.Generator("cpu").manual_seed(0), **DOUBLES)
    std = torch.zeros_like(x)
    std[1, 2, 1] = 0.1
    nodes, weights = normal_nodes(x, std, 8)
    assert nodes.shape == (2, 3, 8, 4)
    exact = std == 0.0
    torch.testing.assert_close(nodes.movedim(-2, 0)[:, exact], x[exact].expand(8, -1))
    torch.testing.assert_close((nodes[1, 2, :, 1] - x[1, 2, 1]).square() @ weights, std[1, 2, 1].square())
