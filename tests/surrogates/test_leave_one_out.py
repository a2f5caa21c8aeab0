"""Leave-one-out predictions against fits without the observation."""

from dataclasses import replace

import torch

from bo_suite.data import Dataset, Seeds
from bo_suite.surrogates import ExactGP
from bo_suite.surrogates.leave_one_out import leave_one_out


def test_each_prediction_is_that_of_a_process_without_the_observation() -> None:
    generator = torch.Generator().manual_seed(3)
    x = torch.rand(2, 9, 3, generator=generator, dtype=torch.float64)
    y = torch.sin(5.0 * x.sum(-1)) + 0.1 * torch.randn(2, 9, generator=generator, dtype=torch.float64)
    noise = torch.full_like(y, torch.nan)
    noise[:, 4] = 0.3
    data = Dataset(x, y, noise)
    surrogate = ExactGP(mean=0.2)
    process = surrogate.fit(data, Seeds.of(0, 0))
    means, variances = leave_one_out(process, y)
    for index in range(9):
        rest = [other for other in range(9) if other != index]
        without = replace(data, x=x[:, rest], y=y[:, rest], noise=noise[:, rest], pending=x[:, :0])
        mean, var = surrogate.process(without, process.hyperparameters).mean_and_var(x[:, [index]])
        observed = noise[:, index].nan_to_num(0.0) + process.noise * noise[:, index].isnan()
        torch.testing.assert_close(means[:, index], mean[:, 0], rtol=1e-7, atol=1e-7)
        torch.testing.assert_close(variances[:, index], var[:, 0] + observed, rtol=1e-7, atol=1e-7)
