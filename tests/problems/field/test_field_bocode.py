"""Problems of bocode; skipped without it, but for the guard."""

import math
import pickle
import subprocess
import sys
import warnings
from collections.abc import Iterator

import numpy as np
import pytest
import torch

from bo_suite.errors import DataError
from bo_suite.problems import Problem
from bo_suite.problems.field import FIELD, FIELD_PROBLEMS, field_references
from bo_suite.problems.field.bocode import BocodeFunction, bocode_problem
from bo_suite.space.parameters import Choice, Float, Int

NAMES = [name for name in FIELD_PROBLEMS if name.startswith("bocode")]
SLOW = ("bocode_Bayesmark", "bocode_HPOB", "bocode_LCBench", "bocode_ReactivityModel")


@pytest.fixture(scope="module", autouse=True)
def offline() -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("HF_HUB_OFFLINE", "1")
        yield


@pytest.fixture(scope="module")
def library() -> object:
    return pytest.importorskip("bocode", reason="needs bocode (bo-suite[field])")


def points(problem: Problem, count: int) -> list[dict[str, object]]:
    uniform = torch.from_numpy(np.random.default_rng(1).random((count, problem.space.dim)))
    return problem.space.decode(problem.space.encoding.sample_from_unit(uniform))


def test_problems_that_are_kept_for_checking_cannot_be_made() -> None:
    for name in ("SpeedReducer", "Borehole", "AckleyCat"):
        with pytest.raises(DataError, match=f"kept for checking, got {name}"):
            bocode_problem(name)
        with pytest.raises(DataError, match="even CRC-32"):
            BocodeFunction(name)


@pytest.mark.parametrize(
    "name", [pytest.param(n, marks=[pytest.mark.slow] if n.startswith(SLOW) else []) for n in NAMES]
)
def test_every_problem_is_deterministic_finite_and_not_constant(library: object, name: str) -> None:
    problem = FIELD_PROBLEMS[name]()
    assert problem.name == name
    copy = pickle.loads(pickle.dumps(problem))
    assert copy == problem
    count = 150 if name == "bocode_Bayesmark_DT_digits" else 30  # a tree is a guess at most points
    seen = [problem.value(point) for point in points(problem, count)]
    assert np.isfinite(seen).all()
    assert len(set(seen)) > 2
    assert [copy.value(point) for point in points(problem, 3)] == seen[:3]
    assert min(seen) >= field_references()[name].best_known


def test_a_value_is_minus_the_objective(library: object) -> None:
    problem = bocode_problem("BraninCategorical")
    assert problem.value({"x1": math.pi, "x2": 2.275, "x3": 0.0}) == pytest.approx(0.397887, abs=1e-6)
    assert problem.value({"x1": math.pi, "x2": 2.275, "x3": 2.0}) == pytest.approx(2.897887, abs=1e-6)


def test_a_violated_constraint_is_a_penalty_and_a_kept_one_is_none(library: object) -> None:
    problem = bocode_problem("WeldedBeamSO")
    original = library.get_problem("WeldedBeamSO")()  # type: ignore[attr-defined]
    feasible = {"x1": 0.5, "x2": 4.0, "x3": 9.5, "x4": 0.6}
    objectives, constraints = original.evaluate(torch.tensor([[*feasible.values()]]))
    assert (constraints <= 0.0).all()
    assert problem.value(feasible) == pytest.approx(-float(objectives))
    thin = {**feasible, "x4": 0.1}
    objectives, constraints = original.evaluate(torch.tensor([[*thin.values()]]))
    assert (constraints > 0.0).any()
    assert problem.value(thin) > 100.0 - float(objectives)


def test_spaces_have_the_kinds_of_their_parameters(library: object) -> None:
    vessel = dict(bocode_problem("PressureVessel").space)
    assert [type(parameter) for parameter in vessel.values()] == [Choice, Choice, Float, Float]
    assert isinstance(vessel["x1"], Choice)
    assert vessel["x1"].ordered
    assert all(isinstance(p, Int) for _, p in bocode_problem("GearTrain").space)
    branin = bocode_problem("BraninLVGP").space.parameters["x2"]
    assert isinstance(branin, Choice)
    assert not branin.ordered
    network = bocode_problem("LCBenchSegment").space.parameters
    assert isinstance(network["x1"], Int)
    assert network["x1"].log
    assert isinstance(network["x2"], Float)
    assert network["x2"].log
    assert isinstance(network["x5"], Float)
    assert not network["x5"].log


def test_all_parameters_of_a_categorical_problem_are_not_floats(library: object) -> None:
    discrete = {f"bocode_{name}" for name in ("NASBench201", "StyblinskiTangCat", "SchwefelCat")}
    assert discrete <= set(FIELD["categorical"])
    for name in discrete:
        assert all(isinstance(parameter, Choice) for _, parameter in FIELD_PROBLEMS[name]().space)


def test_importing_leaves_the_warnings_of_the_process_as_they_are(library: object) -> None:
    problem = bocode_problem("GearTrain")
    before = list(warnings.filters)
    assert problem.value({"x1": 12, "x2": 12, "x3": 60, "x4": 60}) > 0.0
    assert warnings.filters == before
    # In a process of its own, since this one has imported bocode already.
    script = (
        "import warnings; from bo_suite.problems.field.bocode import bocode_problem; "
        "before = list(warnings.filters); bocode_problem('GearTrain'); assert before == warnings.filters"
    )
    subprocess.run([sys.executable, "-c", script], check=True)
