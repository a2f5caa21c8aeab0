"""The goals of a run: what states them, what outcomes become, and every sentence about a mistake."""

import json
import logging
import math
import re
from fractions import Fraction
from typing import Any

import numpy as np
import pytest
import torch

from bo_suite.errors import TrialError
from bo_suite.storage.goals import MINIMIZE, Constraint, Goals, Objective

PLAIN = Goals.of("maximize")
LIMITED = Goals.of("minimize", {"memory": (None, 8.0), "works": True})
TWO = Goals.of({"error": "minimize", "speed": "maximize"}, {"memory": (1.0, 8.0)})
SHARED = Goals.of({"error": "minimize", "speed": "maximize"}, {"speed": (2, None)})

PATH = (
    "a rule that follows from the parameters alone belongs to the space, as in "
    "Space(..., constraints=['a + b <= 1'])"
)


def refused(sentence: str, call: Any) -> None:
    with pytest.raises(TrialError) as caught:
        call()
    assert str(caught.value) == sentence


def test_goals_are_what_was_stated() -> None:
    assert Goals.of("minimize") == MINIMIZE
    assert (PLAIN.objectives, PLAIN.constraints, PLAIN.named) == (
        (Objective("value", "maximize"),),
        (),
        False,
    )
    assert Goals.of("minimize", {}) == Goals.of("minimize", None) == MINIMIZE
    assert LIMITED.named
    assert LIMITED.constraints == (
        Constraint("memory", -math.inf, 8.0),
        Constraint("works", 0.5, math.inf, binary=True),
    )
    assert [one.sign for one in TWO.objectives] == [1.0, -1.0]
    assert TWO.names == ("error", "speed", "memory")
    assert SHARED.names == ("error", "speed"), "an objective with an interval has one name"
    assert (TWO.several, LIMITED.several) == (True, False)
    assert Goals.of({"error": "minimize"}).named
    assert TWO.aspects == {"constraints", "objectives"}
    assert (LIMITED.aspects, PLAIN.aspects) == ({"constraints"}, set())


ALL = [
    PLAIN,
    MINIMIZE,
    LIMITED,
    TWO,
    SHARED,
    Goals.of({"error": "maximize"}),
    Goals.of({"value": "minimize"}),
]


@pytest.mark.parametrize("goals", ALL, ids=str)
def test_the_stored_form_states_the_same_goals(goals: Goals) -> None:
    form = json.loads(json.dumps([goals.direction, goals.limits]))
    again = Goals.of(*form)
    assert (again.objectives, again.constraints) == (goals.objectives, goals.constraints)
    assert [again.direction, again.limits] == form


@pytest.mark.parametrize(
    ("goals", "text"),
    [
        (PLAIN, "maximize"),
        (LIMITED, "minimize value, memory <= 8, works is true"),
        (TWO, "minimize error, maximize speed, 1 <= memory <= 8"),
        (SHARED, "minimize error, maximize speed, 2 <= speed"),
    ],
)
def test_goals_as_text(goals: Goals, text: str) -> None:
    assert str(goals) == text


DIRECTION = "direction must be 'minimize' or 'maximize', or a dict of these by name of an objective, got"
INTERVAL = "the constraint on 'm' must be an interval (low, high), with None for an open end"
BY_NAME = "constraints must be intervals of outcomes by name, such as {'memory': (None, 8.0)}, got"


@pytest.mark.parametrize(
    ("direction", "sentence"),
    [
        ("minimise", f"{DIRECTION} 'minimise'"),
        ({}, f"{DIRECTION} {{}}"),
        (None, f"{DIRECTION} None"),
        (["minimize"], f"{DIRECTION} ['minimize']"),
        ({"a": "up"}, "the direction of 'a' must be 'minimize' or 'maximize', got 'up'"),
        ({"a": None}, "the direction of 'a' must be 'minimize' or 'maximize', got None"),
        ({"": "minimize"}, "the name of an outcome must be a non-empty string, got ''"),
        ({3: "minimize"}, "the name of an outcome must be a non-empty string, got 3"),
    ],
)
def test_a_wrong_direction_is_refused(direction: Any, sentence: str) -> None:
    refused(sentence, lambda: Goals.of(direction))


@pytest.mark.parametrize(
    ("constraints", "sentence"),
    [
        (["x + y <= 1"], f"{BY_NAME} ['x + y <= 1']; {PATH}"),
        ({"m": "m <= 8"}, f"{INTERVAL}, got 'm <= 8'; {PATH}"),
        ({"m": (8.0,)}, f"{INTERVAL}, got (8.0,)"),
        ({"m": 8.0}, f"{INTERVAL}, got 8.0"),
        ({"m": False}, f"{INTERVAL}, got False"),
        ({"m": None}, f"{INTERVAL}, got None"),
        ({"m": ("a", 8.0)}, f"{INTERVAL}, got 'a'"),
        ({"m": (math.nan, 8.0)}, f"{INTERVAL}, got nan"),
        ({"m": (True, 8.0)}, f"{INTERVAL}, got True"),
        ({"m": (None, None)}, f"{INTERVAL}, got one without ends, (None, None)"),
        ({"m": (-math.inf, math.inf)}, f"{INTERVAL}, got one without ends, (-inf, inf)"),
        ({"m": (math.inf, None)}, f"{INTERVAL}, got inf"),
        ({"m": (None, -math.inf)}, f"{INTERVAL}, got -inf"),
        ({"m": (8.0, 1.0)}, f"{INTERVAL}, the smaller first, got (8.0, 1.0)"),
        (
            {"m": (2.0, 2.0)},
            f"{INTERVAL}, got (2.0, 2.0): an equality needs a tolerance, such as (2 - 0.01, 2 + 0.01)",
        ),
        ({"": (0.0, 1.0)}, "the name of an outcome must be a non-empty string, got ''"),
        ({None: (0.0, 1.0)}, "the name of an outcome must be a non-empty string, got None"),
    ],
    ids=repr,
)
def test_a_wrong_constraint_is_refused(constraints: Any, sentence: str) -> None:
    refused(sentence, lambda: Goals.of("minimize", constraints))


def test_a_rule_about_parameters_is_sent_elsewhere() -> None:
    with pytest.raises(TrialError, match=re.escape(PATH)):
        Goals.of("minimize", {"m": lambda params: params["x"] < 1})


def test_an_end_may_be_infinite_in_its_own_direction() -> None:
    assert Goals.of("minimize", {"m": (-math.inf, 8)}) == Goals.of("minimize", {"m": (None, 8.0)})
    assert Goals.of("minimize", {"m": [np.float32(0.5), math.inf]}).limits == {"m": [0.5, None]}


@pytest.mark.parametrize(
    ("value", "met"), [(1.0, True), (8.0, True), (0.999, False), (8.001, False), (4.0, True)]
)
def test_an_interval_includes_its_ends(value: float, met: bool) -> None:
    (constraint,) = TWO.constraints
    assert constraint.allows(value) == met
    outcomes = {"error": 0.1, "speed": 2.0, "memory": value}
    assert TWO.is_feasible(outcomes) == met
    assert TWO.violated(outcomes) == (() if met else (constraint,))


def test_what_was_not_measured_is_neither_met_nor_violated() -> None:
    for outcomes in ({"error": 0.1}, {"error": 0.1, "memory": None}):
        assert not TWO.is_feasible(outcomes)
        assert TWO.violated(outcomes) == ()
    assert MINIMIZE.is_feasible({"value": 3.0})
    assert [one.name for one in LIMITED.violated({"memory": 9.0, "works": 0.0})] == ["memory", "works"]
    assert LIMITED.is_feasible({"memory": 8.0, "works": 1.0})


def test_losses_are_smaller_for_better_outcomes() -> None:
    assert TWO.losses({"error": 0.5, "speed": 3.0, "memory": 1.0}) == (0.5, -3.0)
    assert TWO.losses({"error": 0.5}) is None
    assert TWO.losses({"error": 0.5, "speed": None}) is None
    assert PLAIN.losses({"value": 2.0}) == (-2.0,)


def fields(value: Any = None, std: Any = None, outcomes: Any = None, stds: Any = None) -> dict[str, Any]:
    texts = (None if one is None else json.dumps(one) for one in (outcomes, stds))
    return dict(zip(("value", "std", "outcomes", "stds"), (value, std, *texts), strict=True))


@pytest.mark.parametrize(
    ("goals", "told", "std", "expected"),
    [
        (PLAIN, 3, None, fields(3.0)),
        (PLAIN, torch.tensor(0.5), np.float32(0.25), fields(0.5, 0.25)),
        (PLAIN, {"value": -0.0}, {"value": 0}, fields(0.0, 0.0)),
        (LIMITED, 2.0, 0.5, fields(2.0, 0.5, {"value": 2.0}, {"value": 0.5})),
        (
            LIMITED,
            {"works": False, "value": Fraction(1, 2), "memory": None},
            None,
            fields(0.5, None, {"value": 0.5, "works": 0.0}),
        ),
        (
            LIMITED,
            {"value": math.nan, "memory": 3.0},
            {"value": 0.5, "memory": 0.25},
            fields(None, None, {"value": None, "memory": 3.0}, {"memory": 0.25}),
        ),
        (LIMITED, {"memory": 3.0}, 0.5, fields(None, None, {"memory": 3.0})),
        (
            LIMITED,
            {"value": 1.0, "works": np.bool_(True)},
            None,
            fields(1.0, None, {"value": 1.0, "works": 1.0}),
        ),
        (
            LIMITED,
            {"value": 1.0, "works": torch.tensor(False)},
            None,
            fields(1.0, None, {"value": 1.0, "works": 0.0}),
        ),
        (
            TWO,
            {"memory": 2, "speed": 5, "error": np.float64("nan")},
            {"speed": 0.5, "error": None},
            fields(None, None, {"error": None, "speed": 5.0, "memory": 2.0}, {"speed": 0.5}),
        ),
        (SHARED, {"error": 1, "speed": 1e300}, None, fields(None, None, {"error": 1.0, "speed": 1e300})),
    ],
    ids=str,
)
def test_outcomes_as_they_are_stored(goals: Goals, told: Any, std: Any, expected: dict[str, Any]) -> None:
    assert goals.stored(told, std) == expected


def test_a_failed_measurement_is_logged(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.WARNING, logger="bo_suite"):
        TWO.stored({"error": 1.0, "speed": 2.0})
        assert not caplog.records
        TWO.stored({"error": math.nan, "speed": 2.0, "memory": math.nan})
    (record,) = caplog.records
    text = "no number was measured for 'error', 'memory'; the other outcomes are stored"
    assert record.getMessage() == text


FINITE = "the outcome 'error' must be a finite number, or NaN if its measurement failed, got"
LABEL = "the outcome 'works' must be True or False, or NaN if its measurement failed, got"
SEVERAL = "'error', 'speed', 'memory', as there are several objectives"
NONE = "at least one outcome must be a finite number (use fail() if there is none), got"


@pytest.mark.parametrize(
    ("goals", "told", "std", "sentence"),
    [
        (PLAIN, math.inf, None, "a value must be a finite number (use fail() if there is none), got inf"),
        (
            PLAIN,
            {"loss": 1.0},
            None,
            "an outcome must be one of 'value', got 'loss'; name the objective by "
            "direction={'loss': \"minimize\"}",
        ),
        (
            LIMITED,
            {"value": 1.0, "x": 1.0},
            None,
            "an outcome must be one of 'value', 'memory', 'works', got 'x'",
        ),
        (
            TWO,
            {"err": 1.0, 3: 2.0},
            None,
            "an outcome must be one of 'error', 'speed', 'memory', got 'err', 3",
        ),
        (TWO, 1.0, None, f"an outcome must be a dict of {SEVERAL}, got 1.0"),
        (TWO, None, None, f"an outcome must be a dict of {SEVERAL}, got None"),
        (TWO, {"error": math.inf}, None, f"{FINITE} inf"),
        (TWO, {"error": -math.inf}, None, f"{FINITE} -inf"),
        (TWO, {"error": 10**400}, None, f"{FINITE} 1" + "0" * 400),
        (TWO, {"error": "0.5"}, None, f"{FINITE} '0.5': take float(...) of it"),
        (TWO, {"error": [1.0]}, None, f"{FINITE} [1.0]: take its only item"),
        (TWO, {"error": 1j}, None, f"{FINITE} 1j: take its real part or its absolute value"),
        (LIMITED, {"works": 7}, None, f"{LABEL} 7"),
        (LIMITED, {"works": 0.3}, None, f"{LABEL} 0.3"),
        (LIMITED, {"works": math.inf}, None, f"{LABEL} inf"),
        (TWO, {}, None, f"{NONE} {{}}"),
        (TWO, {"error": None}, None, f"{NONE} {{'error': None}}"),
        (TWO, {"error": math.nan, "memory": math.nan}, None, f"{NONE} {{'error': nan, 'memory': nan}}"),
        (TWO, {"error": 1.0}, 0.5, f"std must be a dict of {SEVERAL}, got 0.5"),
        (TWO, {"error": 1.0}, {"err": 1.0}, "std must be one of 'error', 'speed', 'memory', got 'err'"),
        (TWO, {"error": 1.0}, {"error": -1.0}, "a std must be a finite number >= 0, got -1.0"),
        (TWO, {"error": 1.0}, {"error": math.nan}, "a std must be a finite number >= 0, got nan"),
        (PLAIN, 1.0, math.inf, "a std must be a finite number >= 0, got inf"),
    ],
    ids=str,
)
def test_a_wrong_outcome_is_refused(goals: Goals, told: Any, std: Any, sentence: str) -> None:
    with pytest.raises(TrialError) as caught:
        goals.stored(told, std)
    text = str(caught.value)
    assert text == sentence or (len(sentence) > 400 and text.startswith(sentence[:100])), text


def test_a_correction_by_name_leaves_the_other_outcomes() -> None:
    outcomes, stds = {"error": 1.0, "speed": None, "memory": 2.0}, {"error": 0.5, "memory": 0.25}
    assert TWO.amended({"speed": 7.0}, None, outcomes, stds) == fields(
        outcomes={"error": 1.0, "speed": 7.0, "memory": 2.0}, stds=stds
    )
    assert TWO.amended({"error": 3.0}, {"error": 0.0}, outcomes, stds) == fields(
        outcomes={"error": 3.0, "speed": None, "memory": 2.0}, stds={"error": 0.0, "memory": 0.25}
    )
    assert TWO.amended({"memory": math.nan}, None, outcomes, stds) == fields(
        outcomes={"error": 1.0, "speed": None, "memory": None}, stds={"error": 0.5}
    )
    assert TWO.amended({"memory": None}, None, outcomes, stds) == fields(
        outcomes={"error": 1.0, "speed": None}, stds={"error": 0.5}
    )
    refused(
        f"an outcome must be a dict of {SEVERAL}, got 3.0", lambda: TWO.amended(3.0, None, outcomes, stds)
    )
    with pytest.raises(TrialError, match="at least one outcome"):
        TWO.amended(dict.fromkeys(outcomes, math.nan), None, outcomes, stds)


def test_a_number_corrects_the_only_objective() -> None:
    outcomes, stds = {"value": 1.0, "memory": 2.0}, {"memory": 0.25}
    assert LIMITED.amended(3, 0.5, outcomes, stds) == fields(
        3.0, 0.5, {"value": 3.0, "memory": 2.0}, {"value": 0.5, "memory": 0.25}
    )
    assert LIMITED.amended(3, None, {}, {}) == fields(3.0, None, {"value": 3.0})
    assert PLAIN.amended(3, 0.5, {}, {}) == fields(3.0, 0.5)
