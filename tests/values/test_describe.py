import re
from collections.abc import Callable

import pytest

from bo_suite import Choice, Float, Optimizer, Space, minimize
from bo_suite.errors import SpaceError, TrialError
from bo_suite.run.evaluate import evaluate
from bo_suite.run.stopping import check_callbacks, reason_to_stop
from bo_suite.storage.goals import MINIMIZE
from bo_suite.values.describe import described, error_text, plain_text, shortened

SPACE = Space({"x": Float(-1, 2)})
LARGE = "a" * 1_000_000


class Panic(BaseException):
    """What a Rust extension raises."""


class Named(type):
    __name__ = property(lambda cls: 1 / 0)


class Silent(Exception, metaclass=Named):
    """Neither it nor its type says anything of itself."""

    def __init__(self, answer: Callable[[object], object]) -> None:
        self._answer = answer

    @property
    def __class__(self) -> type:
        raise Panic

    def __str__(self) -> str:
        return self._answer(self)

    __repr__ = __str__


def panics(value: object) -> str:
    raise Panic


class Text(str):
    def encode(self, *arguments: object) -> bytes:
        raise Panic

    __len__ = __getitem__ = __format__ = __str__ = encode


@pytest.mark.parametrize(
    ("answer", "error"),
    [
        (panics, "Panic"),
        (lambda value: 1 / 0, "ZeroDivisionError"),
        (lambda value: 3, "TypeError"),
        (str, "RecursionError"),
    ],
)
def test_what_cannot_describe_itself_is_described_by_its_type(
    answer: Callable[[object], object], error: str
) -> None:
    value = Silent(answer)
    assert described(value) == f"<Silent, whose repr raised {error}>"
    assert plain_text(value) == f"<Silent, whose str raised {error}>"
    assert error_text(value) == f"Silent: <Silent, whose str raised {error}>"


def test_ctrl_c_is_no_failure_to_describe() -> None:
    def interrupted(value: object) -> str:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        described(Silent(interrupted))


def test_descriptions_are_plain_text_that_can_be_stored() -> None:
    text = described(Silent(lambda value: Text("abc")))
    assert (type(text), text) == (str, "abc")
    assert described("\udc80") == r"'\udc80'"
    assert plain_text("a\udc80") == r"a\udc80"
    nested: list[object] = []
    for _ in range(100_000):
        nested = [nested]
    assert described(nested) == "<list, whose repr raised RecursionError>"


def test_an_error_without_a_message_is_its_type() -> None:
    assert error_text(ValueError("too far")) == "ValueError: too far"
    assert error_text(AssertionError()) == "AssertionError"
    assert error_text(KeyError("y")) == "KeyError: 'y'"


@pytest.mark.parametrize("most", [0, 10, 45, 100, 10_000])
@pytest.mark.parametrize("length", [9, 10, 11, 10_001, 123_456])
def test_a_long_text_is_cut_in_the_middle_and_says_how_much_is_left_out(length: int, most: int) -> None:
    text = ("0123456789" * (length // 10 + 1))[:length]
    cut = shortened(text, most)
    assert len(cut) <= most or cut == text
    if length <= most:
        assert cut == text
    elif most >= 45:
        start, left_out, end = re.split(r" \.\.\. \((\d+) characters left out\) \.\.\. ", cut)
        assert text.startswith(start)
        assert text.endswith(end)
        assert len(start) + int(left_out) + len(end) == length


# What users give.


def raises(error: BaseException) -> Callable[[dict], float]:
    def function(params: dict) -> float:
        raise error

    return function


def reason(function: Callable[[dict], object]) -> str:
    (trial,) = minimize(function, SPACE, budget=1, progress=False, catch=BaseException).trials
    assert trial.state == "failed"
    assert len(trial.reason) <= 10_000
    return trial.reason


def test_a_panic_is_a_failed_trial() -> None:
    assert reason(raises(Panic("index out of bounds"))) == "Panic: index out of bounds"
    assert reason(raises(GeneratorExit())) == "GeneratorExit"


def test_exceptions_and_results_that_cannot_describe_themselves_are_failed_trials() -> None:
    assert reason(raises(Silent(panics))) == "Silent: <Silent, whose str raised Panic>"
    law = "the function must return a number, got"
    assert reason(lambda params: Silent(panics)) == f"{law} <Silent, whose repr raised Panic>"
    assert len(reason(lambda params: LARGE)) < 300


class Uncountable:
    def __float__(self) -> float:
        raise Panic


def test_a_result_that_panics_as_it_is_made_a_float_is_a_failed_trial() -> None:
    assert "the function must return a number, got <" in reason(lambda params: Uncountable())


def test_a_large_message_is_stored_in_part_and_repeated_in_short() -> None:
    optimizer = Optimizer(SPACE)
    outcome = evaluate(raises(ValueError(LARGE)), MINIMIZE, {}, False)
    assert 9_000 < len(outcome.traceback) <= 10_000
    assert "in function" in outcome.traceback
    assert 9_000 < len(outcome.reason) <= 10_000
    assert " characters left out) " in outcome.reason
    trial = optimizer.ask()
    assert 9_900 < len(optimizer.fail(trial, LARGE).reason) <= 10_000
    with pytest.raises(TrialError, match="1 failed, the last with: aaa") as caught:
        _ = optimizer.best
    assert len(str(caught.value)) < 400
    with pytest.raises(TrialError, match="a trial ends once") as caught:
        optimizer.fail(trial, "again")
    assert len(str(caught.value)) < 400
    assert optimizer.add_failed({"x": 1.0}, Silent(panics)).reason == "<Silent, whose str raised Panic>"


class Unspeakable:
    def __repr__(self) -> str:
        raise Panic


@pytest.mark.parametrize("value", [Unspeakable(), LARGE], ids=["panics", "large"])
def test_wrong_arguments_are_refused_whatever_they_say_of_themselves(value: object) -> None:
    optimizer = Optimizer(SPACE)
    trial = optimizer.ask()
    for error, act in (
        (TrialError, lambda: optimizer.tell(trial, value)),
        (TrialError, lambda: optimizer.tell(trial, 1.0, value)),
        (TrialError, lambda: optimizer.tell(value, 1.0)),
        (TrialError, lambda: optimizer.add({"x": 1.0}, value)),
        (TrialError, lambda: Optimizer(SPACE, direction=value)),
        (TrialError, lambda: Optimizer(SPACE, value)),
        (TrialError, lambda: minimize(value, SPACE)),
        (TrialError, lambda: minimize(abs, SPACE, workers=value)),
        (TrialError, lambda: minimize(abs, SPACE, executor=value)),
        (TrialError, lambda: check_callbacks([value])),
        (TrialError, lambda: reason_to_stop([lambda optimizer, trial: [value]], optimizer, trial)),
        (SpaceError, lambda: Optimizer(value)),
        (SpaceError, lambda: optimizer.add(value, 1.0)),
        (SpaceError, lambda: optimizer.add({"x": value}, 1.0)),
        (SpaceError, lambda: optimizer.add({"x": 1.0, value: 1.0}, 1.0)),
        (SpaceError, lambda: Float(value, 1.0)),
        (SpaceError, lambda: Choice([[value]])),
        (SpaceError, lambda: Space({"x": value})),
    ):
        with pytest.raises(error, match="got") as caught:
            act()
        assert len(str(caught.value)) < 3_000


def test_a_value_whose_type_lies_is_refused() -> None:
    optimizer = Optimizer(SPACE)
    with pytest.raises(TrialError, match=r"a value must be a finite number .*, got <Liar>"):
        optimizer.tell(optimizer.ask(), Liar())


class Liar:
    @property
    def __class__(self) -> type:
        raise ValueError

    def __repr__(self) -> str:
        return "<Liar>"


def test_a_choice_does_not_list_all_its_options_in_an_error() -> None:
    with pytest.raises(SpaceError, match="the value must be one of") as caught:
        Choice(tuple(range(3_000))).check("other")
    assert len(str(caught.value)) < 3_000


def test_a_reason_of_a_callback_is_cut() -> None:
    result = minimize(lambda params: 0.0, SPACE, progress=False, callbacks=[lambda optimizer, trial: LARGE])
    assert 9_900 < len(result.stopped) <= 10_000
