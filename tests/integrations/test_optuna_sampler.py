"""BoSuiteSampler under Optuna's own public test suite for samplers."""

from collections.abc import Callable
from typing import Any

import pytest

optuna = pytest.importorskip("optuna")
suites = pytest.importorskip("optuna.testing.pytest_samplers")

from bo_suite.integrations.optuna import BoSuiteSampler  # noqa: E402

DISTRIBUTIONS = suites.RelativeSamplerTestCase.test_sample_relative_numerical.pytestmark[0].args[1]


class TestBoSuiteSampler(
    suites.BasicSamplerTestCase, suites.RelativeSamplerTestCase, suites.MultiObjectiveSamplerTestCase
):
    """Every case, but those for samplers that refuse several objectives."""

    @pytest.fixture
    def sampler(self) -> Callable[[], BoSuiteSampler]:
        return lambda: BoSuiteSampler(seed=0)

    @pytest.mark.parametrize(
        ("x_distribution", "y_distribution"), list(zip(DISTRIBUTIONS, reversed(DISTRIBUTIONS), strict=True))
    )
    def test_sample_relative_numerical(
        self, sampler: Callable[[], BoSuiteSampler], x_distribution: Any, y_distribution: Any
    ) -> None:
        """Each distribution once beside another, instead of beside all others."""
        super().test_sample_relative_numerical(sampler, x_distribution, y_distribution)
