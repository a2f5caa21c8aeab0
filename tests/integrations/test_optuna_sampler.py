"""BoSuiteSampler under Optuna's own public test suite for samplers."""

from collections.abc import Callable

import pytest

optuna = pytest.importorskip("optuna")
suites = pytest.importorskip("optuna.testing.pytest_samplers")

from bo_suite.integrations.optuna import BoSuiteSampler  # noqa: E402


class TestBoSuiteSampler(
    suites.BasicSamplerTestCase, suites.RelativeSamplerTestCase, suites.SingleOnlySamplerTestCase
):
    """Every case for samplers of one objective; those for several objectives are for others."""

    @pytest.fixture
    def sampler(self) -> Callable[[], BoSuiteSampler]:
        return lambda: BoSuiteSampler(seed=0)
