"""Shapes and types of the functions on tensors are checked while the tests run.

Modules that take what a user types are left out: their own messages are what is tested.
"""

import logging
import os
import warnings
from collections.abc import Iterator
from pathlib import Path

for _variable in ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS"):
    os.environ.setdefault(_variable, "1")  # before numpy and torch load: two busy cores, many small matrices

with warnings.catch_warnings():
    warnings.simplefilter("ignore")  # gpytorch and linear_operator warn when imported
    import gpytorch  # noqa: F401

import pytest
from jaxtyping import install_import_hook

_COMPILED = "compiled"  # numba can not keep what the hook has wrapped
_ACQUISITION = Path(__file__).parents[1] / "bo_suite" / "acquisition"
_CHECKED = [
    *("data", "kernels", "linalg.factor", "optim", "surrogates", "classifiers"),
    *(
        "space.candidates",
        "space.encoding",
        "study.observations",
        "study.outcomes",
        "study.recommend",
        "study.step",
    ),
    *(f"acquisition.{path.stem}" for path in sorted(_ACQUISITION.glob("*.py")) if path.stem != _COMPILED),
]
install_import_hook([f"bo_suite.{name}" for name in _CHECKED], "beartype.beartype")


@pytest.fixture(autouse=True)
def _log_level_as_it_was() -> Iterator[None]:
    """A script or a notebook that is run may set the level of our logger."""
    logger = logging.getLogger("bo_suite")
    level = logger.level
    yield
    logger.setLevel(level)
