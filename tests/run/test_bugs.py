"""Bugs of a program, which end a run, and the failures of points, which do not."""

import concurrent.futures as futures
import gc
import logging
import multiprocessing
import pickle
import subprocess
import sys
import threading
import weakref
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

import pytest
from paired import InPairs

from bo_suite import Float, Optimizer, Space, minimize
from bo_suite.errors import TrialError
from bo_suite.run.evaluate import Expected, evaluate
from bo_suite.run.raised import RemoteTraceback
from bo_suite.storage.goals import MINIMIZE

SPACE = Space({"x": Float(-1, 2)})


def missing(params: dict) -> float:
    return params["y"]


class Nth:
    """Raises at the calls of some numbers."""

    def __init__(self, *failing: int, error: BaseException | None = None) -> None:
        self.calls, self._failing, self._error = 0, failing, error or KeyError("y")

    def __call__(self, params: dict) -> float:
        self.calls += 1
        if self.calls in self._failing:
            raise self._error
        return params["x"]


class Panic(BaseException):
    pass


class Silent(Exception):
    def __str__(self) -> str:
        raise Panic


ERRORS = [
    KeyError("y"),
    SystemExit("usage"),
    Panic("out of bounds"),
    Silent(),
    StopIteration(),
    GeneratorExit(),
]
ERRORS += [ValueError("a" * 1_000_000), futures.BrokenExecutor("a pool of f"), TrialError("of f")]


def threads() -> futures.Executor:
    return futures.ThreadPoolExecutor(2)


@pytest.mark.parametrize("error", ERRORS, ids=lambda error: type(error).__name__)
@pytest.mark.parametrize("make", [None, threads])
def test_what_f_raises_before_an_evaluation_has_finished_is_raised_as_itself(
    tmp_path: Path, error: BaseException, make: Callable[[], futures.Executor] | None
) -> None:
    storage, f = tmp_path / "run.db", Nth(1, error=error)
    with pytest.raises(type(error)) as caught:
        minimize(f, SPACE, 5, executor=make, storage=storage, progress=False)
    assert caught.value is error
    assert f.calls == 1
    assert "Trial 0 failed like this, at {'x': 0.5}," in error.__notes__[0]
    with closing(Optimizer.resume(storage)) as kept:
        (trial,) = kept.trials
        assert (trial.state, trial.transient) == ("failed", True), "nothing is learnt about its point"
        assert len(trial.reason) <= 10_000
        assert "in __call__" in trial.traceback
        assert "evaluate.py" not in trial.traceback
        assert trial.traceback not in repr(trial)
    result = minimize(f, SPACE, 3, storage=storage, progress=False)
    assert [trial.state for trial in result.trials] == ["failed", "finished", "finished"]


def test_once_an_evaluation_has_finished_the_run_goes_on(tmp_path: Path) -> None:
    result = minimize(Nth(2, 3), SPACE, 4, progress=False)
    assert [(trial.state, trial.transient) for trial in result.trials[:2]] == [
        ("finished", False),
        ("failed", False),
    ]
    storage = tmp_path / "run.db"
    with closing(Optimizer(SPACE, budget=3, storage=storage)) as optimizer:
        optimizer.add({"x": 1.0}, 2.0)
    result = minimize(missing, SPACE, 3, storage=storage, progress=False)
    assert [trial.state for trial in result.trials] == ["finished", "failed", "failed"]


@pytest.mark.parametrize("catch", [Exception, LookupError, (ValueError, KeyError), BaseException])
def test_what_is_caught_is_recorded_from_the_start(catch: object) -> None:
    result = minimize(Nth(1, 2, 3), SPACE, 5, progress=False, catch=catch)
    assert [trial.state for trial in result.trials] == ["failed"] * 3 + ["finished"] * 2
    assert not any(trial.transient for trial in result.trials)


def test_what_is_not_caught_is_raised() -> None:
    for catch in (ValueError, (), (OSError, ArithmeticError)):
        with pytest.raises(KeyError):
            minimize(missing, SPACE, 5, progress=False, catch=catch)
    for catch in (int, "Exception", [Exception], (Exception, 3), None, ValueError()):
        with pytest.raises(TrialError, match="catch must be an exception class or a tuple of them"):
            minimize(missing, SPACE, 5, progress=False, catch=catch)


def test_points_that_need_too_much_memory_or_give_nan_are_no_bugs() -> None:
    class OutOfMemoryError(RuntimeError):  # as torch has it
        pass

    for error in (MemoryError("too large"), OutOfMemoryError("CUDA")):
        result = minimize(Nth(1, error=error), SPACE, 2, progress=False)
        assert [trial.state for trial in result.trials] == ["failed", "finished"]
        assert not result.trials[0].transient
    values = [float("nan"), float("inf"), 0.5]
    result = minimize(lambda params: values.pop(0), SPACE, 3, progress=False)
    assert [trial.state for trial in result.trials] == ["failed", "failed", "finished"]
    values = [float("nan"), None]
    with pytest.raises(TrialError, match=r"got None: is a `return` missing\?"):
        minimize(lambda params: values.pop(0), SPACE, 3, progress=False)


def test_a_failure_is_retried_before_it_is_raised() -> None:
    f = Nth(1, 2, 3, 4)
    with pytest.raises(KeyError):
        minimize(f, SPACE, 5, progress=False, retries=2)
    assert f.calls == 3
    result = minimize(Nth(1), SPACE, 2, progress=False, retries=1)
    assert [trial.state for trial in result.trials] == ["finished"] * 2


def test_ctrl_c_is_no_bug() -> None:
    assert minimize(Nth(1, error=KeyboardInterrupt()), SPACE, 2, progress=False).stopped == "interrupted"


def test_callbacks_do_not_hide_a_bug() -> None:
    with pytest.raises(KeyError):
        minimize(missing, SPACE, 2, progress=False, callbacks=[lambda optimizer, trial: optimizer.best])


def test_an_evaluation_that_has_finished_beside_it_counts() -> None:
    result = minimize(Nth(1), SPACE, 4, 0, 2, InPairs(), progress=False)
    assert [trial.state for trial in result.trials] == ["failed"] + ["finished"] * 3


def test_bugs_of_others_are_stored_too(tmp_path: Path) -> None:
    with pytest.raises(KeyError):
        minimize(missing, SPACE, 4, 0, 2, InPairs(), tmp_path / "run.db", progress=False)
    with closing(Optimizer.resume(tmp_path / "run.db")) as kept:
        assert [(trial.state, trial.transient) for trial in kept.trials] == [("failed", True)] * 2


def test_evaluations_that_still_run_are_left_to_the_next_run(tmp_path: Path) -> None:
    raised, storage = threading.Event(), tmp_path / "run.db"

    def f(params: dict) -> float:
        if params["x"] == 0.5:
            raise KeyError("y")
        assert raised.wait(30)
        return 0.0

    with threads() as executor:
        with pytest.raises(KeyError):
            minimize(f, SPACE, 4, 0, 2, executor, storage, progress=False)
        raised.set()
    result = minimize(lambda params: 0.0, SPACE, 2, storage=storage, progress=False)
    assert [(trial.state, trial.attempt) for trial in result.trials] == [("failed", 1), ("finished", 2)]


class Held:
    pass


def test_what_a_failure_holds_is_let_go_of_before_the_next_evaluation() -> None:
    held: list[weakref.ref] = []

    def f(params: dict) -> float:
        gc.collect()
        assert not held or held[-1]() is None
        large = Held()
        held.append(weakref.ref(large))
        raise ValueError("no memory is left, says a library")

    result = minimize(f, SPACE, 3, progress=False, catch=ValueError)
    assert {trial.reason for trial in result.trials} == {"ValueError: no memory is left, says a library"}


# Other processes.


class Two(Exception):
    """Is not read as it is pickled: its arguments are not those of its `__init__`."""

    def __init__(self, one: int, other: int) -> None:
        super().__init__(f"{one} and {other}")
        self.one = one


class Doubled(Exception):
    """Is read with another text."""

    def __init__(self, code: object) -> None:
        super().__init__(f"code {code}")


class Other(Exception):
    """Is read as another class."""

    def __reduce__(self) -> tuple[object, ...]:
        return ValueError, ("other",)


class Locked(Exception):
    """Cannot be pickled."""

    def __init__(self, text: str) -> None:
        super().__init__(text)
        self.lock = threading.Lock()


def raises(error: BaseException) -> Callable[[dict], float]:
    def f(params: dict) -> float:
        raise error

    return f


def sent(error: BaseException) -> BaseException:
    """What is raised here of an exception in another process."""
    outcome = pickle.loads(pickle.dumps(evaluate(raises(error), Expected(MINIMIZE), {}, True)))
    with pytest.raises(BaseException) as caught:  # noqa: PT011
        outcome.raised.again("a note")
    return caught.value


@pytest.mark.parametrize(
    "error",
    [
        *(
            KeyError("y"),
            SystemExit(3),
            Panic("out of bounds"),
            Two(1, 2),
            Doubled(5),
            Other("mine"),
            Silent(),
        ),
        *(FileNotFoundError(2, "no such file", "f"), subprocess.CalledProcessError(3, ["a"])),
        ValueError("a" * 20_000_000),
    ],
    ids=lambda error: type(error).__name__,
)
def test_an_exception_of_another_process_comes_as_it_was(error: BaseException) -> None:
    found = sent(error)
    assert type(found) is type(error)
    assert found.args == error.args
    assert {**found.__dict__, "__notes__": []} == {**error.__dict__, "__notes__": []}
    assert found.__notes__ == ["a note"]
    assert isinstance(found.__cause__, RemoteTraceback)
    assert len(str(found.__cause__)) < 10_100
    assert "in f\n" in str(found.__cause__)


def test_one_that_cannot_be_sent_is_an_error_with_its_text() -> None:
    found = sent(Locked("in use"))
    assert isinstance(found, TrialError)
    assert "the function raised Locked: in use in another process" in str(found)
    assert "in f\n" in str(found.__cause__)


def test_processes_that_fork() -> None:
    for f, error in ((missing, KeyError), (raises_two, Two), (raises_locked, TrialError), (pair, TrialError)):
        with (
            futures.ProcessPoolExecutor(2, mp_context=multiprocessing.get_context("fork")) as executor,
            pytest.raises(error) as caught,
        ):
            minimize(f, SPACE, 4, 0, 2, executor, progress=False)
        if f is pair:
            assert "got (0.3, 5): take one of its items" in str(caught.value)
            assert caught.value.__cause__ is None
        else:
            assert f"in {f.__name__}\n" in str(caught.value.__cause__)


def raises_two(params: dict) -> float:
    raise Two(1, 2)


def raises_locked(params: dict) -> float:
    raise Locked("in use")


def pair(params: dict) -> tuple[float, int]:
    return 0.3, 5


# Tracebacks and the log.


def test_the_first_failure_of_a_kind_is_a_warning_with_its_traceback(
    caplog: pytest.LogCaptureFixture,
) -> None:
    errors = [None, KeyError("y"), None, KeyError("z"), ValueError("w"), None]

    def f(params: dict) -> float:
        if (error := errors.pop(0)) is not None:
            raise error
        return 0.25

    with caplog.at_level(logging.INFO, "bo_suite"):
        result = minimize(f, SPACE, 6, progress=False)
    assert result.stopped is None
    warnings = [record.getMessage() for record in caplog.records if record.levelno == logging.WARNING]
    assert [text[:24] for text in warnings] == ["trial 1 failed: KeyError", "trial 4 failed: ValueErr"]
    assert all("in f\n" in text for text in warnings)
    lines = [record.getMessage() for record in caplog.records if record.levelno == logging.INFO]
    assert [line.partition(" in ")[0].partition(" after ")[0] for line in lines] == [
        *("trial 0 finished: 0.25", "trial 1 failed", "trial 2 finished: 0.25"),
        *("trial 3 failed", "trial 4 failed", "trial 5 finished: 0.25"),
    ]
    assert lines[0].endswith(" s (best 0.25)")
    assert lines[1].endswith(" s: KeyError: 'y'")


def test_a_bug_that_is_raised_is_not_said_twice(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.WARNING, "bo_suite"), pytest.raises(KeyError):
        minimize(missing, SPACE, 6, progress=False)
    assert caplog.text == ""


def test_a_withdrawn_trial_has_a_line(caplog: pytest.LogCaptureFixture) -> None:
    optimizer = Optimizer(SPACE)
    with caplog.at_level(logging.INFO, "bo_suite"):
        optimizer.withdraw(optimizer.ask())
    assert "trial 0 was withdrawn after " in caplog.text


def test_a_traceback_may_be_given_and_is_stored_in_part(tmp_path: Path) -> None:
    storage = tmp_path / "run.db"
    with closing(Optimizer(SPACE, storage=storage)) as optimizer:
        assert optimizer.fail(optimizer.ask(), "why", traceback="a\udc80" * 10_000).traceback[:6] == r"a\udc8"
        assert optimizer.fail(optimizer.ask(), "why").traceback is None
        trial = optimizer.ask()
        for wrong in (5, ValueError("x"), b"x"):
            with pytest.raises(TrialError, match="a traceback must be a string"):
                optimizer.fail(trial, "why", traceback=wrong)
    with closing(Optimizer.resume(storage)) as optimizer:
        assert 9_900 < len(optimizer.trials[0].traceback) <= 10_000
        assert "traceback" not in repr(optimizer.trials[0])


def test_frames_without_end_are_cut() -> None:
    def endless(number: int) -> float:
        return other(number)

    def other(number: int) -> float:
        return endless(number)

    outcome = evaluate(endless, Expected(MINIMIZE), {}, False)
    assert outcome.kinds[0] == "builtins.RecursionError"
    assert 9_900 < len(outcome.traceback) <= 10_000
    assert outcome.traceback.startswith("Traceback (most recent call last)")
    assert outcome.traceback.endswith("RecursionError: maximum recursion depth exceeded")
    assert outcome.raised is None


# Budgets, directions, names.


def test_a_spent_budget_is_said(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    storage, f = tmp_path / "run.db", Nth()
    assert minimize(f, SPACE, 3, storage=storage, progress=False).stopped is None
    with closing(Optimizer.resume(storage)) as optimizer:
        optimizer.withdraw(optimizer.ask())
    for budget in (3, 2):
        caplog.clear()
        result = minimize(f, SPACE, budget, storage=storage, progress=False)
        assert result.stopped == f"the budget of {budget} was spent already: the storage has 3 trials"
        assert result.stopped in caplog.text
    assert f.calls == 3
    assert minimize(f, SPACE, 4, storage=storage, progress=False).stopped is None
    with closing(Optimizer(SPACE, budget=6, storage=storage)) as optimizer:
        optimizer.ask()
        result = minimize(f, SPACE, 5, storage=storage, progress=False)
        assert result.stopped.endswith("the storage has 5 trials, 1 of them running elsewhere")
    assert minimize(f, SPACE, 5, storage=storage, progress=False).stopped is None, "it is evaluated now"
    assert f.calls == 5


def test_a_run_may_maximise(tmp_path: Path) -> None:
    options = {"direction": "maximize", "storage": tmp_path / "run.db", "progress": False}
    result = minimize(lambda params: params["x"], SPACE, 3, **options)
    assert result.direction == "maximize"
    assert result.best.value == max(trial.params["x"] for trial in result.trials)
    with closing(Optimizer.resume(tmp_path / "run.db")) as optimizer:
        assert optimizer.direction == "maximize"
    with pytest.raises(
        TrialError, match=r"direction must be 'minimize' or 'maximize', or a dict of .*, got 'up'"
    ):
        minimize(missing, SPACE, direction="up")


@pytest.mark.parametrize(
    ("name", "instead"),
    [("n_trials", "budget="), ("n_calls", "budget="), ("maximize", "direction="), ("objective", "f=")],
)
def test_names_of_other_libraries_are_told_by_ours(name: str, instead: str) -> None:
    with pytest.raises(TypeError, match=f"minimize has no argument '{name}': write {instead}"):
        minimize(missing, SPACE, **{name: 5})
    with pytest.raises(TypeError, match="unexpected keyword argument 'whatever'"):
        minimize(missing, SPACE, whatever=5)
    assert pickle.loads(pickle.dumps(minimize)) is minimize


@pytest.mark.slow
def test_an_interpreter_ends_with_what_f_raised(tmp_path: Path) -> None:
    script = tmp_path / "script.py"
    script.write_text(
        "from bo_suite import Float, Space, minimize\n"
        "def f(params):\n    return params['y']\n"
        "minimize(f, Space({'x': Float(0, 1)}), progress=False)\n"
    )
    child = subprocess.run([sys.executable, str(script)], capture_output=True, text=True, check=False)
    assert child.returncode == 1
    assert child.stderr.count("KeyError: 'y'") == 1
    assert ", in f\n    return params['y']" in child.stderr
