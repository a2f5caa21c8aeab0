"""Values as text: what is written is read back as the same value, and what people write is understood."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bo_suite.errors import SpaceError
from bo_suite.space import Choice, Float, Int, Space
from bo_suite.space.text import ParameterText, number_in, values_in

OPTIONS = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(-(10**20), 10**20),
    st.floats(allow_nan=False, allow_infinity=False),
    st.text(),
    st.sampled_from(["", " ", "None", "null", "True", "1", "1.0", '"a"', "a", '""', " a", "'=1", "=1"]),
)


@given(st.lists(OPTIONS, min_size=1, max_size=8, unique_by=lambda option: (option,)), st.booleans())
def test_an_option_is_read_back_from_its_text(options: list[object], retired: bool) -> None:
    parameter = Choice(options[: len(options) // 2 + 1])
    if retired:
        parameter = Choice(options).with_past(parameter)
    form = ParameterText(parameter)
    for option in parameter.options:
        again = form.read(form.write(option))
        assert (again, type(again)) == (option, type(option))


@given(st.floats(allow_nan=False, allow_infinity=False))
def test_a_float_is_read_back_bit_for_bit(value: float) -> None:
    form = ParameterText(Float(-1.0, 1.0))
    assert repr(float(form.read(form.write(value)))) == repr(value)


@pytest.mark.parametrize(
    ("text", "number"),
    [("3", 3), (" -0.5 ", -0.5), (".5", 0.5), ("1e-4", 1e-4), ("+2", 2)]
    + [(text, None) for text in ("", "nan", "inf", "1_000", "1,5", "0x1", "one", "٣")],
)
def test_a_number_is_what_programs_write(text: str, number: float | None) -> None:
    assert number_in(text) == number


def test_a_decimal_comma_is_read_where_it_is_allowed() -> None:
    assert number_in("1,5", ",") == 1.5
    assert number_in("1.5", ",") == 1.5
    assert number_in("1.000,5", ",") is None


def test_what_people_write_is_understood() -> None:
    flags, sizes, names = Choice([True, False]), Choice([0.5, 1, "auto"]), Choice([None, "adam"])
    assert [ParameterText(flags).read(text) for text in ("true", "FALSE", "1", "0.0")] == [True, False] * 2
    assert [ParameterText(sizes).read(text) for text in ("1.0", ".50", " auto")] == [1, 0.5, "auto"]
    assert [ParameterText(names).read(text) for text in ("", "null", "none", "None")] == [None] * 4
    assert ParameterText(Int(1, 9)).read("3.0") == 3
    with pytest.raises(SpaceError, match=r"an Int must be an integer, got 3\.5"):
        Int(1, 9).check(ParameterText(Int(1, 9)).read("3.5"))
    with pytest.raises(SpaceError, match="a Float must be a finite number, got 'fast'"):
        Float(0, 1).check(ParameterText(Float(0, 1)).read("fast"))
    with pytest.raises(SpaceError, match="must be one of"):
        names.check(ParameterText(names).read("sgd"))


def test_values_are_given_by_name() -> None:
    space = Space({"a": Float(0, 1), "a=b": Int(1, 3), "c": Choice(["x=y", "z"])})
    assert values_in(space, ["a=0.5", "a=b=2", "c=x=y"]) == {"a": 0.5, "a=b": 2, "c": "x=y"}
    for texts, sentence in (
        (["a"], "a value must be given as NAME=VALUE, got 'a'"),
        (["d=1"], "got unknown 'd'"),
        (["a=1", "a=0"], "a parameter must be given once, got 'a' twice"),
    ):
        with pytest.raises(SpaceError, match=sentence):
            values_in(space, texts)
