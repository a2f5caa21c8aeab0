import json
import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from torch.testing import assert_close

from bo_suite import Choice, Float, Int, Space
from bo_suite.errors import SpaceError
from bo_suite.space.parameters import Parameter

finite = st.floats(-1e300, 1e300, allow_nan=False)
positive = st.floats(1e-300, 1e300)
options = st.lists(st.one_of(st.text(max_size=4), st.integers(-5, 99)), min_size=1, max_size=8, unique=True)


@st.composite
def parameters(draw: st.DrawFn) -> Parameter:
    kind = draw(st.sampled_from(["float", "log", "int", "logint", "choice", "ordered"]))
    fidelity = draw(st.booleans())
    if kind == "float":
        low, high = sorted(draw(st.lists(finite, min_size=2, max_size=2, unique=True)))
        assume(high - low > 1e-12 * max(abs(low), abs(high)))
        return Float(low, high, fidelity=fidelity)
    if kind == "log":
        low, high = sorted(draw(st.lists(positive, min_size=2, max_size=2, unique=True)))
        assume(math.log(high / low) > 1e-7)
        return Float(low, high, log=True, fidelity=fidelity)
    if kind == "int":
        low = draw(st.integers(-(2**40), 2**40))
        return Int(low, low + draw(st.integers(1, 2**40)), fidelity=fidelity)
    if kind == "logint":
        low = draw(st.integers(1, 1000))
        return Int(low, low + draw(st.integers(1, 10**6)), log=True, fidelity=fidelity)
    return Choice(draw(options), ordered=kind == "ordered")


def is_fidelity(parameter: Parameter) -> bool:
    return not isinstance(parameter, Choice) and parameter.fidelity


spaces = (
    st.lists(parameters(), min_size=1, max_size=5)
    .filter(lambda parts: not all(map(is_fidelity, parts)))
    .map(lambda parts: Space({f"p{i}": part for i, part in enumerate(parts)}))
)


@settings(deadline=None, max_examples=60)
@given(spaces, st.integers(0, 2**32))
def test_round_trip_is_exact_on_random_points_of_random_spaces(space: Space, seed: int) -> None:
    uniform = torch.rand(200, space.dim, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
    points = space.decode(space.encoding.sample_from_unit(uniform))
    rows = space.encode(points)
    assert bool(((rows >= 0) & (rows <= 1)).all())
    assert space.decode(rows) == points
    assert torch.equal(space.encode(space.decode(rows)), rows)
    for point in points[:20]:
        assert space.check(point) == point


@settings(deadline=None, max_examples=50)
@given(spaces)
def test_json_form_round_trips_and_keeps_the_fingerprint(space: Space) -> None:
    again = Space.from_dict(json.loads(json.dumps(space.to_dict(), allow_nan=False)))
    assert again == space
    assert again.fingerprint == space.fingerprint


@settings(deadline=None, max_examples=100)
@given(spaces, st.integers(0, 2**32))
def test_columns_are_told_apart_and_the_target_is_encoded_as_one(space: Space, seed: int) -> None:
    parts = [parameter for _, parameter in space]
    assert space.fidelities == tuple(column for column, part in enumerate(parts) if is_fidelity(part))
    assert all(space.levels[column] is not None for column in space.unordered)
    uniform = torch.rand(20, space.dim, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
    points = space.decode(space.encoding.sample_from_unit(uniform))
    moved = [space.at_target(point) for point in points]
    assert [space.check(point) for point in moved] == moved
    assert [list(point) for point in moved] == [list(space.parameters)] * 20
    expected = space.encode(points)
    expected[:, list(space.fidelities)] = 1.0
    assert torch.equal(space.encode(moved), expected)


def test_spaces_without_fidelities_keep_their_fingerprints() -> None:
    assert Space({"x": Float(0, 1)}).fingerprint == "29e76c69dfee2c91"
    space = Space(
        {
            "x": Float(-2, 2),
            "y": Float(1e-3, 1e3, log=True),
            "n": Int(1, 5),
            "m": Int(1, 1024, log=True),
            "k": Choice(["a", "b"]),
        }
    )
    assert space.fingerprint == "10e9f32073395621"
    assert not any("fidelity" in form for form in space.to_dict().values())


def test_ends_are_reached_exactly() -> None:
    space = Space(
        {"a": Float(0.1, 0.7), "b": Float(1e-5, 1e-1, log=True), "c": Int(1, 12), "d": Choice(["x", "y"])}
    )
    assert space.decode(torch.zeros(1, 4, dtype=torch.float64)) == [{"a": 0.1, "b": 1e-5, "c": 1, "d": "x"}]
    assert space.decode(torch.ones(1, 4, dtype=torch.float64)) == [{"a": 0.7, "b": 1e-1, "c": 12, "d": "y"}]


def test_every_level_of_a_discrete_parameter_is_equally_likely() -> None:
    uniform = torch.rand(60_000, 2, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    space = Space({"n": Int(3, 8), "k": Choice(list("abcdef"))})
    for point_values in zip(
        *[p.values() for p in space.decode(space.encoding.sample_from_unit(uniform))], strict=True
    ):
        _, counts = np.unique(np.array(point_values), return_counts=True)
        assert len(counts) == 6
        assert abs(counts / 10_000 - 1).max() < 0.05


def test_a_log_int_gives_each_octave_the_same_mass() -> None:
    parameter = Int(1, 1023, log=True)
    levels = parameter.quantile(np.random.default_rng(0).random(100_000)) + 1
    counts = np.histogram(levels, bins=[2**k for k in range(11)])[0]
    assert abs(counts / 10_000 - 1).max() < 0.05


def test_encoding_is_increasing_and_spans_the_unit_interval() -> None:
    for parameter in (Int(2, 50), Int(2, 50, log=True), Choice([1, 5, 10], ordered=True)):
        rows = parameter.position(np.arange(parameter.levels))
        assert rows[0] == 0
        assert rows[-1] == pytest.approx(1)
        assert (np.diff(rows) > 0).all()


def test_snap_and_spread_give_representable_rows() -> None:
    space = Space({"x": Float(0, 1), "n": Int(1, 9, log=True), "k": Choice(["a", "b", "c"])})
    rows = torch.rand(2, 30, 3, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    for moved in (space.encoding.round_to_levels(rows), space.encoding.sample_from_unit(rows)):
        exact = space.encode(space.decode(moved.reshape(-1, 3))).reshape(moved.shape)
        assert_close(moved[..., 1:], exact[..., 1:], rtol=0.0, atol=0.0)


@st.composite
def intervals(draw: st.DrawFn) -> Float:
    """Of all sizes and places, also such as 12345.6 to 12345.7 and -1e15 to 3e15."""
    width = draw(st.floats(0.1, 1.0)) * 10.0 ** draw(st.integers(-30, 30))
    low = draw(st.floats(-1.0, 1.0)) * width * 10.0 ** draw(st.integers(0, 8))
    return Float(low, low + width)


wide = st.lists(st.one_of(parameters(), intervals()), min_size=1, max_size=5).filter(
    lambda parts: not all(map(is_fidelity, parts))
)


def near_ends(seed: int, dim: int) -> torch.Tensor:
    """Rows in general places, at the ends, and a little inside and outside of them."""
    uniform = torch.rand(60, dim, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
    ends = torch.tensor([0.0, 1.0, 1e-13, 1.0 - 1e-13, 1e-11, 3e-12, 0.5], dtype=torch.float64)
    return torch.cat((uniform, ends[:, None].expand(-1, dim)))


def grid(parameter: Parameter) -> float:
    """Distance of neighbours that whole tensors are rounded to; 0 where each value is on its own."""
    if not isinstance(parameter, Float) or parameter.power is None:
        return 0.0
    spacing = float(np.spacing(max(abs(parameter.low), abs(parameter.high))))
    return (1.0 / parameter.power + spacing) / (parameter.high - parameter.low)


@settings(deadline=None, max_examples=100)
@given(wide, st.integers(0, 2**32))
def test_representable_rows_are_those_that_points_encode_to(parts: list[Parameter], seed: int) -> None:
    space = Space({f"p{i}": part for i, part in enumerate(parts)})
    rows = near_ends(seed, space.dim)
    found, expected = space.encoding.project(rows), space.encode(space.decode(rows))
    assert torch.equal(space.encoding.project(found), found)
    assert torch.equal(space.encode(space.decode(found)), found)
    # where a row is halfway between two, as far as rounding errors tell, it may go to either
    steps = torch.tensor([grid(part) for part in parts], dtype=torch.float64)
    assert bool(((found == expected) | ((found - expected).abs() <= 1.01 * steps)).all())
    assert bool(((found == expected) | ((found - rows).abs() <= 0.8 * steps)).all())
    lead = rows[:66].reshape(2, 3, 11, space.dim)
    assert torch.equal(space.encoding.project(lead).reshape(66, -1), found[:66])
    assert space.encoding.project(rows.float()).dtype == torch.float32


def test_representable_rows_are_to_the_last_bit_those_of_the_points_in_ordinary_ranges() -> None:
    space = Space(
        {
            "a": Float(0, 1),
            "b": Float(-5, 10),
            "c": Float(-600, 900),
            "d": Float(1e-6, 1e2, log=True),
            "e": Float(1e-9, 3e-9),
            "f": Float(-3e14, 1e15),
            "n": Int(1, 9, log=True),
            "k": Choice(["a", "b", "c"]),
        }
    )
    rows = torch.rand(20_000, space.dim, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    assert torch.equal(space.encoding.project(rows), space.encode(space.decode(rows)))
    floats = Space({name: parameter for name, parameter in space if isinstance(parameter, Float)})
    decoded = [list(point.values()) for point in floats.decode(rows[:, : floats.dim])]
    assert floats.encoding.values(rows[:, : floats.dim]).tolist() == decoded


@settings(deadline=None, max_examples=60)
@given(st.lists(intervals(), min_size=1, max_size=4), st.booleans(), st.integers(0, 2**32))
def test_values_are_what_representable_rows_decode_to(parts: list[Float], log: bool, seed: int) -> None:
    space = Space({f"p{i}": part for i, part in enumerate([*parts, Float(1e-3, 7.0, log=log)])})
    rows = near_ends(seed, space.dim)
    exact = space.encoding.project(rows)
    assert space.encoding.values(exact).tolist() == [list(point.values()) for point in space.decode(exact)]
    decoded = torch.tensor([list(point.values()) for point in space.decode(rows)], dtype=torch.float64)
    steps = torch.tensor([grid(part) * (part.high - part.low) for _, part in space], dtype=torch.float64)
    assert bool(((space.encoding.values(rows) - decoded).abs() <= 1.01 * steps).all())
    assert torch.equal(
        space.encoding.values(rows[:66].reshape(6, 11, -1)).reshape(66, -1), space.encoding.values(rows[:66])
    )


def test_values_need_a_space_of_floats() -> None:
    space = Space({"x": Float(0, 1), "n": Int(1, 3)})
    with pytest.raises(SpaceError, match="only a space of Floats has values as a tensor, got 'n'"):
        space.encoding.values(torch.zeros(1, 2, dtype=torch.float64))


def test_cardinality_counts_points() -> None:
    assert Space({"n": Int(1, 3), "k": Choice(["a", "b"])}).cardinality == 6
    assert Space({"x": Float(0, 1), "k": Choice(["a", "b"])}).cardinality is None


BAD = [
    (lambda: Float(2, 1), "`low <= high` must hold, got low=2, high=1"),
    (lambda: Float(0, 1, log=True), "`low > 0` must hold on a log scale, got low=0"),
    (lambda: Float(-math.inf, 1), "low must be a finite number, got -inf"),
    (lambda: Float(0, math.nan), "high must be a finite number, got nan"),
    (lambda: Float(-1.7e308, 1.7e308), "`high - low` must be a finite number"),
    (lambda: Float("0", 1), "low must be a finite number, got '0'"),
    (lambda: Int(0, 10, log=True), "`low > 0` must hold on a log scale"),
    (lambda: Int(1.5, 3), "low of an Int must be an integer, got 1.5"),
    (lambda: Int(0, 2**60), "`|high| <= 2**53` must hold for an Int"),
    (lambda: Int(1, 2**50, log=True), "an Int on a log scale has at most 10**12 values"),
    (lambda: Float(1, 1 + 1e-12, log=True), "must differ by more than rounding"),
    (lambda: Float(0, 10**400), "high must be a finite number"),
    (lambda: Choice([]), "at least one option, got none"),
    (lambda: Choice(["a", "b", "a"]), "must differ, got 'a' twice"),
    (lambda: Choice([1, True]), "must differ, got True twice"),
    (lambda: Choice("abc"), "must be a list, got 'abc'"),
    (lambda: Choice([object]), "must be a string, a finite number, a bool or None"),
    (lambda: Choice([math.nan]), "must be a string, a finite number"),
    (lambda: Float(0, 1, fidelity="no"), "fidelity must be True or False, got 'no'"),
    (lambda: Int(0, 1, fidelity=1), "fidelity must be True or False, got 1"),
    (lambda: Space({"s": Float(0, 1, fidelity=True)}), "a parameter that is no fidelity, got ['s'] alone"),
    (
        lambda: Space.from_dict({"k": {"type": "choice", "options": ["a"], "fidelity": True}}),
        "'k' of type 'choice' has wrong fields",
    ),
    (lambda: Space({}), "at least one parameter"),
    (lambda: Space([1]), "at least one parameter"),
    (lambda: Space({"": Int(1, 2)}), "non-empty string"),
    (lambda: Space({"a": (0, 1)}), "must be a Float, Int or Choice"),
    (lambda: Space.from_dict({"a": {"type": "real"}}), "the type of 'a' must be one of"),
    (lambda: Space.from_dict({"a": {"type": "float", "lo": 1}}), "'a' of type 'float' has wrong fields"),
    (lambda: Space.from_dict({"a": {"type": "int", "low": 3, "high": 1}}), "parameter 'a': `low <= high`"),
    (lambda: Space.from_dict({"a": 3}), "must be a table with a `type`"),
    (lambda: Space.from_dict([]), "must be a table of parameters"),
]


@pytest.mark.parametrize(("make", "message"), BAD, ids=[message for _, message in BAD])
def test_a_bad_space_is_refused_with_the_law_and_the_values(make: object, message: str) -> None:
    with pytest.raises(SpaceError) as caught:
        make()
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)


SPACE = Space({"x": Float(0, 1), "n": Int(1, 3), "k": Choice(["a", "b"])})
POINTS = [
    ({"x": 0.5, "n": 1}, "missing ['k']"),
    ({"x": 0.5, "n": 1, "k": "a", "z": 0}, "unknown ['z']"),
    ({"x": 1.5, "n": 1, "k": "a"}, "parameter 'x': `0.0 <= value <= 1.0` must hold, got 1.5"),
    ({"x": 0.5, "n": 2.5, "k": "a"}, "parameter 'n': an Int must be an integer, got 2.5"),
    ({"x": 0.5, "n": 9, "k": "a"}, "parameter 'n': `1 <= value <= 3` must hold, got 9"),
    ({"x": 0.5, "n": 1, "k": "c"}, "parameter 'k': the value must be one of ['a', 'b'], got 'c'"),
    ({"x": math.nan, "n": 1, "k": "a"}, "parameter 'x': a Float must be a finite number, got nan"),
    (3, "must be a dict"),
]


@pytest.mark.parametrize(("point", "message"), POINTS, ids=[message for _, message in POINTS])
def test_a_bad_point_is_refused(point: object, message: str) -> None:
    with pytest.raises(SpaceError) as caught:
        SPACE.check(point)
    assert message in str(caught.value)


def test_a_good_point_becomes_canonical() -> None:
    point = SPACE.check({"k": "b", "n": np.int64(2), "x": np.float32(0.5)})
    assert list(point.items()) == [("x", 0.5), ("n", 2), ("k", "b")]
    assert type(point["n"]) is int
    assert type(point["x"]) is float


def test_toml_and_json_files(tmp_path: Path) -> None:
    toml = tmp_path / "space.toml"
    toml.write_text(
        '[x]\ntype = "float"\nlow = 0.0\nhigh = 1.0\n[k]\ntype = "choice"\noptions = ["a", "b"]\n'
        '[epochs]\ntype = "int"\nlow = 1\nhigh = 81\nfidelity = true\n'
    )
    as_json = tmp_path / "space.json"
    space = Space.from_file(toml)
    as_json.write_text(json.dumps(space.to_dict()))
    expected = Space({"x": Float(0, 1), "k": Choice(["a", "b"]), "epochs": Int(1, 81, fidelity=True)})
    assert Space.from_file(as_json) == space == expected
    assert space != Space({**expected.parameters, "epochs": Int(1, 81)})
    for name, text, message in (
        ("bad.toml", "x = [", "cannot be read"),
        ("bad.json", "{", "cannot be read"),
        ("bad.yaml", "", "must end in .toml or .json"),
    ):
        (tmp_path / name).write_text(text)
        with pytest.raises(SpaceError, match=message):
            Space.from_file(tmp_path / name)
    with pytest.raises(SpaceError, match="cannot be read"):
        Space.from_file(tmp_path / "none.toml")


def nested_dict(depth: int) -> dict[str, Any]:
    form: dict[str, Any] = {}
    for _ in range(depth):
        form = {"a": form}
    return form


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("deep.json", b"[" * 100_000, "cannot be read"),
        ("deep.json", b'{"x":' * 100_000, "cannot be read"),
        ("deep.toml", b"x = " + b"[" * 100_000, "cannot be read"),
        ("dots.toml", b"[" + b"a." * 100_000 + b"b]", "nested too deeply"),
        ("dots.toml", b"x = {" + b'a . "b" .' * 100_000 + b"b = 1}", "nested too deeply"),
        ("dots.toml", (b"a" * 70 + b".") * 20_000 + b"b = 1", "nested too deeply"),
        ("dots.toml", b'"\\"".' * 20_000 + b"b = 1", "nested too deeply"),
        ("dots.toml", b'x = """ " \' """\ny = {' + b"'b' . " * 20_000 + b"b = 1}", "nested too deeply"),
        ("bytes.json", b'\xff\xfe{"x"', "cannot be read"),
        ("bytes.toml", b"\x80 = 1", "cannot be read"),
        ("digits.json", b'{"x": {"type": "int", "low": 0, "high": ' + b"9" * 5000 + b"}}", "cannot be read"),
        ("large.json", b" " * 10_000_001, "at most 10000000 bytes"),
        ("kind.json", b'{"x": {"type": ["float"], "low": 0, "high": 1}}', "type of 'x' must be one of"),
        (
            "log.json",
            b'{"x": {"type": "float", "low": 1, "high": 2, "log": "yes"}}',
            "'x': log must be True or False",
        ),
        (
            "order.json",
            b'{"x": {"type": "choice", "options": [1, 2], "ordered": 2}}',
            "'x': ordered must be True or False",
        ),
        ("list.json", b"[1, 2]", "must be a table of parameters"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_a_file_that_is_no_space_is_an_error(tmp_path: Path, name: str, content: bytes, message: str) -> None:
    (tmp_path / name).write_bytes(content)
    with pytest.raises(SpaceError, match=message):
        Space.from_file(tmp_path / name)


def test_a_file_without_an_end_or_with_an_impossible_name_is_an_error(tmp_path: Path) -> None:
    (tmp_path / "folder.json").mkdir()
    with pytest.raises(SpaceError, match="must be a regular file"):
        Space.from_file(tmp_path / "folder.json")
    with pytest.raises(SpaceError, match="cannot be read: embedded null"):
        Space.from_file(tmp_path / "a\0b.json")
    with pytest.raises(SpaceError, match=r"must end in \.toml or \.json, got 'zero'"):
        Space.from_file("/dev/zero")
    if Path("/dev/zero").exists():
        (tmp_path / "zero.json").symlink_to("/dev/zero")
        with pytest.raises(SpaceError, match="must be a regular file"):
            Space.from_file(tmp_path / "zero.json")


@pytest.mark.parametrize(
    "form",
    [
        nested_dict(100_000),
        {"x": nested_dict(100_000)},
        {"x": {"type": "choice", "options": [nested_dict(100_000)]}},
    ],
    ids=["space", "parameter", "option"],
)
def test_a_form_that_is_nested_without_end_is_an_error(form: dict[str, Any]) -> None:
    with pytest.raises(SpaceError, match="must be"):
        Space.from_dict(form)
