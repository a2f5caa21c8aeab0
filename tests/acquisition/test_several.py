from dataclasses import replace

import torch
from torch import Tensor

from bo_suite.acquisition.several import joined, outcome_dataset, split_start
from bo_suite.data import Dataset, Outcomes, Seeds
from bo_suite.surrogates import AutoGP, ExactGP, WarmStart
from bo_suite.surrogates.process import ExactProcess
from bo_suite.surrogates.ties import tied


def data_of(n: int, count: int, noise: Tensor | None = None) -> Dataset:
    x = Seeds.of(3, 0).sobol(n, torch.zeros(1, 2, dtype=torch.float64))
    y = torch.stack([torch.sin((3.0 + 2.0 * k) * x[:, 0]) + k * x[:, 1].square() for k in range(count)])
    y = (y - y.mean(-1, keepdim=True)) / y.std(-1, keepdim=True)
    ends = torch.full((count,), torch.inf, dtype=torch.float64)
    return Dataset(x, y[0], outcomes=Outcomes(x, y, count, -ends, ends, noise))


def without_values(data: Dataset, outcome: int, rows: list[int]) -> Dataset:
    assert data.outcomes is not None
    y = data.outcomes.y.clone()
    y[outcome, rows] = torch.nan
    return replace(data, outcomes=replace(data.outcomes, y=y))


def test_the_batch_fit_equals_the_fit_of_each_outcome_alone() -> None:
    """On many processors to the last bit: on others, what remains of a vector is computed differently."""
    data = data_of(20, 3)
    together = ExactGP().fit(outcome_dataset(data, 0, 3), Seeds.of(0, 1))
    for outcome in range(3):
        alone = ExactGP().fit(outcome_dataset(data, outcome, 1), Seeds.of(0, 1))
        pairs = ((one[outcome], other[0]) for one, other in zip(_parts(together), _parts(alone), strict=True))
        for one, other in pairs:
            torch.testing.assert_close(one, other, rtol=1e-7, atol=1e-7)


def _parts(process: ExactProcess) -> tuple[Tensor, ...]:
    return process.hyperparameters, process.chol, process.white


def test_complete_outcomes_have_no_noise_of_their_own() -> None:
    assert outcome_dataset(data_of(8, 2), 0, 2).noise is None


def test_missing_values_change_a_fit_as_if_their_rows_were_not_there() -> None:
    data, rows = data_of(16, 2), [2, 5, 11]
    whole = outcome_dataset(without_values(data, 1, rows), 0, 2)
    fitted = AutoGP().fit(whole, Seeds.of(0, 1))
    measured = [row for row in range(16) if row not in rows]
    alone = outcome_dataset(data, 1, 1)
    alone = replace(alone, x=alone.x[:, measured], y=alone.y[:, measured], pending=alone.pending)
    probe = torch.rand(2, 30, 2, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    reference = AutoGP().exact.process(alone, fitted.hyperparameters[1:])
    torch.testing.assert_close(fitted.mean(probe)[1:], reference.mean(probe[1:]), rtol=0.0, atol=1e-4)
    torch.testing.assert_close(fitted.var(probe)[1:], reference.var(probe[1:]), rtol=0.0, atol=1e-4)
    complete = AutoGP().fit(outcome_dataset(data, 0, 1), Seeds.of(0, 1))
    torch.testing.assert_close(fitted.hyperparameters[0], complete.hyperparameters[0], rtol=1e-7, atol=1e-7)


def test_missing_values_are_no_ties_even_where_the_outcome_is_constant() -> None:
    data = data_of(10, 2)
    assert data.outcomes is not None
    constant = torch.stack((data.outcomes.y[0], torch.zeros(10, dtype=torch.float64)))
    data = replace(data, outcomes=replace(data.outcomes, y=constant))
    assert not bool(tied(outcome_dataset(without_values(data, 1, [0, 4, 7]), 0, 2)).any())
    assert not bool(tied(outcome_dataset(without_values(data, 1, list(range(10))), 0, 2)).any())


def test_known_noise_is_kept_beside_missing_values() -> None:
    noise = torch.full((2, 6), 0.01, dtype=torch.float64)
    batch = outcome_dataset(without_values(data_of(6, 2, noise), 0, [3]), 0, 2)
    assert batch.noise is not None
    assert batch.noise[0].tolist() == [0.01, 0.01, 0.01, 1e6, 0.01, 0.01]
    assert batch.noise[1].tolist() == [0.01] * 6


def test_replicates_are_behind_the_outcomes() -> None:
    data = data_of(6, 2)
    both = Dataset(
        data.x.expand(3, -1, -1),
        data.y.expand(3, -1),
        outcomes=Outcomes(
            data.x.expand(3, -1, -1),
            torch.stack([data.outcomes.y * scale for scale in (1.0, 2.0, 3.0)]),  # type: ignore[union-attr]
            2,
            torch.full((3, 2), -torch.inf, dtype=torch.float64),
            torch.full((3, 2), torch.inf, dtype=torch.float64),
        ),
    )
    batch = outcome_dataset(both, 1, 1)
    assert batch.x.shape == (1, 3, 6, 2)
    assert torch.equal(batch.y[0, 2], 3.0 * data.outcomes.y[1])  # type: ignore[union-attr]


def test_a_start_is_split_as_it_was_joined_and_ignored_if_it_has_another_size() -> None:
    data = data_of(6, 2)
    hyperparameters = torch.arange(8, dtype=torch.float64).reshape(2, 4)
    start = split_start(WarmStart(joined(hyperparameters), 5), data, 2)
    assert start is not None
    assert torch.equal(start.hyperparameters, hyperparameters)
    assert start.observations == 5
    assert split_start(WarmStart(torch.zeros(7, dtype=torch.float64), 5), data, 2) is None
    assert split_start(None, data, 2) is None
