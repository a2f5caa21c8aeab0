"""What is sent to other processes and copied: all that is a value, and an Optimizer as its file."""

import copy
import pickle
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import Any

import cloudpickle
import pytest
import torch

from bo_suite import Choice, Float, Int, Optimizer, Space, minimize
from bo_suite import acquisition as acquisitions
from bo_suite.acquisition import LogExpectedImprovement, UpperConfidenceBound
from bo_suite.data import Dataset, Seeds
from bo_suite.errors import BoSuiteError, StorageError, UnknownParameter
from bo_suite.kernels import Matern52
from bo_suite.study.suggest import Suggester
from bo_suite.surrogates import ExactGP

SPACE = Space({"x": Float(-1, 2), "n": Int(1, 9), "fixed": Int(3, 3), "kind": Choice(["a", "b", "c"])})


def through(protocol: int) -> Callable[[Any], Any]:
    return lambda value: pickle.loads(pickle.dumps(value, protocol))


WAYS: dict[str, Callable[[Any], Any]] = {
    **{f"protocol {one}": through(one) for one in range(pickle.HIGHEST_PROTOCOL + 1)},
    "cloudpickle": lambda value: cloudpickle.loads(cloudpickle.dumps(value)),
    "deepcopy": copy.deepcopy,
    "copy": copy.copy,
}


def bowl(params: dict[str, Any]) -> float:
    return float(params["x"] ** 2 + params["n"])


@pytest.mark.parametrize("way", WAYS)
def test_an_optimizer_of_a_file_is_its_path(
    way: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    acquisition = UpperConfidenceBound()
    with closing(Optimizer(SPACE, acquisition, seed=3, direction="maximize", storage="run.db")) as optimizer:
        first, second = optimizer.ask(2)
        optimizer.tell(first, 1.0)
        (tmp_path / "elsewhere").mkdir()
        monkeypatch.chdir(tmp_path / "elsewhere")
        with closing(WAYS[way](optimizer)) as other:
            assert other.space == SPACE
            assert other.direction == "maximize"
            assert other.trials == optimizer.trials
            assert other.reclaim() == []  # the process that asked lives
            assert other.tell(second, 2.0).state == "finished"
            assert optimizer.best.value == 2.0
            assert other.ask().id == 2
            assert [trial.id for trial in optimizer.trials] == [0, 1, 2]
            assert other.ask().params == pytest.approx(other.trials[-1].params)
    assert not list((tmp_path / "elsewhere").iterdir())


def test_the_copy_suggests_what_the_original_would(tmp_path: Path) -> None:
    surrogate = ExactGP(kernel=Matern52(outputscale_spread=0.3))
    path = tmp_path / "run.db"
    with closing(Optimizer(SPACE, LogExpectedImprovement(surrogate), seed=1, storage=path)) as optimizer:
        for _ in range(6):
            trial = optimizer.ask()
            optimizer.tell(trial, bowl(trial.params))
        sent = pickle.dumps(optimizer)
        alone = Optimizer(SPACE, LogExpectedImprovement(surrogate), seed=1)
        for trial in optimizer.trials:
            alone.tell(alone.ask(), trial.value or 0.0)
    with closing(pickle.loads(sent)) as other:
        assert other.ask().params == alone.ask().params
    path.unlink()
    with pytest.raises(StorageError, match="must exist to be resumed"):
        pickle.loads(sent)


@pytest.mark.parametrize("way", WAYS)
def test_an_optimizer_in_memory_says_what_to_do(way: str) -> None:
    with pytest.raises(TypeError) as caught:
        WAYS[way](Optimizer(SPACE))
    law = "an Optimizer must have a `storage` to be pickled or copied, got one in memory"
    assert str(caught.value) == law


def test_values_are_sent_and_copied_whole() -> None:
    result = minimize(bowl, SPACE, 3, progress=False)
    kinds = [getattr(acquisitions, name) for name in acquisitions.__all__]
    recipes = [
        one()
        for one in kinds
        if isinstance(one, type) and hasattr(one, "build") and one.__name__ != "Acquisition"
    ]
    assert len(recipes) >= 6
    error = UnknownParameter("a name must be one of ['x'], got 'y'")
    for way in WAYS.values():
        assert way(SPACE) == SPACE
        assert way(SPACE).varying.names == ("x", "n", "kind")
        for name, parameter in SPACE:
            assert way(parameter) == parameter == SPACE[name]
        assert [way(trial) for trial in result.trials] == list(result.trials)
        again = way(result)
        assert (again.trials, again.space, again.best) == (result.trials, result.space, result.best)
        for recipe in recipes:
            assert repr(way(recipe)) == repr(recipe)
        suggester = Suggester(SPACE, LogExpectedImprovement(), seed=5)
        expected = suggester.suggest(result.trials)[0].params
        assert way(suggester).suggest(result.trials)[0].params == expected
        assert str(way(error)) == str(error)
        assert isinstance(way(error), BoSuiteError)
        data = Dataset(torch.zeros(1, 2), torch.zeros(1), None, torch.zeros(0, 2))
        assert torch.equal(way(data).x, data.x)
        assert way(Seeds.of(0, 1)) == Seeds.of(0, 1)
