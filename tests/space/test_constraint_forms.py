"""Files, functions and mixtures of spaces with constraints."""

import json
import math
from pathlib import Path
from typing import Any

import pytest
from constrained_cases import SPACES, UNIT, in_a_disc, like, rare

from bo_suite import Float, Mixture, Space
from bo_suite.data import Seeds
from bo_suite.errors import SpaceError
from bo_suite.space.candidates import project, sample_sobol

# Files.


@pytest.mark.parametrize("name", SPACES)
def test_a_space_is_read_as_it_was_written(name: str) -> None:
    space = SPACES[name]
    again = Space.from_dict(json.loads(json.dumps(space.to_dict())))
    assert again == space
    assert again.fingerprint == space.fingerprint
    assert again.constraints.form == space.constraints.form
    assert Space(space.parameters) != space
    assert repr(again) == repr(space)
    assert "constraints=[" in repr(space)


def test_a_space_in_toml_has_its_constraints_first(tmp_path: Path) -> None:
    file = tmp_path / "space.toml"
    number = 'type = "float"\nlow = 0.0\nhigh = 1.0\n'
    file.write_text(f'constraints = ["a + b <= 1"]\n[a]\n{number}[b]\n{number}')
    assert Space.from_file(file) == Space({"a": UNIT, "b": UNIT}, ["a + b <= 1"])
    file.write_text(f"[constraints]\n{number}[b]\n{number}")
    assert Space.from_file(file) == Space({"constraints": UNIT, "b": UNIT})
    with pytest.raises(SpaceError, match="must not have the name 'constraints'"):
        Space({"constraints": UNIT, "b": UNIT}, ["b <= 0.5"])
    for wrong in ("constraints = []", "constraints = [3]", 'constraints = [{ f = "x" }]'):
        file.write_text(f"{wrong}\n[a]\n{number}")
        with pytest.raises(SpaceError, match="`constraints` in a file must be texts, or tables"):
            Space.from_file(file)


def test_a_space_without_constraints_has_the_form_that_it_had() -> None:
    space = Space({"x": UNIT})
    assert space.to_dict() == {"x": {"type": "float", "low": 0.0, "high": 1.0, "log": False}}
    assert Space({"x": UNIT}, []) == space == Space({"x": UNIT}, ())
    assert space.region is None
    assert len(space.constraints) == 0


def test_functions_of_a_file_have_to_be_given_again() -> None:
    space = Space.from_dict(SPACES["a function"].to_dict())
    assert space.constraints.missing == ("in_a_disc",)
    assert space.check({"x": 1.0, "y": 0.0})  # a stored point was checked when it was stored
    with pytest.raises(
        SpaceError, match=r"given again, as in Optimizer.resume\(path, functions=\[in_a_disc\]"
    ):
        sample_sobol(space, 4, like(space), Seeds.of(0, 0))
    again = space.with_functions([in_a_disc])
    assert not again.contains({"x": 1.0, "y": 0.0})
    assert again == space
    for wrong in (in_a_disc, "in_a_disc", [rare], ["in_a_disc"]):
        with pytest.raises(SpaceError, match="functions must be a list of the constraint functions"):
            space.with_functions(wrong)  # type: ignore[arg-type]


# Mixtures.


def test_a_mixture_stands_for_its_parameters_and_their_sum() -> None:
    mixture = Mixture(["a", "b", "part c"], total=2.0, bounds={"a": (0.5, 1.5), "b": (0.25, 2.0)})
    assert mixture.text == "a + b + `part c` == 2"
    assert mixture.parameters == {"a": Float(0.5, 1.5), "b": Float(0.25, 1.5), "part c": Float(0.0, 1.25)}
    space = Space({**mixture.parameters, "heat": Float(20, 90)}, [mixture, "a <= b"])
    assert list(space.constraints) == ["a + b + `part c` == 2", "a <= b"]
    rows = sample_sobol(space, 32, like(space), Seeds.of(0, 1))
    for point in space.decode(project(space, rows)):
        assert abs(point["a"] + point["b"] + point["part c"] - 2.0) < 1e-9
        assert point["a"] <= point["b"]
    assert hash(mixture) == hash(Mixture(("a", "b", "part c"), 2.0, {"a": (0.5, 1.5), "b": (0.25, 2.0)}))


def test_a_mixture_of_one_point_and_a_fixed_part_are_allowed() -> None:
    mixture = Mixture(["a", "b"], bounds={"a": (0.3, 0.3)})
    assert mixture.parameters == {"a": Float(0.3, 0.3), "b": Float(0.7, 0.7)}
    space = Space({**mixture.parameters, "x": UNIT}, [mixture]).varying
    assert space.names == ("x",)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"parts": "abc"}, "a Mixture needs a list of at least two names, got 'abc'"),
        ({"parts": ["a"]}, "a Mixture needs a list of at least two names"),
        ({"parts": ["a", 1]}, "a part must have a name without backticks, got 1"),
        ({"parts": ["a", "b`"]}, "a part must have a name without backticks"),
        ({"parts": ["a", "a"]}, "the parts of a Mixture must differ"),
        ({"parts": ["a", "b"], "total": 0.0}, "`total > 0` must hold"),
        ({"parts": ["a", "b"], "total": math.nan}, "total must be a finite number, got nan"),
        ({"parts": ["a", "b"], "bounds": 1}, "the bounds of a Mixture must be"),
        ({"parts": ["a", "b"], "bounds": {"c": (0, 1)}}, "bounds must be of parts among"),
        ({"parts": ["a", "b"], "bounds": {"a": 0.5}}, "bounds of the part 'a' must be"),
        ({"parts": ["a", "b"], "bounds": {"a": (0.5, 0.4)}}, "with 0 <= low <= high <= 1"),
        ({"parts": ["a", "b"], "bounds": {"a": (0.6, 1), "b": (0.6, 1)}}, "sums from 1.2 to 2"),
        ({"parts": ["a", "b"], "bounds": {"a": (0, 0.4), "b": (0, 0.4)}}, "sums from 0 to 0.8"),
    ],
)
def test_a_wrong_mixture_is_refused(arguments: dict[str, Any], message: str) -> None:
    with pytest.raises(SpaceError, match=message):
        Mixture(**arguments)
