"""Problems of several outcomes: their contract, and formulas and bests against independent references."""

import math
import pickle
import zlib
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path

import numpy as np
import pytest
import torch

from bo_suite.bench.merit import merit
from bo_suite.bench.suite import Suite, get_suite, named_problem, problems_of, suites
from bo_suite.errors import DataError, SpaceError
from bo_suite.problems.outcomes import OUTCOME_PROBLEMS, OUTCOME_SUITES, OutcomeProblem
from bo_suite.problems.outcomes.botorch_functions import BoTorchFunction
from bo_suite.problems.outcomes.others import (
    COCO_OPTIMA,
    BocodeConstrained,
    CocoConstrained,
    bocode_constrained,
    coco_constrained,
)
from bo_suite.problems.outcomes.tuning import TUNING_TWO
from bo_suite.problems.tuning import TUNING
from bo_suite.space.parameters import Float
from bo_suite.space.space import Params, Space
from bo_suite.storage.goals import Goals
from bo_suite.testing import check_outcome_problem

FIELD = tuple(OUTCOME_SUITES["constrained-field"])
PLAIN = [name for name in OUTCOME_PROBLEMS if name not in (*FIELD, *TUNING_TWO)]


def halves(params: Params) -> dict[str, float]:
    return {"f": params["x"], "c": params["x"] - 0.5}


SPACE = Space({"x": Float(0.0, 1.0)})
ONE = OutcomeProblem("halves", SPACE, halves, Goals.of({"f": "maximize"}, {"c": (None, 0.0)}), optimum=0.5)
problems = (ONE,)


def need_moocore(problem: OutcomeProblem) -> None:
    if problem.goals.several:
        pytest.importorskip("moocore", reason="hypervolumes need moocore (bo-suite[objectives])")


@pytest.mark.parametrize(
    "name", [pytest.param(name, marks=[pytest.mark.slow] * (name == "penicillin")) for name in PLAIN]
)
def test_every_problem_keeps_its_contract(name: str) -> None:
    problem = OUTCOME_PROBLEMS[name]()
    need_moocore(problem)
    assert problem.name == name
    check_outcome_problem(problem)


@pytest.mark.parametrize("name", FIELD)
def test_every_problem_of_others_keeps_its_contract(name: str) -> None:
    pytest.importorskip("cocoex" if name.startswith("bbob") else "bocode", reason="needs bo-suite[field]")
    problem = OUTCOME_PROBLEMS[name]()
    assert problem.name == name
    check_outcome_problem(problem)


@pytest.mark.slow
@pytest.mark.parametrize("name", TUNING_TWO)
def test_every_model_to_tune_keeps_its_contract(name: str) -> None:
    problem = TUNING_TWO[name]()
    need_moocore(problem)
    check_outcome_problem(problem)


@pytest.mark.parametrize(
    ("name", "single"), [("mlp_digits_latency", "mlp_digits"), ("forest_wine_size", "forest_wine")]
)
def test_the_loss_of_two_objectives_is_that_of_one(name: str, single: str) -> None:
    problem = TUNING_TWO[name]()
    (point,) = problem.space.decode(torch.full((1, problem.space.dim), 0.4, dtype=torch.float64))
    outcomes = problem(point)
    assert outcomes["loss"] == TUNING[single](problem.space.check(point))
    if single == "mlp_digits":
        width, depth = point["width"], point["depth"]
        count = 64 * width + (depth - 1) * width**2 + 10 * width
        assert outcomes["log10_multiplications"] == pytest.approx(math.log10(count), abs=1e-12)
    else:
        assert 0.5 < outcomes["log10_nodes"] < problem.reference[1]


def test_functions_of_botorch_are_botorchs() -> None:
    from botorch.test_functions import multi_objective, synthetic

    x = torch.tensor([[0.3, 0.6]], dtype=torch.float64)
    for name, make in (
        ("constrained_branin_currin", multi_objective.ConstrainedBraninCurrin),
        ("constrained_gramacy", synthetic.ConstrainedGramacy),
    ):
        function, outcomes = make(), named_problem(name)(dict(zip(("x1", "x2"), x[0].tolist(), strict=True)))
        expected = [*function(x).flatten().tolist(), *(-function.evaluate_slack(x)).flatten().tolist()]
        assert list(outcomes.values()) == pytest.approx(expected, rel=1e-12)


@pytest.mark.parametrize("name", ["zdt1_6d", "zdt2_6d", "zdt3_6d", "dtlz2_6d"])
def test_the_largest_hypervolume_is_that_of_the_pareto_front(name: str) -> None:
    moocore = pytest.importorskip("moocore", reason="hypervolumes need moocore (bo-suite[objectives])")
    problem = named_problem(name)
    assert isinstance(problem, OutcomeProblem)
    assert isinstance(problem.function, BoTorchFunction)
    # on the front of ZDT x2, ... are 0, and of DTLZ2 0.5
    x = torch.full((20_001, 6), 0.5 if name.startswith("dtlz") else 0.0, dtype=torch.float64)
    x[:, 0] = torch.linspace(0.0, 1.0, len(x), dtype=torch.float64)
    front = problem.function.rows(x)[0].numpy()
    assert problem.optimum == pytest.approx(
        moocore.hypervolume(front, ref=np.array(problem.reference)), rel=1e-4
    )


def test_the_constrained_ackley_has_its_minimum_at_the_origin() -> None:
    problem = named_problem("constrained_ackley5")
    outcomes = problem({f"x{index}": 0.0 for index in range(1, 6)})
    assert outcomes["value"] == pytest.approx(0.0, abs=1e-12)
    assert outcomes["c1"] == 0.0
    far = problem({f"x{index}": 3.0 for index in range(1, 6)})
    assert far["c1"] == 15.0
    assert far["c2"] == pytest.approx(math.sqrt(45.0) - 5.0)
    rows = np.full(5, 3.0)
    expected = (
        -20 * np.exp(-0.2 * np.sqrt(np.mean(rows**2))) - np.exp(np.mean(np.cos(2 * np.pi * rows))) + 20 + np.e
    )
    assert far["value"] == pytest.approx(expected, rel=1e-12)


def test_the_best_of_the_pressure_vessel_is_where_its_thicknesses_are_rounded_down_most() -> None:
    problem = named_problem("pressure_vessel")
    radius = 0.78125 / 0.0193
    length = (1_296_000.0 - 4.0 / 3.0 * math.pi * radius**3) / (math.pi * radius**2)
    outcomes = problem({"x1": 0.78125, "x2": 0.40625, "x3": radius, "x4": length * (1.0 + 1e-13)})
    assert isinstance(problem, OutcomeProblem)
    assert problem.goals.is_feasible(outcomes)
    assert outcomes["value"] == pytest.approx(problem.best_seen, rel=1e-9)


@pytest.mark.parametrize("key", COCO_OPTIMA)
def test_no_feasible_point_near_the_optimum_of_coco_is_better(
    key: tuple[int, int, int], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    cocoex = pytest.importorskip("cocoex", reason="needs coco-experiment (bo-suite[field])")
    function, instance, dim = key
    monkeypatch.chdir(
        tmp_path
    )  # coco-experiment writes the best parameter to a file of the working directory
    suite = cocoex.Suite(
        "bbob-constrained", "instances: 1-5", f"function_indices: {function} dimensions: {dim}"
    )
    suite.get_problem(instance - 1)._best_parameter("print")
    best = np.loadtxt(tmp_path / "._bbob_problem_best_parameter.txt")
    problem = coco_constrained(*key)
    outcomes = problem(dict(zip(problem.space.parameters, best.tolist(), strict=True)))
    assert problem.goals.is_feasible(outcomes)
    assert outcomes["value"] == problem.optimum
    assert problem.optimum is not None
    for step in (1e-3, 1e-2, 0.1):
        for row in best + step * np.random.default_rng(0).standard_normal((60, dim)):
            near = problem(dict(zip(problem.space.parameters, row.clip(-5.0, 5.0).tolist(), strict=True)))
            assert near["value"] >= problem.optimum - 1e-9 or not problem.goals.is_feasible(near)


def test_what_is_kept_for_checking_cannot_be_made() -> None:
    with pytest.raises(DataError, match=r"one of 1 to 5, since .* kept for checking, got 6"):
        CocoConstrained(1, 6, 2)
    assert zlib.crc32(b"odd") % 2 == 1
    with pytest.raises(DataError, match="even CRC-32, since the others are kept for checking, got odd"):
        BocodeConstrained("odd")
    with pytest.raises(DataError, match="even CRC-32"):
        bocode_constrained("odd")


def test_merits_are_the_feasible_value_or_minus_the_hypervolume() -> None:
    pytest.importorskip("moocore", reason="hypervolumes need moocore (bo-suite[objectives])")
    assert merit(ONE, [{"f": 0.9, "c": 0.4}]) is None
    assert merit(ONE, [{"f": 0.9, "c": 0.4}, {"f": 0.3, "c": -0.2}, {"f": 0.2, "c": -0.3}]) == -0.3
    assert ONE.minimum == ONE.best_known == -0.5
    two = OutcomeProblem(
        "two",
        SPACE,
        halves,
        Goals.of({"f": "maximize", "c": "minimize"}, {"c": (-1.0, 2.0)}),
        reference=(1.0, 3.0),
        best_seen=12.0,
    )
    assert two.reference_losses == (-1.0, 3.0)
    assert two.minimum is None
    assert two.best_known == -12.0
    # f in (1, 3) x c in (1, 3), and the part of (1, 5) x (2, 3) beyond it; the third is not allowed
    told = [{"f": 3.0, "c": 1.0}, {"f": 5.0, "c": 2.0}, {"f": 9.0, "c": -2.0}]
    assert merit(two, told) == pytest.approx(-6.0)
    assert merit(two, told[2:]) == 0.0


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"name": ""}, "name must be a non-empty string"),
        ({"goals": {"f": "maximize"}}, "goals must be a Goals"),
        ({"space": 3}, "space must be a Space"),
        ({"function": 3}, "function must be callable"),
        ({"reference": (1.0,)}, "none for one, got .* for 1"),
        ({"optimum": math.inf}, "optimum must be a finite number or None"),
        ({"best_seen": 0.4}, "`best_seen == optimum` must hold"),
    ],
)
def test_bad_problems_are_refused(change: dict[str, object], message: str) -> None:
    with pytest.raises(DataError, match=message):
        replace(ONE, **change)


def constant(outcomes: dict[str, float], params: Params) -> dict[str, float]:
    return outcomes


@pytest.mark.parametrize(
    ("outcomes", "message"),
    [
        ({"f": 1.0}, r"must return the outcomes \['c', 'f'\], got"),
        ({"f": 1.0, "c": 0.0, "d": 0.0}, "must return the outcomes"),
        ({"f": math.nan, "c": 0.0}, "must be a finite number, got f=nan"),
    ],
)
def test_outcomes_that_do_not_fit_are_refused(outcomes: dict[str, float], message: str) -> None:
    with pytest.raises(DataError, match=message):
        replace(ONE, function=partial(constant, outcomes))({"x": 0.1})
    with pytest.raises(SpaceError):
        ONE({"x": 2.0})


def test_a_problem_of_ones_own_is_named_as_others_are() -> None:
    assert problems_of(f"{__name__}:ONE") == (ONE,)
    assert problems_of(f"{__name__}:problems,branin")[0] is ONE
    own = Suite("own", "one problem", (partial(replace, ONE),))
    assert own.build() == (ONE,)
    with pytest.raises(DataError, match="must be functions that make them"):
        Suite("own", "not a function", (ONE,))
    assert pickle.loads(pickle.dumps(ONE)) == ONE


def test_the_suites_hold_what_they_say() -> None:
    assert set(OUTCOME_SUITES) <= set(suites())
    built: dict[str, tuple[OutcomeProblem, ...]] = {
        name: get_suite(name).build() for name in OUTCOME_SUITES if name != "constrained-field"
    }
    assert all(not one.goals.several and one.goals.constraints for one in built["constrained"])
    assert all(one.goals.several and not one.goals.constraints for one in built["multi-objective"])
    assert all(one.goals.several and one.goals.constraints for one in built["constrained-multi-objective"])
    assert all(one.best_seen is not None for one in built["constrained"])


def broken(make: Callable[..., object]) -> OutcomeProblem:
    return replace(ONE, function=make)


class Counting:
    def __init__(self) -> None:
        self.calls = 0

    def __call__(self, params: Params) -> dict[str, float]:
        self.calls += 1
        return {"f": float(self.calls), "c": 0.0}


def test_the_check_finds_what_is_broken() -> None:
    check_outcome_problem(ONE)
    with pytest.raises(AssertionError, match="outcomes must be equal"):
        check_outcome_problem(broken(Counting()))
    with pytest.raises(AssertionError, match=r"no merit may be below -0\.25"):
        check_outcome_problem(replace(ONE, optimum=0.25, best_seen=None))
