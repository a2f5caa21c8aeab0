"""Candidates of a space: their rules, their rows and their files; and descriptors of options."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch

from bo_suite import Choice, Float, Int, Space
from bo_suite.data import Dataset, Seeds
from bo_suite.errors import SpaceError
from bo_suite.optim import listed, maximize
from bo_suite.space.candidates import initial_row, is_allowed, mutate, project, sample_random
from bo_suite.space.table_rows import TableRows

PARAMETERS = {"heat": Float(20, 90), "count": Int(1, 5), "solvent": Choice(["a", "b", "c"])}
TABLE = pd.DataFrame(
    {
        "polarity": [1.0, 2.0, 4.0, 1.0, 2.0],
        "solvent": ["a", "b", "c", "a", "b"],
        "heat": [30.0, 0.1 + 40.2, 50.0, 90.0, 0.1 + 40.2],
        "count": [1, 2, 3, 4, 2],
    }
)
PLAIN = TABLE.drop(columns="polarity")
DESCRIBED = PARAMETERS | {"solvent": Choice(["a", "b", "c"], descriptors=["polarity"])}


def test_points_are_the_rows_of_the_table_exactly_as_given() -> None:
    space = Space(PARAMETERS, candidates=PLAIN)
    assert space.candidates is not None
    points = [{name: row[name] for name in PARAMETERS} for row in PLAIN.drop_duplicates().to_dict("records")]
    assert list(space.candidates) == points  # a row that occurs twice counts once
    assert space.cardinality == 4
    assert space.decode(space.encode(points)) == points  # 40.300000000000004 is not rounded
    assert all(space.contains(point) for point in points)
    with pytest.raises(SpaceError, match=r"must be one of the 4 candidates, exactly as given, got .*31"):
        space.check({"heat": 31.0, "count": 1, "solvent": "a"})
    assert space.unlisted.contains({"heat": 31.0, "count": 1, "solvent": "a"})
    assert repr(space).endswith("}, candidates=<4 rows>)")
    assert ("candidates", "4 rows") in [(name, text.strip("<>")) for name, text in space.constraints.rows]


@pytest.mark.parametrize("form", [PLAIN.to_dict("list"), {name: PLAIN[name].to_numpy() for name in PLAIN}])
def test_a_dict_of_columns_is_a_table_too(form: Any) -> None:
    assert Space(PARAMETERS, candidates=form) == Space(PARAMETERS, candidates=PLAIN)


def test_the_fingerprint_is_that_of_the_values() -> None:
    space, other = Space(PARAMETERS, candidates=PLAIN), PLAIN.assign(heat=[30.0, 40.3, 50.0, 90.0, 40.3])
    assert space == Space(PARAMETERS, candidates=PLAIN)
    assert space != Space(PARAMETERS, candidates=other)
    assert space != Space(PARAMETERS)
    assert space.unlisted == Space(PARAMETERS)


@pytest.mark.parametrize("suffix", ["json", "toml"])
def test_a_file_holds_the_table(tmp_path: Path, suffix: str) -> None:
    space = Space(DESCRIBED, ["heat <= 80"], TABLE)
    assert Space.from_dict(json.loads(json.dumps(space.to_dict()))) == space
    path = tmp_path / f"space.{suffix}"
    if suffix == "json":
        path.write_text(json.dumps(space.to_dict()))
    else:
        path.write_text(
            'constraints = ["heat <= 80"]\n[candidates]\nheat = [30, 40.300000000000004, 50, 90]\n'
            'count = [1, 2, 3, 4]\nsolvent = ["a", "b", "c", "a"]\npolarity = [1, 2, 4, 1]\n'
            '[heat]\ntype = "float"\nlow = 20\nhigh = 90\n[count]\ntype = "int"\nlow = 1\nhigh = 5\n'
            '[solvent]\ntype = "choice"\noptions = ["a", "b", "c"]\ndescriptors = ["polarity"]\n'
        )
    assert Space.from_file(path) == space


def test_a_parameter_may_have_the_name_candidates_without_a_table() -> None:
    space = Space({"candidates": Int(1, 3)})
    assert Space.from_dict(space.to_dict()) == space
    with pytest.raises(SpaceError, match="must not have the name 'candidates'"):
        Space({"candidates": Int(1, 3)}, candidates={"candidates": [1]})


def test_candidates_that_break_a_constraint_are_left_out() -> None:
    space = Space(PARAMETERS, ["heat <= 80", lambda params: params["solvent"] != "c"], PLAIN)
    assert space.candidates is not None
    assert [point["heat"] for point in space.candidates] == [30.0, 40.300000000000004]
    with pytest.raises(SpaceError, match="a candidate must meet all constraints, got 4 that each break one"):
        Space(PARAMETERS, ["heat + count <= 22"], PLAIN)


@pytest.mark.parametrize(
    ("candidates", "message"),
    [
        (PLAIN.drop(columns="heat"), r"a column for each parameter, missing \['heat'\]"),
        (PLAIN.assign(result=1.0), r"got \['result'\]; leave them out, or name them in the `descriptors`"),
        (PLAIN.assign(heat=[30, 40, 50, 95, 40]), "'heat' in candidates .* row 3: `20.0 <= value <= 90.0`"),
        (PLAIN.assign(heat=[30, np.nan, 50, 60, 40]), "'heat' in candidates .* row 1: .* finite number"),
        (PLAIN.assign(solvent=["a", "b", "x", "a", "b"]), "row 2: the value must be one of .* got 'x'"),
        (PLAIN.assign(count=[1, 2, 3.5, 4, 2]), "row 2: an Int must be an integer"),
        (PLAIN.assign(solvent=[["a"], "b", "c", "a", "b"]), "'solvent' in candidates .* row 0"),
        (PLAIN[:0], "at least one row, got none"),
        ({"heat": [30.0], "count": [1, 2], "solvent": ["a"]}, "equal length, got lengths .*'count': 2"),
        ([PLAIN], "must be a DataFrame or a dict of columns"),
        ({"heat": 30.0, "count": [1], "solvent": ["a"]}, r"columns of equal length, got \{'heat': 30.0"),
        ({"heat": [30.0], "count": [1], "solvent": "a"}, "columns of equal length, got .*'solvent': 'a'"),
        ({"heat": [30.0, 40.0], "count": [1, True], "solvent": ["a", "b"]}, "row 1: .* got True"),
        (PLAIN.rename(columns={"heat": 1}), "whose names are strings and differ"),
        (pd.concat([PLAIN, PLAIN[["heat"]]], axis=1), "whose names are strings and differ"),
    ],
)
def test_wrong_candidates_are_refused_in_a_sentence(candidates: Any, message: str) -> None:
    with pytest.raises(SpaceError, match=message) as raised:
        Space(PARAMETERS, candidates=candidates)
    assert "\n" not in str(raised.value)


@pytest.mark.parametrize(
    ("more", "kind"),
    [(Int(1, 3, fidelity=True), "fidelity"), (Int(1, 3, when={"solvent": "a"}), "conditional parameter")],
)
def test_fidelities_and_conditions_are_refused(more: Int, kind: str) -> None:
    with pytest.raises(SpaceError, match=f"a space with candidates must have no {kind}, got 'more'"):
        Space(PARAMETERS | {"more": more}, candidates=PLAIN.assign(more=1))


def test_descriptors_are_given_for_each_option_or_taken_from_the_candidates() -> None:
    by_option = {"polarity": {"c": 4.0, "a": 1.0, "b": 2.0}}
    stated = [
        {"polarity": [1, 2, 4]},
        by_option,
        pd.DataFrame(by_option),
        {"polarity": pd.Series(by_option["polarity"])},
    ]
    choices = [Choice(["a", "b", "c"], descriptors=one) for one in stated]
    assert all(choice == choices[0] for choice in choices)
    space = Space(DESCRIBED, candidates=TABLE)
    assert space["solvent"] == choices[0]
    assert space.columns.descriptors == ((2, 3, ((0.0,), (1 / 3,), (1.0,))),)
    assert Space(space.parameters, candidates=TABLE) == space
    assert Space.from_dict(space.unlisted.to_dict()) == Space(PARAMETERS | {"solvent": choices[0]})


@pytest.mark.parametrize(
    ("descriptors", "message"),
    [
        ({"polarity": [1.0, 2.0]}, "'polarity' must have a number for each of"),
        ({"polarity": {"a": 1.0, "b": 2.0}}, r"got none for \['c'\]"),
        ({"polarity": [1.0, 2.0, np.nan]}, "'polarity' must be a finite number"),
        ({"polarity": "abc"}, "'polarity' must have a number for each of"),
        ({"polarity": [1.0, 2.0, 1.0]}, "must differ in a descriptor, got equal ones for 'a' and 'c'"),
        (pd.DataFrame({"polarity": [1.0, 2.0, 4.0]}), r"none for \['a', 'b', 'c'\] but for \[0, 1, 2\]"),
        (
            pd.DataFrame({"polarity": [1.0, 2.0, 4.0, 9.0]}, index=[*"abca"]),
            "must have each option once, got",
        ),
        (7, "descriptors must be a dict or DataFrame"),
    ],
)
def test_wrong_descriptors_are_refused(descriptors: Any, message: str) -> None:
    with pytest.raises(SpaceError, match=message):
        Choice(["a", "b", "c"], descriptors=descriptors)


def test_descriptors_that_cannot_be_are_refused() -> None:
    numbers = {"polarity": [1.0, 2.0, 4.0]}
    with pytest.raises(SpaceError, match="unordered and always active, got one that is ordered"):
        Choice(["a", "b", "c"], ordered=True, descriptors=numbers)
    with pytest.raises(SpaceError, match="a condition must not be on a Choice with descriptors"):
        Space({"s": Choice(["a", "b", "c"], descriptors=numbers), "x": Float(0, 1, when={"s": "a"})})
    with pytest.raises(SpaceError, match="need a space with candidates"):
        Space(DESCRIBED)
    with pytest.raises(SpaceError, match="must be columns of the candidates, got 'polarity'"):
        Space(DESCRIBED, candidates=PLAIN)
    with pytest.raises(SpaceError, match=r"got 'polarity' with 1.0 and 3.0 for 'a'"):
        Space(DESCRIBED, candidates=TABLE.assign(polarity=[1.0, 2.0, 4.0, 3.0, 2.0]))
    with pytest.raises(SpaceError, match="'polarity' of 'b' must be a finite number, got nan"):
        Space(DESCRIBED, candidates=TABLE.assign(polarity=[1.0, np.nan, 4.0, 1.0, np.nan]))
    with pytest.raises(SpaceError, match=r"'solvent' in candidates must be options, got \['a'\]"):
        Space(DESCRIBED, candidates=TABLE.assign(solvent=[["a"], "b", "c", "a", "b"]))
    with pytest.raises(SpaceError, match=r"in a candidate, or have descriptors .* without \['c'\]"):
        Space(DESCRIBED, candidates=TABLE[TABLE["solvent"] != "c"])


def test_descriptors_of_any_size_are_scaled() -> None:
    choice = Choice(["a", "b", "c"], descriptors={"huge": [1e308, -1e308, 0.0], "large": [1e9, 1e9 + 1, 2e9]})
    ((_, _, numbers),) = Space({"s": choice, "x": Float(0, 1)}).columns.descriptors
    assert numbers == ((1.0, 0.0), (0.0, 1e-9), (0.5, 1.0))


def test_options_that_are_left_out_keep_their_descriptors() -> None:
    before = Choice(["a", "b", "c"], descriptors={"p": [1.0, 2.0, 4.0]})
    once = Choice(["c", "d"], descriptors={"p": [4.0, 9.0]}).with_past(before)
    assert dict(once.retired).keys() == {"a", "b"}
    assert once.descriptors == {"p": (4.0, 9.0, 1.0, 2.0)}
    twice = Choice(["e", "a"], descriptors={"p": [7.0, 1.0]}).with_past(once)
    assert dict(zip((*twice.options, *dict(twice.retired)), twice.descriptors["p"], strict=True)) == dict(
        zip("eacdb", (7.0, 1.0, 4.0, 9.0, 2.0), strict=True)
    )
    assert twice.with_past(once) == twice
    assert twice.current == Choice(["e", "a"], descriptors={"p": [7.0, 1.0]})
    columns = Space({"s": twice, "x": Float(0, 1)}).columns
    ((_, levels, numbers),) = columns.descriptors
    places = [round(twice.encode(option) * (levels - 1)) for option in "eacdb"]
    assert [numbers[place][0] * 8.0 + 1.0 for place in places] == pytest.approx([7.0, 1.0, 4.0, 9.0, 2.0])
    with pytest.raises(SpaceError, match=r"descriptors of options must stay \['p'\], got \[\]"):
        Choice(["a", "b", "c"]).with_past(before)


def large_space(count: int) -> Space:
    draws = np.random.default_rng(0).random((count, 3))
    names = ("x", "y", "z")
    return Space({name: Float(0, 1) for name in names}, candidates=dict(zip(names, draws.T, strict=True)))


def test_rows_are_projected_sampled_and_moved_to_candidates() -> None:
    space = large_space(50)
    region, like = space.region, torch.zeros(0, 3, dtype=torch.float64)
    assert isinstance(region, TableRows)
    rows = sample_random(space, 20, like, Seeds.of(0, 0))
    assert bool(is_allowed(space, rows).all())
    points = torch.rand(9, 3, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    nearest = torch.cdist(points, region.listed).argmin(-1)
    assert torch.equal(project(space, points), region.listed[nearest])
    assert not bool(is_allowed(space, points).any())
    moved = torch.stack([mutate(space, rows, Seeds.of(turn, 0)) for turn in range(9)])
    assert bool(is_allowed(space, moved).all())
    assert bool((moved != rows).any())
    first = initial_row(space, 0, 0)
    assert bool(is_allowed(space, first))
    assert float((first - 0.5).abs().max()) < 0.35
    held = region.settled(points, rows[:9], (1,))
    assert torch.equal(held, rows[:9])


@pytest.mark.parametrize("replicates", [(), (2,)])
def test_the_best_candidate_that_is_not_taken_is_found(
    replicates: tuple[int, ...], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of all candidates and, if they are too many, near the best of a sample."""
    space = large_space(3000)
    region = space.region
    assert isinstance(region, TableRows)
    target = torch.tensor([0.2, 0.7, 0.4], dtype=torch.float64)
    order = (region.listed - target).square().sum(-1).argsort()
    taken = region.listed[order[:3]].expand(*replicates, -1, -1)
    data = Dataset(taken, torch.zeros(*replicates, 3, dtype=torch.float64), columns=space.columns)
    seeds = Seeds.of_each([0, 1], 0) if replicates else Seeds.of(0, 0)
    for most in (listed._WHOLE, 600):
        monkeypatch.setattr(listed, "_WHOLE", most)
        best = maximize.maximize(lambda x: -(x - target).square().sum(-1), space, data, seeds)
        assert torch.equal(best, region.listed[order[3]].expand_as(best))
    scored: list[int] = []

    def constant(x: torch.Tensor) -> torch.Tensor:
        scored.append(x.shape[-2])
        return x[..., 0] * 0.0

    chosen = (
        [maximize.maximize(constant, space, data, Seeds.of(0, turn)) for turn in range(3)]
        if not replicates
        else []
    )
    assert len({tuple(one.tolist()) for one in chosen}) == len(chosen)  # equal scores: a random one
    assert sum(scored) < 3 * 3000
