"""Reports to an Optimizer: what is stored, what is answered, what is refused, and what a resumed run does."""

import json
import logging
import math
import pickle
from collections.abc import Callable, Sequence
from contextlib import closing
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from bo_suite import Choice, Float, Int, Optimizer, Space
from bo_suite.errors import BudgetSpent, SpaceExhausted, StorageError, SupersededError, TrialError
from bo_suite.run.schedulers import ASHA, PromotionASHA
from bo_suite.storage.trial import Trial, Verdict
from bo_suite.study.scheduling import Progress

LINE = Space({"x": Float(0.0, 1.0)})


@dataclass(frozen=True)
class Scripted:
    """A scheduler from outside the package, with one rung and fixed answers; `asked` says about whom."""

    max_step: int = 9
    rung: int = 3
    answer: Any = "continue"
    promote: Any = None
    asked: list[tuple[int, int]] = field(default_factory=list, compare=False)

    def rungs(self, trial: Trial, progress: Progress) -> Sequence[int]:
        return (self.rung,)

    def verdict(self, trial: Trial, progress: Progress) -> Verdict:
        self.asked.append((trial.id, trial.step))
        if isinstance(self.answer, Exception):
            raise self.answer
        return self.answer  # type: ignore[no-any-return]

    def promoted(self, progress: Progress) -> int | None:
        return self.promote  # type: ignore[no-any-return]


def started(optimizer: Optimizer, count: int) -> list[Trial]:
    """Running trials at points of their own, chosen without a model."""
    optimizer.enqueue([{"x": (number + 0.5) / count} for number in range(count)])
    return optimizer.ask(count)


def rows(optimizer: Optimizer) -> list[list[Any]]:
    return optimizer.to_frame(reports=True).drop(columns="seconds").to_numpy().tolist()


def test_without_a_scheduler_reports_are_stored_and_trials_go_on() -> None:
    optimizer = Optimizer(LINE)
    assert rows(optimizer) == []
    first, second = started(optimizer, 2)
    assert optimizer.report(first, step=1, value=0.5, seconds=2.0) == "continue"
    assert optimizer.report(second.id, 4, 0.25) == "continue"
    assert optimizer.report(first, 10**6, 0.125) == "continue"
    assert optimizer.to_frame(reports=True).columns.tolist() == [
        *("id", "step", "value", "seconds", "attempt", "verdict")
    ]
    assert rows(optimizer) == [
        [0, 1, 0.5, 1, "continue"],
        [0, 10**6, 0.125, 1, "continue"],
        [1, 4, 0.25, 1, "continue"],
    ]
    assert optimizer.tell(first, 0.1).step == 10**6
    assert optimizer.scheduler is None


@pytest.mark.parametrize("direction", ["minimize", "maximize"])
def test_the_worst_at_a_rung_are_stopped_and_the_best_is_a_finished_one(
    direction: str, caplog: pytest.LogCaptureFixture
) -> None:
    sign = 1.0 if direction == "minimize" else -1.0
    optimizer = Optimizer(LINE, direction=direction, scheduler=ASHA(9, 3, 3), budget=6)
    trials = started(optimizer, 5)
    with caplog.at_level(logging.INFO, "bo_suite"):
        answers = [
            optimizer.report(one, 3, sign * value) for one, value in zip(trials, (3, 2, 1, 9, 0), strict=True)
        ]
    assert answers == ["continue", "continue", "continue", "stop", "continue"], "the first two, then a third"
    assert optimizer.report(trials[0], 6, sign * 2.5) == "continue"
    assert optimizer.report(trials[0], 9, sign * 2.0) == "continue", "the caller tells at the last step"
    optimizer.tell(trials[0], sign * 2.0)
    stopped = optimizer.trial(3)
    assert (stopped.state, stopped.value, stopped.step) == ("stopped", sign * 9.0, 3)
    assert optimizer.best.id == 0, "a stopped trial is no candidate"
    assert f"trial 3 was stopped at step 3: {sign * 9.0:g} in " in caplog.text
    assert repr(optimizer).startswith(f"Optimizer({direction}, 5 trials (3 running, 1 finished, 1 stopped)")
    frame = optimizer.to_frame()
    assert frame["state"].tolist() == ["finished", "running", "running", "stopped", "running"]
    assert frame["value"].tolist()[3] == sign * 9.0
    assert frame["step"].tolist() == [9, 3, 3, 3, 3]
    assert repr(stopped).startswith(f"Trial(3, stopped at step 3, value={sign * 9:g}: x=")
    assert optimizer.ask(budget=6).id == 5
    with pytest.raises(BudgetSpent, match="has 6 trials"):
        optimizer.ask(budget=6)


@pytest.mark.parametrize(
    ("answer", "state"), [("continue", "running"), ("stop", "stopped"), ("pause", "paused")]
)
def test_a_named_objective_is_reported_as_a_number(answer: str, state: str) -> None:
    optimizer = Optimizer(LINE, direction={"error": "minimize"}, scheduler=Scripted(answer=answer))
    (trial,) = started(optimizer, 1)
    assert optimizer.report(trial, 3, 0.5) == ("continue" if answer == "continue" else "stop")
    outcomes = None if answer == "continue" else {"error": 0.5}
    assert (optimizer.trial(0).state, optimizer.trial(0).outcomes) == (state, outcomes)
    assert len(optimizer.to_frame()) == 1
    with pytest.raises(TrialError, match="finite number"):
        optimizer.report(started(optimizer, 1)[0], 1, {"error": 0.5})  # type: ignore[arg-type]


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
def test_a_report_that_is_not_finite_fails_the_trial(value: float) -> None:
    optimizer = Optimizer(LINE)
    (trial,) = started(optimizer, 1)
    optimizer.report(trial, 1, 0.5)
    assert optimizer.report(trial, 3, value) == "stop"
    failed = optimizer.trial(0)
    assert (failed.state, failed.reason, failed.step) == ("failed", f"reported {value} at step 3", 1)
    with pytest.raises(TrialError, match="already failed"):
        optimizer.report(trial, 4, value)


def test_reports_that_break_a_rule_change_nothing() -> None:
    optimizer = Optimizer(LINE, scheduler=ASHA(9))
    running, told = started(optimizer, 2)
    optimizer.tell(told, 1.0)
    optimizer.report(running, 3, 0.5)
    before = optimizer.trials
    for arguments, law in (
        ((running, 2, 0.5), "the steps of an attempt must increase, got step 2 of trial 0 after step 3"),
        ((running, 3, 0.5), "got step 3 of trial 0 after step 3"),
        ((running, 10, 0.5), "a step must be at most max_step = 9, got 10"),
        ((running, 0, 0.5), "`step >= 1` must hold, got 0"),
        ((running, 4.5, 0.5), "step must be an integer, got 4.5"),
        ((running, "4", 0.5), "step must be an integer, got '4'"),
        ((running, 4, None), "is a `return` missing"),
        ((running, 4, 0.5, -1), "seconds must be a finite number >= 0"),
        ((told, 4, 0.5), "only a running trial is reported: trial 1 is already finished, with value 1.0"),
        ((told, 4, math.nan), "trial 1 is already finished"),
        ((7, 4, 0.5), "unknown id 7"),
    ):
        with pytest.raises(TrialError, match=law):
            optimizer.report(*arguments)  # type: ignore[arg-type]
    assert optimizer.trials == before


def test_a_rung_is_judged_at_the_first_report_that_reaches_it_and_once() -> None:
    scheduler = Scripted(rung=3)
    optimizer = Optimizer(LINE, scheduler=scheduler)
    often, rarely, late = started(optimizer, 3)
    for step in range(1, 7):
        optimizer.report(often, step, 0.5)
    optimizer.report(rarely, 5, 0.5)
    optimizer.report(late, 9, 0.5)
    assert scheduler.asked == [(0, 3), (1, 5)], "nothing is decided at the last step"


def test_a_report_is_stored_though_the_scheduler_breaks_and_is_judged_by_the_next_one(tmp_path: Path) -> None:
    """What a kill between a report and its verdict leaves: a report without one."""
    path = tmp_path / "run.db"
    with closing(Optimizer(LINE, storage=path, scheduler=Scripted(answer=KeyError("bug")))) as broken:
        restarted, resumed = started(broken, 2)
        for trial in (restarted, resumed):
            broken.report(trial, 2, 0.5)
            with pytest.raises(KeyError, match="bug"):
                broken.report(trial, 3, 0.25)
    scheduler = Scripted(answer="stop")
    with closing(Optimizer.resume(path, scheduler=scheduler)) as optimizer:
        assert rows(optimizer)[1] == [0, 3, 0.25, 1, None]
        first, second = optimizer.reclaim()
        assert (first.attempt, first.step) == (2, 3)
        assert optimizer.report(first, 2, 0.5) == "continue"
        assert optimizer.report(first, 3, 0.375) == "stop", "the same step again"
        assert optimizer.report(second, 4, 0.25) == "stop", "or the next one"
        assert scheduler.asked == [(0, 3), (1, 4)]
        assert rows(optimizer) == [
            [0, 2, 0.5, 2, "continue"],
            [0, 3, 0.375, 2, "stop"],
            [1, 2, 0.5, 1, "continue"],
            [1, 3, 0.25, 1, None],
            [1, 4, 0.25, 2, "stop"],
        ]


def test_steps_that_an_earlier_attempt_was_judged_at_are_not_judged_again(tmp_path: Path) -> None:
    path = tmp_path / "run.db"
    with closing(Optimizer(LINE, storage=path, scheduler=Scripted(answer="continue"))) as earlier:
        (trial,) = started(earlier, 1)
        earlier.report(trial, 3, 0.5)
        with pytest.raises(TrialError, match="already"):
            earlier.report(earlier.fail(trial, "no"), 4, 0.5)
        (trial,) = started(earlier, 1)
        earlier.report(trial, 5, 0.5)
    with closing(Optimizer.resume(path, scheduler=Scripted(answer="stop"))) as optimizer:
        (again,) = optimizer.reclaim()
        assert [optimizer.report(again, step, 0.5) for step in (1, 3, 4, 5, 6)] == ["continue"] * 5
        with pytest.raises(SupersededError, match="attempt 2"):
            optimizer.report(trial, 6, 0.5)


def test_paused_trials_are_continued_first_and_whatever_the_budget() -> None:
    optimizer = Optimizer(LINE, scheduler=PromotionASHA(9), budget=7)
    trials = started(optimizer, 7)
    for number, trial in enumerate(trials):
        assert optimizer.report(trial, 1, float(number), seconds=5.0) == "stop"
        assert optimizer.trial(trial.id).state == "paused"
    optimizer.enqueue({"x": 0.9})
    with pytest.raises(TrialError, match="no best trial"):
        _ = optimizer.best
    best, second = optimizer.ask(5, budget=7)
    assert [(one.id, one.attempt, one.step, one.state) for one in (best, second)] == [
        (0, 2, 1, "running"),
        (1, 2, 1, "running"),
    ], "two of seven, and the budget has no more"
    assert optimizer.queue == [{"x": 0.9}]
    with pytest.raises(BudgetSpent):
        optimizer.ask(budget=7)
    assert optimizer.report(best, 2, -1.0) == "continue"
    assert optimizer.to_frame(reports=True)["seconds"].tolist()[1] >= 5.0, "with those before the pause"
    assert optimizer.report(best, 3, -2.0) == "stop"
    assert optimizer.ask().params == {"x": 0.9}, "one of one at rung 3 is too few"
    with pytest.raises(SupersededError, match="attempt 2"):
        optimizer.report(trials[1], 2, 0.5)


def test_a_continued_trial_has_the_fixed_values() -> None:
    space = Space({"x": Float(0, 1), "kind": Choice(["a", "b"])})
    optimizer = Optimizer(space, scheduler=PromotionASHA(9, factor=2))
    optimizer.enqueue([{"x": 0.1 * number, "kind": kind} for number, kind in enumerate("aaab")])
    for trial in optimizer.ask(4):
        optimizer.report(trial, 1, float(trial.id))
    assert optimizer.ask(fixed={"kind": "b"}).id == 4
    assert optimizer.ask(fixed={"kind": "a"}).id == 0
    assert optimizer.ask().id == 1


def test_threads_and_processes_do_not_continue_one_trial_twice(tmp_path: Path) -> None:
    path = tmp_path / "run.db"
    optimizers = [Optimizer(LINE, scheduler=PromotionASHA(9, factor=2), storage=path) for _ in range(2)]
    for trial in started(optimizers[0], 4):
        optimizers[0].report(trial, 1, float(trial.id))
    continued = [optimizer.ask(budget=4).id for optimizer in optimizers]
    assert continued == [0, 1]
    for optimizer in optimizers:
        with pytest.raises(BudgetSpent):
            optimizer.ask(budget=4)
        optimizer.close()


def test_two_processes_at_one_rung_see_each_other(tmp_path: Path) -> None:
    """Each stores its report before it judges: so the later one of two has seen both."""
    path = tmp_path / "run.db"
    one, two = (Optimizer(LINE, scheduler=ASHA(9, 3, 2), storage=path) for _ in range(2))
    first, second = started(one, 2)
    two.enqueue({"x": 0.125})
    third = two.ask()
    assert one.report(first, 3, 1.0) == "continue"
    assert two.report(third, 3, 2.0) == "stop", "one of two goes on"
    assert one.report(second, 3, 0.5) == "continue"
    assert [trial.state for trial in two.trials] == ["running", "running", "stopped"]
    one.close()
    two.close()


def test_points_of_stopped_and_paused_trials_are_taken() -> None:
    optimizer = Optimizer(Space({"n": Int(1, 5)}), scheduler=Scripted(answer="stop"), initial=2)
    for number in range(5):
        trial = optimizer.ask()
        if number % 2:
            optimizer.report(trial, 3, 1.0)
        else:
            optimizer.tell(trial, float(number))
    assert sorted(trial.params["n"] for trial in optimizer.trials) == [1, 2, 3, 4, 5]
    with pytest.raises(SpaceExhausted):
        optimizer.ask()


@pytest.mark.parametrize(
    ("scheduler", "law"),
    [
        (ASHA, "a scheduler must be an object with max_step, rungs, verdict and promoted, such as ASHA"),
        ("asha", "a scheduler must be an object with .*, got 'asha'"),
        (Scripted(max_step=0), "`max_step >= 1` must hold"),
        (Scripted(max_step=2.5), "max_step must be an integer"),  # type: ignore[arg-type]
    ],
)
def test_what_is_no_scheduler_is_refused(scheduler: Any, law: str, tmp_path: Path) -> None:
    with pytest.raises(TrialError, match=law):
        Optimizer(LINE, scheduler=scheduler, storage=tmp_path / "run.db")
    assert list(tmp_path.iterdir()) == []


def test_a_scheduler_and_what_it_cannot_judge_are_refused_together() -> None:
    multifidelity = Space({"x": Float(0, 1), "epochs": Int(1, 9, fidelity=True)})
    with pytest.raises(TrialError, match=r"either a scheduler or fidelities.*\['epochs'\]: remove one"):
        Optimizer(multifidelity, scheduler=ASHA(9))
    with pytest.raises(TrialError, match="one objective without constraints, got several objectives"):
        Optimizer(LINE, direction={"a": "minimize", "b": "maximize"}, scheduler=ASHA(9))
    with pytest.raises(TrialError, match="one objective without constraints, got constraints"):
        Optimizer(LINE, constraints={"memory": (None, 8.0)}, scheduler=ASHA(9))
    optimizer = Optimizer(LINE, scheduler=ASHA(9))
    with pytest.raises(TrialError, match="either a scheduler or fidelities"):
        optimizer.extend({"epochs": Int(1, 9, fidelity=True)}, {"epochs": 9})
    assert optimizer.extend({"x": Float(0, 2)})["x"] == Float(0, 2)


def test_answers_that_a_scheduler_may_not_give_are_refused() -> None:
    optimizer = Optimizer(LINE, scheduler=Scripted(answer="end"))
    (trial,) = started(optimizer, 1)
    with pytest.raises(TrialError, match="a verdict must be one of continue, stop, pause, got 'end'"):
        optimizer.report(trial, 3, 0.5)
    assert rows(optimizer) == [[0, 3, 0.5, 1, None]]
    for promote, state in ((0, "paused trial, got 0, which is running"), (7, "got 7, which is unknown")):
        optimizer = Optimizer(LINE, scheduler=Scripted(answer="pause", promote=promote))
        trials = started(optimizer, 2)
        optimizer.report(trials[1], 3, 0.5)
        with pytest.raises(TrialError, match=state):
            optimizer.ask()


def test_the_scheduler_is_stored_and_may_be_replaced(tmp_path: Path) -> None:
    path = tmp_path / "run.db"
    with closing(Optimizer(LINE, storage=path, scheduler=ASHA(52, 2, 4))) as optimizer:
        copy = pickle.loads(pickle.dumps(optimizer))
        assert copy.scheduler == ASHA(52, 2, 4)
        copy.close()
    openings: list[Callable[[], Optimizer]] = [
        lambda: Optimizer.resume(path),
        lambda: Optimizer(LINE, storage=path),
        lambda: Optimizer(LINE, storage=path, scheduler=ASHA(52, 2, 4)),
    ]
    for open_it in openings:
        with closing(open_it()) as optimizer:
            assert optimizer.scheduler == ASHA(52, 2, 4)
    Optimizer(LINE, storage=path, scheduler=PromotionASHA(9)).close()
    with closing(Optimizer.resume(path, scheduler=ASHA(7))) as optimizer:
        assert optimizer.scheduler == ASHA(7), "that of this Optimizer alone"
    with closing(Optimizer.resume(path)) as optimizer:
        assert optimizer.scheduler == PromotionASHA(9)


def test_a_scheduler_from_outside_is_given_again(tmp_path: Path) -> None:
    path = tmp_path / "run.db"
    Optimizer(LINE, storage=path, scheduler=Scripted()).close()
    with pytest.raises(
        StorageError, match="a scheduler with parts from outside bo_suite must be given again"
    ):
        Optimizer.resume(path)
    with closing(Optimizer.resume(path, scheduler=Scripted(rung=4))) as optimizer:
        assert optimizer.scheduler == Scripted(rung=4)


def test_a_stored_form_that_is_no_scheduler_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "run.db"
    optimizer = Optimizer(LINE, storage=path)
    form = json.loads('{"type": "bo_suite.optim.maximize:Search", "fields": {}}')
    table = optimizer._history._table
    header = table.header
    object.__setattr__(header, "scheduler", form)
    table.stored(lambda: table.put_header(header))
    optimizer.close()
    with pytest.raises(TrialError, match="a scheduler must be an object with max_step"):
        Optimizer.resume(path)


def test_the_model_of_the_curves_is_fitted_when_a_scheduler_asks_for_it() -> None:
    beliefs: list[Any] = []

    @dataclass(frozen=True)
    class Curious(Scripted):
        def verdict(self, trial: Trial, progress: Progress) -> Verdict:
            beliefs.append(progress.curves())
            return "continue"

    optimizer = Optimizer(LINE, scheduler=Curious())
    *told, last = started(optimizer, 4)
    for trial in told:
        optimizer.tell(trial, trial.params["x"])
    optimizer.report(last, 2, 0.5)
    assert beliefs == []
    optimizer.report(last, 3, 0.5)
    assert len(beliefs) == 1
