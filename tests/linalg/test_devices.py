"""A device that is not here is refused by an error of ours, before a file is made or opened."""

from pathlib import Path

import pytest
import torch

from bo_suite import Float, Optimizer, Space
from bo_suite.acquisition import LogExpectedImprovement
from bo_suite.bench import run_replicates
from bo_suite.errors import TrialError
from bo_suite.linalg.environment import usable_device
from bo_suite.problems import get_problem

SPACE = Space({"x": Float(0, 1)})
ABSENT = ["cuda:77", "gpu", "meta", "", "CPU", "xpu:9", 3, -1, None, 0.5, ["cpu"], torch.device("meta")]
if not torch.cuda.is_available():
    ABSENT += ["cuda", torch.device("cuda")]
if not torch.backends.mps.is_available():
    ABSENT += ["mps"]


@pytest.mark.parametrize("device", ABSENT, ids=lambda device: f"{type(device).__name__} {device!s:.8}")
def test_a_device_that_is_not_here_is_refused_by_one_sentence(device: object, tmp_path: Path) -> None:
    stored = tmp_path / "stored.db"
    Optimizer(SPACE, storage=stored).close()
    for act in (
        lambda: Optimizer(SPACE, storage=tmp_path / "run.db", device=device),
        lambda: Optimizer.resume(stored, device=device),
        lambda: run_replicates(get_problem("branin"), LogExpectedImprovement(), range(1), 2, device=device),
    ):
        with pytest.raises(TrialError, match=r"a device must be one of this machine .*, got ") as caught:
            act()
        assert len(str(caught.value).splitlines()) == 1
        assert len(str(caught.value)) < 600
    assert {path.name for path in tmp_path.iterdir()} <= {"stored.db", "stored.db-turns"}


@pytest.mark.parametrize("device", ["cpu", "cpu:0", torch.device("cpu")])
def test_a_device_that_is_here_is_taken_by_name_or_as_torch_has_it(device: str | torch.device) -> None:
    assert usable_device(device).type == "cpu"
    assert 0 <= Optimizer(SPACE, device=device).ask().params["x"] <= 1
