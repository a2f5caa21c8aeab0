import pytest
import torch

from bo_suite.data import Curves, Dataset
from bo_suite.errors import DataError

STEPS = torch.tensor([0.25, 0.5, 1.0], dtype=torch.float64)


def curves_of(*batch: int) -> Curves:
    generator = torch.Generator().manual_seed(0)
    x = torch.rand(*batch, 4, 2, generator=generator, dtype=torch.float64)
    y = torch.rand(*batch, 4, 3, generator=generator, dtype=torch.float64)
    y[..., 0, 1:] = torch.nan
    return Curves(x, STEPS, y)


def test_curves_are_picked_and_moved_with_their_data() -> None:
    curves = curves_of(2, 3)
    data = Dataset(curves.x[..., :2, :], curves.y[..., :2, 0], curves=curves)
    alone = data.replicates(4).curves
    assert alone is not None
    assert torch.equal(alone.x, curves.x[1, 1])
    assert torch.equal(alone.steps, STEPS)
    assert torch.equal(alone.observed, curves.observed[1, 1])
    assert not bool(alone.observed[0, 1:].any())
    some = data.replicates(torch.tensor([5, 0])).curves
    assert some is not None
    assert torch.equal(some.y[0, 1:], curves.y[1, 2, 1:])
    moved = data.to(torch.device("cpu")).curves
    assert moved is not None
    assert moved.steps.device.type == "cpu"


def test_data_without_curves_have_none() -> None:
    x = torch.rand(3, 2, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    assert Dataset(x, x.sum(-1)).curves is None
    assert Dataset(x, x.sum(-1)).to(torch.device("cpu")).curves is None


@pytest.mark.parametrize(
    ("steps", "law"),
    [
        ([0.5, 0.25, 1.0], "ascend"),
        ([0.25, 0.25, 1.0], "ascend"),
        ([0.0, 0.5, 1.0], "ascend"),
        ([0.25, 0.5, 0.75], "end at 1"),
    ],
)
def test_steps_out_of_order_are_refused(steps: list[float], law: str) -> None:
    curves = curves_of()
    with pytest.raises(DataError, match=law):
        Curves(curves.x, torch.tensor(steps, dtype=torch.float64), curves.y)


def test_infinite_outcomes_and_other_rows_are_refused() -> None:
    curves = curves_of()
    with pytest.raises(DataError, match="finite"):
        Curves(curves.x, STEPS, curves.y / 0.0)
    with pytest.raises(DataError, match="finite"):
        Curves(curves.x / 0.0, STEPS, curves.y)
    x = curves.x[:, :1]
    with pytest.raises(DataError, match="x of curves"):
        Dataset(x, x[:, 0], curves=curves)
