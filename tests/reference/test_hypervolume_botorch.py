"""Hypervolume and its expected improvement beside BoTorch's, which are maximised and not in log space."""

import pytest
import torch
from botorch.acquisition.multi_objective.analytic import ExpectedHypervolumeImprovement
from botorch.utils.multi_objective.box_decompositions.non_dominated import NondominatedPartitioning
from botorch.utils.multi_objective.hypervolume import Hypervolume
from botorch.utils.testing import MockModel, MockPosterior
from torch.testing import assert_close

from bo_suite.acquisition.expected_hypervolume import log_expected_hypervolume_improvement
from bo_suite.acquisition.hypervolume import hypervolume, non_dominated_boxes

F64 = torch.float64


@pytest.mark.parametrize("objectives", [2, 3, 4])
def test_expected_improvement_is_that_of_botorch(objectives: int) -> None:
    generator = torch.Generator().manual_seed(objectives)
    front = torch.rand(objectives, 12, dtype=F64, generator=generator)
    mean = 1.3 * torch.rand(objectives, 50, dtype=F64, generator=generator)
    std = 0.01 + 0.5 * torch.rand(objectives, 50, dtype=F64, generator=generator)
    reference = torch.full((objectives,), 1.1, dtype=F64)
    posterior = MockPosterior(mean=-mean.T[:, None, :], variance=std.square().T[:, None, :])
    botorch = ExpectedHypervolumeImprovement(
        MockModel(posterior),
        ref_point=(-reference).tolist(),
        partitioning=NondominatedPartitioning(ref_point=-reference, Y=-front.T),
    )
    value = log_expected_hypervolume_improvement(mean, std.square(), non_dominated_boxes(front, reference))
    assert_close(value.exp(), botorch(torch.zeros(50, 1, 1, dtype=F64)), rtol=1e-6, atol=1e-15)


@pytest.mark.parametrize("objectives", [2, 3, 4, 5])
def test_hypervolume_is_that_of_botorch(objectives: int) -> None:
    points = torch.randn(objectives, 30, dtype=F64, generator=torch.Generator().manual_seed(0)).abs()
    points = 1.0 - points / points.norm(dim=0)
    reference = torch.full((objectives,), 1.1, dtype=F64)
    expected = Hypervolume(-reference).compute(-points.T)
    assert_close(float(hypervolume(points, reference)), expected, rtol=1e-12, atol=0.0)
