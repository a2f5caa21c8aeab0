"""`ask(budget=)`: a history gets no more trials than were allowed, whoever asks."""

import threading
from pathlib import Path
from typing import Any

import pytest

from bo_suite import Float, Optimizer, Space, minimize
from bo_suite.errors import BudgetSpent, SpaceError, TrialError

SPACE = Space({"x": Float(0.0, 1.0)})


def test_the_budget_counts_all_trials_but_withdrawn_ones() -> None:
    opt = Optimizer(SPACE)
    opt.add({"x": 0.1}, 1.0)
    first, second = opt.ask(budget=3), opt.ask(budget=3)
    with pytest.raises(
        BudgetSpent, match="budget of 3 was spent already: the storage has 3 trials, 2 of them"
    ):
        opt.ask(budget=3)
    opt.withdraw(first)
    opt.fail(second, "diverged")
    assert opt.ask(budget=3).id == 3
    with pytest.raises(TrialError, match="budget"):
        opt.ask(budget=0)


def test_a_batch_is_cut_to_what_is_left() -> None:
    opt = Optimizer(SPACE)
    opt.enqueue([{"x": 0.25}, {"x": 0.5}, {"x": 0.75}])
    assert len(opt.ask(2, budget=5)) == 2
    assert [trial.id for trial in opt.ask(9, budget=5)] == [2, 3, 4]
    with pytest.raises(BudgetSpent):
        opt.ask(9, budget=5)


@pytest.mark.parametrize(("count", "budget", "left"), [(1, 2, 0), (5, 4, 2), (5, 3, 1)])
def test_trials_that_others_add_during_a_suggestion_count(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, count: int, budget: int, left: int
) -> None:
    """Twice, so that the suggestions are then stored if they are new."""
    opt, other = (Optimizer(SPACE, storage=tmp_path / "run.db") for _ in range(2))
    suggest, added = type(opt._suggesters).suggest, iter([0.9, 0.8])

    def beside_others(*args: Any) -> Any:
        suggestions = suggest(*args)
        if (x := next(added, None)) is not None:
            other.add({"x": x}, 1.0)
        return suggestions

    monkeypatch.setattr(type(opt._suggesters), "suggest", beside_others)
    if left:
        assert len(opt.ask(count, budget=budget)) == left
    else:
        with pytest.raises(BudgetSpent):
            opt.ask(count, budget=budget)
    assert len(opt.trials) == budget
    assert next(added, None) is None
    opt.close()
    other.close()


def test_threads_and_optimizers_on_a_file_never_overshoot(tmp_path: Path) -> None:
    optimizers = [Optimizer(SPACE, storage=tmp_path / "run.db", initial=99) for _ in range(3)]
    optimizers[0].ask()  # so that the threads begin together

    def ask(opt: Optimizer, count: int) -> None:
        try:
            while True:
                opt.ask(count, budget=20)
        except BudgetSpent:
            pass

    threads = [threading.Thread(target=ask, args=(opt, count)) for opt in optimizers for count in (1, 3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert [trial.id for trial in optimizers[0].trials] == list(range(20))
    for opt in optimizers:
        opt.close()


def test_drivers_on_a_file_share_the_budget(tmp_path: Path) -> None:
    path, evaluated = tmp_path / "run.db", list[float]()

    def f(params: dict[str, Any]) -> float:
        evaluated.append(params["x"])
        return float(params["x"])

    Optimizer(SPACE, storage=path, budget=12, initial=99).close()
    runs = [
        threading.Thread(target=minimize, args=(f, SPACE, 12), kwargs={"storage": path, "progress": False})
        for _ in range(3)
    ]
    for run in runs:
        run.start()
    for run in runs:
        run.join()
    opt = Optimizer.resume(path)
    assert [trial.state for trial in opt.trials] == ["finished"] * 12
    opt.close()
    assert len(set(evaluated)) == len(evaluated) == 12


def test_a_trial_that_is_handed_back_is_withdrawn_and_queued(tmp_path: Path) -> None:
    opt = Optimizer(SPACE, storage=tmp_path / "run.db")
    first, second, third = opt.ask(3)
    handed = opt.withdraw(second, requeue=True)
    assert (handed.state, handed.reason) == ("withdrawn", "handed back")
    assert opt.queue == [second.params]
    with pytest.raises(TrialError, match="already withdrawn"):
        opt.withdraw(second, requeue=True)
    assert opt.queue == [second.params], "not twice"
    assert opt.withdraw(first).reason == "withdrawn"
    with pytest.raises(TrialError, match="requeue"):
        opt.withdraw(third, requeue="yes")  # type: ignore[arg-type]
    assert opt.ask(budget=2).params == second.params
    opt.extend({"x": Float(third.params["x"] + 0.01, third.params["x"] + 0.02)})
    assert opt.withdraw(third, requeue=True).state == "withdrawn"
    assert opt.queue == [], "its point is outside of the space"
    with pytest.raises(SpaceError):
        opt.enqueue(third.params)
    opt.close()
