"""Parameters that are active under conditions on others: what is checked, counted and said."""

import json
import math
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
import torch
from branching import SMALL, TREE, every_point, random_space
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from bo_suite import Choice, Float, Int, Space
from bo_suite.errors import SpaceError
from bo_suite.space.listing import every_row

RBF = {"model": "svm", "kernel": "rbf", "gamma": 0.5, "scale": "unit"}


def finite_space(seed: int) -> Space:
    try:
        return random_space(seed, continuous=False)
    except SpaceError:  # some conditions exclude each other
        assume(False)
        raise


def test_a_point_has_the_active_parameters_alone_in_the_order_of_the_space() -> None:
    point = TREE.check({"scale": "unit", "gamma": 0.5, "kernel": "poly", "model": "svm", "degree": 3})
    assert list(point) == ["degree", "model", "kernel", "gamma", "scale"]
    assert TREE.check(RBF) == RBF
    assert TREE.contains(RBF)
    assert not TREE.contains({**RBF, "degree": 3})
    assert TREE.accept(RBF) == RBF


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"degree": 3}, r"'degree' is only active when kernel is 'poly', got kernel='rbf'"),
        ({"leaf": 3}, r"'leaf' is only active when 4 <= depth <= 8, got depth inactive"),
        ({"kernel": "poly"}, r"parameter 'degree' must be given, as it is active when kernel is 'poly'"),
        ({"model": "forest"}, r"'kernel' is only active when model is 'svm', got model='forest'"),
        ({"gamma": "no"}, r"parameter 'gamma': a Float must be a finite number, got 'no'"),
        ({"speed": 1}, r"parameters must be among .* got unknown \['speed'\]"),
    ],
)
def test_a_point_with_an_inactive_parameter_or_without_an_active_one_is_refused(
    change: dict[str, Any], message: str
) -> None:
    with pytest.raises(SpaceError, match=message):
        TREE.check({**RBF, **change})
    with pytest.raises(SpaceError, match=message):
        TREE.accept({**RBF, **change})


def test_empty_cells_of_a_table_stand_for_inactive_parameters() -> None:
    frame = pd.DataFrame([RBF, {"model": "linear", "share": 0.5, "scale": "none"}])
    first, second = (TREE.check(row) for _, row in frame.iterrows())
    assert first == RBF
    assert second == {"model": "linear", "share": 0.5, "scale": "none"}
    with pytest.raises(SpaceError, match="parameter 'gamma': a Float must be a finite number, got nan"):
        TREE.check({**RBF, "gamma": math.nan})
    none = Space({"a": Choice([0, 1]), "b": Choice([None, 2], when={"a": 1})})
    assert none.check({"a": 1, "b": None}) == {"a": 1, "b": None}
    assert none.check({"a": 0, "b": None}) == {"a": 0}


def test_parents_that_a_part_of_a_point_needs_are_added_if_they_have_one_value() -> None:
    assert TREE.check_some({"degree": 3}) == {"degree": 3, "model": "svm", "kernel": "poly"}
    assert TREE.check_some({"kernel": "rbf"}) == {"model": "svm", "kernel": "rbf"}
    assert TREE.check_some({"leaf": 2, "depth": 4}) == {"model": "forest", "depth": 4, "leaf": 2}
    assert TREE.check_some({"degree": None, "model": "linear"}) == {"model": "linear"}
    with pytest.raises(SpaceError, match=r"'depth' must be given with 'leaf', .* when 4 <= depth <= 8"):
        TREE.check_some({"leaf": 2})
    with pytest.raises(SpaceError, match=r"'kernel' must be given with 'gamma', .* is 'rbf' or 'poly'"):
        TREE.check_some({"gamma": 0.1, "model": "svm"})
    with pytest.raises(SpaceError, match="'degree' is only active when kernel is 'poly', got kernel='rbf'"):
        TREE.check_some({"degree": 3, "kernel": "rbf"})


@settings(deadline=None, max_examples=60)
@given(st.integers(0, 10**6))
def test_the_points_are_those_of_all_combinations_without_what_is_inactive(seed: int) -> None:
    space = finite_space(seed)
    points = every_point(space)
    rows = every_row(space)
    decoded = space.decode(rows)
    assert space.cardinality == len(points) == len(rows)
    assert {tuple(point.items()) for point in decoded} == points
    assert torch.equal(space.encode(decoded), rows)
    assert all(space.check(point) == point for point in decoded)


def test_the_number_of_points_takes_no_listing() -> None:
    chain = {f"x{i}": Int(0, 9, when={f"x{i - 1}": (0, 4)} if i else None) for i in range(40)}
    count = 10
    for _ in range(39):
        count = 5 + 5 * count
    assert Space(chain).cardinality == count
    many = {"k": Choice(["a", "b"])} | {f"y{i}": Int(1, 10**6, when={"k": "a"}) for i in range(6)}
    assert Space(many).cardinality == 10**36 + 1
    assert TREE.cardinality is None
    assert TREE.with_fixed({"model": "svm", "kernel": "sigmoid"}).cardinality == 2
    assert TREE.with_fixed({"model": "svm", "kernel": "rbf"}).cardinality is None
    assert len(every_row(SMALL)) == SMALL.cardinality == len(every_point(SMALL))


def test_a_parent_with_one_value_disappears_from_the_searched_space() -> None:
    space = Space(
        {
            "model": Choice(["svm"]),
            "C": Float(0, 1, when={"model": "svm"}),
            "mode": Choice(["one"], when={"k": [1, 2]}),
            "k": Int(1, 3),
            "z": Int(1, 5, when={"mode": "one", "k": (2, 3)}),
        }
    )
    searched = space.varying
    assert searched.names == ("C", "k", "z")
    assert searched["C"].when is None
    assert searched["z"].when == {"k": (2,)}
    assert [condition.column for condition in space.columns.conditions] == [2, 4]
    row = searched.encode([{"C": 0.5, "k": 2, "z": 5}])
    assert space.decode(space.widened(row)) == [{"model": "svm", "C": 0.5, "mode": "one", "k": 2, "z": 5}]
    assert space.decode(space.widened(searched.encode([{"C": 0.5, "k": 3}]))) == [
        {"model": "svm", "C": 0.5, "k": 3}
    ]


def space_of(**parameters: Any) -> Space:
    return Space(parameters)


@pytest.mark.parametrize(
    ("build", "message"),
    [
        (lambda: Int(1, 2, when={}), "`when` must be a dict with at least one parameter, got {}"),
        (lambda: Int(1, 2, when="kernel"), "`when` must be a dict with at least one parameter, got 'kernel'"),
        (lambda: Int(1, 2, when={3: 1}), "a name in `when` must be a non-empty string, got 3"),
        (lambda: Int(1, 2, when={"b": []}), "`when` must have at least one value of 'b', got []"),
        (lambda: Int(1, 2, when={"b": (3, 2)}), "must hold in an interval of 'b' in `when`, got (3, 2)"),
        (lambda: Int(1, 2, when={"b": (1, 2, 3)}), "several values of 'b' in `when` must be a list"),
        (lambda: Int(1, 2, when={"b": ("u", "v")}), "must be an interval (low, high), and several values a"),
        (
            lambda: Int(1, 2, when={"b": {"low": 1}}),
            "an interval of 'b' in `when` must have `low` and `high`",
        ),
        (
            lambda: Int(1, 2, when={"b": object}),
            "an option must be a string, a finite number, a bool or None",
        ),
        (lambda: Int(1, 2, fidelity=True, when={"b": 1}), "a fidelity must not be conditional"),
        (lambda: Choice([1], context=True, when={"b": 1}), "a context must not be conditional"),
        (
            lambda: space_of(a=Int(1, 2, when={"b": 1}), c=Int(1, 2)),
            "the condition of 'a' must be on parameters among ['c'], got unknown 'b'",
        ),
        (
            lambda: space_of(a=Int(1, 2, when={"a": 1})),
            "the condition of 'a' must be on another parameter, got itself",
        ),
        (
            lambda: space_of(a=Int(1, 2, when={"b": 1}), b=Int(1, 2, when={"a": 1}), c=Int(1, 2)),
            "conditions must not form a cycle, got 'a' -> 'b' -> 'a'",
        ),
        (
            lambda: space_of(a=Int(1, 2, when={"b": "w"}), b=Choice(["u", "v"])),
            "the condition of 'a' on 'b': the value must be one of ['u', 'v'], got 'w'",
        ),
        (
            lambda: space_of(a=Int(1, 2, when={"b": [1, 3]}), b=Int(1, 2)),
            "the condition of 'a' on 'b': `1 <= value <= 2` must hold, got 3",
        ),
        (
            lambda: space_of(a=Int(1, 2, when={"b": (1, 2)}), b=Choice([1, 2])),
            "'b', a Choice, must be a value or a list of values, got the pair (1, 2)",
        ),
        (
            lambda: space_of(a=Int(1, 2, when={"b": (3, 9)}), b=Int(1, 2)),
            "the condition of 'a' must hold for a value of 'b', from 1 to 2, got (3, 9)",
        ),
        (
            lambda: space_of(a=Int(1, 2, when={"b": (1.2, 1.8)}), b=Int(1, 2)),
            "the condition of 'a' must hold for a value of 'b', from 1 to 2, got (1.2, 1.8)",
        ),
        (
            lambda: space_of(a=Int(1, 2, when={"b": 0.5}), b=Float(0, 1)),
            "'b', a continuous Float, must be an interval (low, high), got [0.5]",
        ),
        (
            lambda: space_of(a=Int(1, 2, when={"b": (1, 1)}), b=Float(0, 1)),
            "must hold for an interval of its values of 'b', from 0.0 to 1.0, got (1, 1)",
        ),
        (
            lambda: space_of(a=Int(1, 2, when={"b": 3}), b=Int(1, 3, fidelity=True)),
            "the condition of 'a' must not be on a fidelity, as a point is the same at all fidelities, got",
        ),
        (
            lambda: space_of(a=Int(1, 2), b=Int(1, 2, when={"a": 1}), c=Int(1, 2, when={"b": 1, "a": 2})),
            "each parameter must be active in some point, got 'c', whose condition (b is 1 and a is 2)",
        ),
    ],
)
def test_a_condition_that_makes_no_sense_is_refused_in_a_sentence(build: Any, message: str) -> None:
    with pytest.raises(SpaceError) as caught:
        build()
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)


def test_values_in_a_condition_are_those_of_the_parent() -> None:
    space = space_of(
        a=Int(1, 2, when={"b": [2.0, 2, 3]}),
        b=Int(1, 3),
        c=Int(0, 1, when={"d": pd.Series([True])}),
        d=Choice([True, 0]),
    )
    assert space["a"].when == {"b": (2, 3)}
    assert type(dict(space["a"].when or {})["b"][0]) is int
    assert dict(space["c"].when or {}) == {"d": (True,)}
    written = Space({"b": Int(1, 3), "a": Int(1, 2, when={"b": [2, 3]})})
    assert repr(written["a"]) == "Int(low=1, high=2, log=False, fidelity=False, when={'b': [2, 3]})"
    assert hash(written["a"]) == hash(Int(1, 2, when={"b": [2, 3]}))
    assert written["a"] == Int(1, 2, when={"b": [2, 3]}) != Int(1, 2, when={"b": [2]})


@pytest.mark.parametrize("space", [TREE, SMALL, random_space(0, continuous=True)])
def test_a_conditional_space_survives_json_and_its_repr(space: Space) -> None:
    assert Space.from_dict(json.loads(json.dumps(space.to_dict()))) == space
    again = {name: eval(repr(parameter)) for name, parameter in space}
    assert Space(again) == space


def test_a_condition_in_a_file_is_a_table(tmp_path: Path) -> None:
    file = tmp_path / "space.toml"
    file.write_text(
        """
        [kernel]
        type = "choice"
        options = ["rbf", "poly"]
        [degree]
        type = "int"
        low = 2
        high = 5
        when = { kernel = "poly" }
        [tilt]
        type = "float"
        low = 0
        high = 1
        when = { degree = { low = 3, high = 4 }, kernel = ["poly"] }
        """
    )
    space = Space.from_file(file)
    assert space["degree"] == Int(2, 5, when={"kernel": "poly"})
    assert space["tilt"] == Float(0, 1, when={"degree": (3, 4), "kernel": "poly"})
    assert space["tilt"].to_dict()["when"] == {"degree": {"low": 3, "high": 4}, "kernel": ["poly"]}
    assert space.fingerprint != Space({name: p for name, p in space if name != "tilt"}).fingerprint


def test_a_space_shows_its_conditions() -> None:
    assert "        when={'kernel': ['rbf', 'poly']})," in repr(TREE).splitlines()
    assert "when={&#x27;kernel&#x27;: &#x27;poly&#x27;}" in TREE._repr_html_()


def test_conditions_on_an_interval_hold_at_its_ends_up_to_rounding() -> None:
    space = Space({"x": Float(0, 1), "y": Int(1, 3, when={"x": (0.1, 0.3)})})
    for x, active in (
        (0.1, True),
        (0.3, True),
        (0.1 + 0.2, True),
        (0.30000000001, False),
        (0.0999999, False),
    ):
        point = {"x": x, "y": 2} if active else {"x": x}
        assert space.check(point) == point
        assert space.decode(space.encode([point]))[0].keys() == point.keys()
    logarithmic = Space({"x": Float(1e-3, 1e3, log=True), "y": Int(1, 3, when={"x": (-5, 1e-2)})})
    assert logarithmic.check({"x": 1e-2, "y": 1})
    assert logarithmic.check({"x": 1.1e-2})


def test_a_condition_may_be_on_a_context() -> None:
    space = Space(
        {"day": Choice(["mon", "sun"], context=True), "x": Float(0, 1), "y": Int(1, 3, when={"day": "sun"})}
    )
    assert space.with_fixed({"day": "mon"}).open_columns == (1,)
    assert space.with_fixed({"day": "sun"}).open_columns == (1, 2)


def test_spaces_without_conditions_keep_their_fingerprints() -> None:
    space = Space(
        {
            "x": Float(-1, 3),
            "l": Float(1e-4, 1, log=True),
            "n": Int(1, 500),
            "k": Choice(["u", "v", "w"]),
            "s": Float(0, 1, step=0.1),
        }
    )
    assert space.fingerprint == "f12196b4ecdb8a2b"  # of version 0.8
    assert space.columns.conditions == ()
