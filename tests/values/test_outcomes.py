"""What counts as a number, in whatever an outcome comes through."""

import asyncio
import math
import warnings
from decimal import Decimal
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch

from bo_suite import Float, Optimizer, Space, minimize
from bo_suite.errors import TrialError
from bo_suite.values.numbers import number_of

SPACE = Space({"x": Float(-1, 2)})


class Indexed:
    def __index__(self) -> int:
        return 3


NUMBERS = {
    "int": 3,
    "float32": np.float32(0.5),
    "float16": np.float16(0.5),
    "longdouble": np.longdouble(0.5),
    "int64": np.int64(3),
    "uint8": np.uint8(3),
    "array": np.array(0.5),
    "array of an object": np.array(Fraction(1, 2), dtype=object),
    "tensor": torch.tensor(0.5),
    "tensor of an int": torch.tensor(3),
    "bfloat16": torch.tensor(0.5, dtype=torch.bfloat16),
    "with a gradient": torch.tensor(0.25, requires_grad=True) * 2,
    "series item": pd.Series([0.5])[0],
    "Decimal": Decimal("0.5"),
    "Fraction": Fraction(1, 2),
    "index": Indexed(),
}

NO_NUMBERS: dict[str, tuple[Any, str]] = {
    "tuple": ((0.3, 5), "(0.3, 5): take one of its items"),
    "one": ((0.3,), "(0.3,): take its only item"),
    "list": ([0.3], "[0.3]: take its only item"),
    "empty": ([], "[]"),
    "set": ({0.3}, "{0.3}"),
    "text": ("0.3", "'0.3': take float(...) of it"),
    "word": ("low", "'low'"),
    "bytes": (b"0.3", "b'0.3': take float(...) of it"),
    "buffer": (memoryview(b"3"), "<memory at"),
    "none": (None, "None: is a `return` missing?"),
    "bool": (True, "True: take float(...) of it if 1 and 0 are meant"),
    "bool_": (np.bool_(True), "np.True_: take float(...) of it"),
    "bool array": (np.array(False), "array(False): take float(...) of it"),
    "bool tensor": (torch.tensor(True), "tensor(True): take float(...) of it"),
    "complex": (1 + 0j, "(1+0j): take its real part"),
    "complex128": (np.complex128(1), "take its real part"),
    "complex64": (np.complex64(1), "take its real part"),
    "complex tensor": (torch.tensor(1 + 0j), "take its real part"),
    "array": (np.array([0.3]), "array([0.3]): take its only element, as by .item()"),
    "deep": (np.ones((1, 1)), "take its only element"),
    "row": (np.ones(3), "take one number of it"),
    "no element": (np.ones(0), "take one number of it"),
    "tensor": (torch.tensor([0.3]), "take its only element"),
    "meta": (torch.tensor(0.3, device="meta"), "tensor("),
    "series": (pd.Series([0.3]), "take its only element"),
    "frame": (pd.DataFrame({"a": [0.3]}), "take its only element"),
    "str_": (np.str_("0.3"), "take float(...) of it"),
    "text array": (np.array("0.3"), "array('0.3'"),
    "time": (np.timedelta64(3, "s"), "np.timedelta64"),
    "missing": (pd.NA, "<NA>"),
    "function": (len, "<built-in function len>: are the parentheses of a call missing?"),
    "class": (float, "<class 'float'>"),
    "object": (object(), "<object object at"),
}


@pytest.mark.parametrize("value", NUMBERS.values(), ids=NUMBERS)
def test_numbers_are_taken_alike(value: Any) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        number = number_of(value)
        assert number in (0.5, 3.0)
        optimizer = Optimizer(SPACE)
        assert optimizer.tell(optimizer.ask(), value, std=value).value == number
        assert optimizer.add({"x": 1.0}, value).value == number
        assert minimize(lambda params: value, SPACE, 1, progress=False).trials[0].value == number


@pytest.mark.parametrize(("value", "text"), NO_NUMBERS.values(), ids=NO_NUMBERS)
def test_what_is_no_number_is_refused_alike_and_says_what_to_do(value: Any, text: str) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert number_of(value) is None
        optimizer = Optimizer(SPACE)
        calls = [lambda: optimizer.tell(optimizer.ask(), value), lambda: optimizer.add({"x": 1.0}, value)]
        calls.append(lambda: minimize(lambda params: value, SPACE, 3, progress=False))
        for call in calls:
            with pytest.raises(TrialError, match="number") as caught:
                call()
            assert text in str(caught.value)
        if value is not None:
            with pytest.raises(TrialError, match="a std must be a finite number >= 0, got"):
                optimizer.add({"x": 1.0}, 1.0, value)


def test_numbers_by_name_must_have_names_of_outcomes() -> None:
    optimizer, named = Optimizer(SPACE), {"loss": 0.3}
    for call in (
        lambda: optimizer.tell(optimizer.ask(), named),
        lambda: optimizer.add({"x": 1.0}, named),
        lambda: minimize(lambda params: named, SPACE, 3, progress=False),
    ):
        with pytest.raises(
            TrialError, match=r"'value', got 'loss'; name the objective by direction=\{'loss'"
        ):
            call()
    with pytest.raises(TrialError, match="std must be one of 'value', got 'loss'"):
        optimizer.add({"x": 1.0}, 1.0, named)
    assert optimizer.add({"x": 1.0}, {"value": 0.3}, {"value": 0.5}).std == 0.5


def test_a_value_of_a_wrong_type_ends_a_run_and_is_recorded(tmp_path: Path) -> None:
    storage = tmp_path / "run.db"
    with pytest.raises(TrialError, match="the function must return a number"):
        minimize(lambda params: (0.3, 5), SPACE, 3, storage=storage, progress=False)
    values = [0.5, (0.3, 5), 0.25]
    result = minimize(lambda params: values.pop(0), SPACE, 4, storage=storage, progress=False)
    assert [trial.state for trial in result.trials] == ["failed", "finished", "failed", "finished"]
    assert [trial.transient for trial in result.trials] == [True, False, False, False]
    assert result.trials[2].reason == "the function must return a number, got (0.3, 5): take one of its items"


def test_functions_that_return_no_value_yet() -> None:
    async def later(params: dict) -> float:
        return 0.5

    def yields(params: dict) -> Any:
        yield 0.5

    with warnings.catch_warnings():
        warnings.simplefilter("error")
        with pytest.raises(TrialError, match=r"`async` functions are not awaited"):
            minimize(later, SPACE, 1, progress=False)
        with pytest.raises(TrialError, match="use `return` instead of `yield`"):
            minimize(yields, SPACE, 1, progress=False)
    assert minimize(lambda p: asyncio.run(later(p)), SPACE, 1, progress=False).best.value == 0.5


def test_numbers_beyond_floats_are_infinite() -> None:
    assert number_of(10**400) == math.inf
    assert number_of(Fraction(-(10**400))) == -math.inf
    assert number_of(Decimal("1e400")) == math.inf
    optimizer = Optimizer(SPACE)
    with pytest.raises(TrialError, match="a value must be a finite number"):
        optimizer.tell(optimizer.ask(), 10**400)


def test_a_masked_number_is_not_what_is_under_the_mask() -> None:
    with pytest.warns(UserWarning, match="masked"):
        assert math.isnan(number_of(np.ma.masked))
