"""Models of curves in single precision."""

import pytest
import torch

from bo_suite.data import Curves, Dataset, Seeds
from bo_suite.surrogates import DecayGP, EmpiricalPrior, FreezeThaw


@pytest.mark.parametrize("surrogate", [FreezeThaw(), DecayGP()], ids=["freeze-thaw", "decay"])
def test_fits_stay_in_the_type_of_the_data(surrogate: FreezeThaw | DecayGP) -> None:
    generator = torch.Generator().manual_seed(0)
    x = torch.rand(12, 2, generator=generator)
    steps = torch.arange(1, 7, dtype=torch.float32) / 6
    y = torch.sin(3.0 * x[:, :1]) + torch.exp(-3.0 * steps) + 0.05 * torch.randn(12, 6, generator=generator)
    y[4:, 3:] = torch.nan
    y[0] = torch.nan
    y[1, ::2] = torch.nan
    data = Dataset(x[:4], y[4:8, 0], curves=Curves(x, steps, y))
    process = surrogate.fit(data, Seeds.of(0, 0))
    mean, var = process.mean_and_var(x)
    assert mean.dtype == var.dtype == process.hyperparameters.dtype == torch.float32
    exact = Dataset(x[:4].double(), data.y.double(), curves=Curves(x.double(), steps.double(), y.double()))
    torch.testing.assert_close(
        mean.double(),
        surrogate.process(exact, process.hyperparameters.double()).mean(x.double()),
        atol=0.05,
        rtol=0.0,
    )


def test_a_learnt_prior_is_used_in_the_type_of_the_data() -> None:
    y = torch.randn(8, 4, generator=torch.Generator().manual_seed(0))
    prior = EmpiricalPrior.fit(y)
    assert prior.mean(torch.tensor([0.5])).dtype == torch.float32
    x = torch.rand(8, 2, generator=torch.Generator().manual_seed(1))
    curves = Curves(x, torch.arange(1, 5, dtype=torch.float32) / 4, y)
    process = FreezeThaw(steps=prior).fit(Dataset(x, y[:, -1], curves=curves), Seeds.of(0, 0))
    assert process.all_curves()[0].dtype == torch.float32
