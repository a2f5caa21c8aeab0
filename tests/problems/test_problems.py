"""Problems: every one keeps its contract, and every minimum is one."""

import pickle
import subprocess
import sys
from dataclasses import FrozenInstanceError, dataclass, replace

import numpy as np
import pytest
import torch
from scipy.optimize import minimize
from sklearn.model_selection import GridSearchCV

from bo_suite.errors import DataError, SpaceError
from bo_suite.problems import Problem, embedded, get_problem, mixed, noisy, problems, shifted
from bo_suite.problems.fidelity import FIDELITY
from bo_suite.problems.model_choice import MODEL_CHOICE
from bo_suite.problems.synthetic import synthetic_names
from bo_suite.problems.tabular import TABLES, table
from bo_suite.problems.tuning import TUNING
from bo_suite.space.parameters import Choice, Float, Int
from bo_suite.space.space import Params, Space
from bo_suite.testing import check_problem

OTHER_DIMS = ["ackley1", "ackley20", "dixon_price2", "ellipsoid3", "griewank1", "levy10", "schwefel1"]
OTHER_DIMS += ["michalewicz2", "michalewicz10", "powell8", "rosenbrock20", "styblinski_tang20", "zakharov2"]

# To the digits of the sources: Surjanovic and Bingham's Virtual Library, BoTorch, Forrester et al.
PUBLISHED = {
    "ackley5": 0.0,
    "beale": 0.0,
    "branin": 0.397887,
    "bukin": 0.0,
    "cosine8": -0.8,
    "cross_in_tray": -2.06261,
    "drop_wave": -1.0,
    "easom": -1.0,
    "eggholder": -959.6407,
    "forrester": -6.020740,
    "goldstein_price": 3.0,
    "gramacy_lee": -0.869011,
    "hartmann3": -3.86278,
    "hartmann4": -3.134494,
    "hartmann6": -3.32237,
    "holder_table": -19.2085,
    "mccormick": -1.91322,
    "michalewicz10": -9.66015,
    "michalewicz2": -1.8013,
    "michalewicz5": -4.687658,
    "schwefel5": 0.0,
    "shekel": -10.5364,
    "sin3": -0.5003596,
    "six_hump_camel": -1.0316,
    "styblinski_tang6": -39.16617 * 6,
    "three_hump_camel": 0.0,
}


def row(problem: Problem, point: Params) -> np.ndarray:
    return problem.space.encode([point])[0].numpy()


@pytest.mark.parametrize("name", [*problems(), *OTHER_DIMS])
def test_every_problem_keeps_its_contract(name: str) -> None:
    problem = get_problem(name)
    assert problem.name == name
    check_problem(problem)
    models = TUNING | MODEL_CHOICE
    assert (problem.minimum is None) == (name in models)
    assert problem.best_known is not None
    floats = all(isinstance(parameter, Float) for _, parameter in problem.space)
    assert (problem.vectorized is None) == (name in FIDELITY or name in models or not floats)
    assert bool(problem.minimizers) == (name not in models)


def test_there_are_enough() -> None:
    assert len(synthetic_names()) >= 25
    assert len(TUNING) >= 8
    assert len(set(problems())) == len(problems())


@pytest.mark.parametrize("name", [*synthetic_names(), *OTHER_DIMS])
def test_nothing_near_a_minimizer_is_lower(name: str) -> None:
    problem = get_problem(name)
    assert problem.minimum is not None
    parameters = [parameter for _, parameter in problem.space]
    low = np.array([parameter.low for parameter in parameters])
    high = np.array([parameter.high for parameter in parameters])

    def value(x: np.ndarray) -> float:
        clipped = np.clip(x, low, high)
        return problem.value(dict(zip(problem.space.parameters, clipped.tolist(), strict=True)))

    for point in problem.minimizers:
        start = np.array(list(point.values()))
        simplex = np.vstack([start, start + 1e-3 * np.diag(high - low)])
        options = {"initial_simplex": simplex, "xatol": 1e-10, "fatol": 1e-13, "maxfev": 200 * len(start)}
        refined = minimize(value, start, method="Nelder-Mead", options=options)
        assert refined.fun >= problem.minimum - 1e-9 * max(1.0, abs(problem.minimum))


@pytest.mark.parametrize("name", PUBLISHED)
def test_minima_are_the_published_ones(name: str) -> None:
    minimum = get_problem(name).minimum
    assert minimum == pytest.approx(PUBLISHED[name], rel=5e-5, abs=1e-9)


@pytest.mark.parametrize(
    ("name", "count"), [("branin", 3), ("six_hump_camel", 2), ("holder_table", 4), ("cross_in_tray", 4)]
)
def test_every_minimizer_is_listed(name: str, count: int) -> None:
    problem = get_problem(name)
    assert len(problem.minimizers) == count
    values = [problem.value(point) for point in problem.minimizers]
    torch.testing.assert_close(values, [values[0]] * count, rtol=1e-10, atol=1e-10)


def test_forrester_and_sin3_are_where_they_should_be() -> None:
    assert get_problem("forrester").minimizers[0]["x1"] == pytest.approx(0.757249, abs=1e-6)
    assert get_problem("sin3").minimizers[0]["x1"] == pytest.approx(-0.3593945, abs=1e-6)


def test_values_do_not_depend_on_the_default_dtype() -> None:
    script = (
        "import torch; torch.set_default_dtype(torch.float64); from bo_suite.problems import get_problem; "
        "print(repr(get_problem('hartmann6').minimum), torch.get_default_dtype())"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert torch.get_default_dtype() == torch.float32
    assert done.stdout.split() == [repr(get_problem("hartmann6").minimum), "torch.float64"]


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("hartman6", "hartmann6"),
        ("nothing_like_it", "problems()"),
        ("hartmann5", r"\[3, 4, 6\]"),
        ("ackley", "must end in its dimension"),
        ("ackley0", "problems()"),
        ("rosenbrock1", "2, 3"),
        ("powell5", "4, 8"),
        ("branin3", r"\[2\]"),
        ("", "problems()"),
    ],
)
def test_a_wrong_name_is_told_what_is_right(name: str, words: str) -> None:
    with pytest.raises(DataError, match=words.replace("()", r"\(\)")):
        get_problem(name)


# --- Problem ---------------------------------------------------------------------------------------------


SPACE = Space({"x": Float(0.0, 1.0)})


def square(params: Params) -> float:
    return float(params["x"]) ** 2  # type: ignore[arg-type]


def squares(rows: torch.Tensor) -> torch.Tensor:
    return rows[:, 0] ** 2


@dataclass(frozen=True)
class Doubled:
    """Adds the value times a uniform number."""

    def __call__(self, value: float, generator: np.random.Generator) -> float:
        return value * float(generator.random())


@pytest.mark.parametrize(
    ("fields", "words"),
    [
        ({"name": ""}, "non-empty"),
        ({"space": {"x": 1}}, "must be a Space"),
        ({"function": 3}, "callable"),
        ({"minimum": None}, "minimizers need a minimum"),
        ({"minimum": float("nan")}, "finite"),
        ({"noise": -1.0}, "noise >= 0"),
        ({"noise": float("inf")}, "noise >= 0"),
        ({"seed": -1}, "seed"),
        ({"seed": True}, "seed"),
        ({"best_known": 0.5}, "best_known == minimum"),
        ({"best_known": float("nan")}, "best known value must be a finite number"),
        ({"vectorized": 3}, "vectorized function must be callable"),
        ({"noise_model": 3}, "noise model must be callable"),
        ({"noise_model": Doubled(), "noise": 1.0}, "noise == 0"),
        ({"space": Space({"x": Int(0, 1)}), "vectorized": squares}, r"Float columns alone, got \['x'\]"),
    ],
)
def test_a_problem_refuses_what_breaks_a_rule(fields: dict[str, object], words: str) -> None:
    problem = Problem("square", SPACE, square, 0.0, ({"x": 0.0},))
    with pytest.raises(DataError, match=words):
        replace(problem, **fields)  # type: ignore[arg-type]


def test_the_best_known_value_is_the_minimum_where_that_is_known() -> None:
    assert Problem("square", SPACE, square).best_known is None
    assert Problem("square", SPACE, square, best_known=0.5).best_known == 0.5
    problem = Problem("square", SPACE, square, 0.0, ({"x": 0.0},))
    assert problem.best_known == 0.0
    assert replace(problem, seed=3).best_known == 0.0


def test_a_minimizer_must_be_a_point() -> None:
    with pytest.raises(SpaceError, match="'x'"):
        Problem("square", SPACE, square, 0.0, ({"x": 2.0},))


def test_a_problem_checks_its_params_and_takes_them_in_any_order() -> None:
    problem = get_problem("branin")
    assert problem({"x2": 2.0, "x1": 1.0}) == problem({"x1": 1.0, "x2": 2.0})
    with pytest.raises(SpaceError, match="missing"):
        problem({"x1": 1.0})


def test_a_problem_is_frozen_and_hashable() -> None:
    problem = get_problem("branin")
    with pytest.raises(FrozenInstanceError):
        problem.noise = 1.0  # type: ignore[misc]
    assert hash(problem) == hash(get_problem("branin"))
    assert problem == get_problem("branin")


def test_noise_derives_from_seed_and_point() -> None:
    points = [{"x1": 1.0, "x2": float(place)} for place in range(5)]
    problem = noisy(get_problem("branin"), 0.5, seed=7)
    seen = [problem(point) for point in points]
    assert [problem(point) for point in points] == seen
    elsewhere = pickle.loads(pickle.dumps(problem))
    assert [elsewhere(point) for point in reversed(points)] == seen[::-1]
    noises = [value - problem.value(point) for value, point in zip(seen, points, strict=True)]
    assert len(set(noises)) == 5
    other = replace(problem, seed=8)
    assert all(other(point) != value for value, point in zip(seen, points, strict=True))
    assert problem.value(points[0]) == get_problem("branin").value(points[0])


def test_noise_has_the_stated_deviation() -> None:
    problem = noisy(get_problem("sphere2"), 3.0, seed=1)
    points = [{"x1": place / 2000, "x2": 0.0} for place in range(2000)]
    draws = np.array([problem(point) - problem.value(point) for point in points])
    assert draws.std() == pytest.approx(3.0, rel=0.1)
    assert abs(draws.mean()) < 4 * 3.0 / 2000**0.5
    with pytest.raises(DataError, match="noise >= 0"):
        noisy(problem, -1.0)


def test_noise_of_a_model_depends_on_the_value_the_seed_the_point_and_the_repeat() -> None:
    problem = Problem("square", SPACE, square, 0.0, ({"x": 0.0},), noise_model=Doubled())
    assert problem.noisy
    assert noisy(get_problem("branin"), 0.5).noisy
    assert not get_problem("branin").noisy
    check_problem(problem)
    point = {"x": 0.5}
    drawn = [problem.noise_of(point, seed, repeat) for seed in range(20) for repeat in range(3)]
    assert len(set(drawn)) == 60
    assert all(0.0 <= noise < 0.25 for noise in drawn)
    assert problem.noise_of({"x": 0.0}, 0) == 0.0
    assert problem(point) == 0.25 + problem.noise_of(point, problem.seed)
    assert pickle.loads(pickle.dumps(problem)).noise_of(point, 3, 1) == problem.noise_of(point, 3, 1)


# --- wrappers --------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["ackley5", "branin", "eggholder", "levy10", "rastrigin5", "forrester"])
@pytest.mark.parametrize("seed", [0, 1])
def test_shifted_moves_the_minimizer_off_the_centre(name: str, seed: int) -> None:
    plain, problem = get_problem(name), shifted(get_problem(name), seed)
    check_problem(problem)
    assert problem.minimum == plain.minimum
    assert problem.minimizers[0] == plain.minimizers[0]
    assert np.all(np.abs(row(problem, problem.minimizers[0]) - 0.5) >= 0.099)
    assert shifted(plain, seed).space == problem.space
    assert shifted(plain, seed + 1).space != problem.space


def test_shifted_keeps_discrete_columns_and_needs_no_minimum() -> None:
    problem = shifted(get_problem("svm_digits"))
    assert problem.minimum is None
    assert problem.space.parameters["kernel"] == get_problem("svm_digits").space.parameters["kernel"]
    c = problem.space.parameters["C"]
    assert isinstance(c, Float)
    assert c.log
    assert np.log(c.high / c.low) == pytest.approx(0.6 * np.log(1e6), rel=1e-6)
    check_problem(problem)


def test_embedded_adds_columns_that_do_not_matter() -> None:
    plain, problem = get_problem("hartmann6"), embedded(get_problem("hartmann6"), 20, seed=3)
    check_problem(problem)
    assert problem.space.dim == 20
    generator = np.random.default_rng(0)
    base = dict(zip(problem.space.parameters, generator.random(20).tolist(), strict=True))
    matters = [
        name for name in base if problem.value({**base, name: 1.0 - base[name]}) != problem.value(base)
    ]
    assert len(matters) == 6
    assert matters != list(base)[:6]
    assert problem.vectorized is not None
    rows = problem.space.encode([base, *problem.minimizers])
    torch.testing.assert_close(problem.vectorized(rows)[0].item(), problem.value(base), rtol=1e-12, atol=0.0)
    assert problem.value(problem.minimizers[0]) == plain.minimum
    assert problem.minimum == plain.minimum
    with pytest.raises(DataError, match="dim >= 6"):
        embedded(plain, 5)


def test_embedded_keeps_kinds_of_columns() -> None:
    problem = embedded(get_problem("forest_wine"), 8)
    kinds = [type(parameter) for _, parameter in problem.space]
    assert sorted(kind.__name__ for kind in kinds) == sorted(["Int"] * 3 + ["Float"] * 3 + ["Choice"] * 2)
    check_problem(problem)


def test_mixed_keeps_the_minimum() -> None:
    plain = shifted(get_problem("levy6"))
    problem = mixed(plain, integers=(1,), ordered=(3,), unordered=(2, 5), levels=4)
    check_problem(problem)
    kinds = [type(parameter) for _, parameter in problem.space]
    assert kinds == [Float, Int, Choice, Choice, Float, Choice]
    assert problem.space.unordered == (2, 5)
    assert problem.minimum == plain.minimum
    assert problem.value(problem.minimizers[0]) == plain.minimum


def test_mixed_minimum_agrees_with_enumeration() -> None:
    problem = mixed(get_problem("branin"), integers=(0,), unordered=(1,), levels=7)
    first, second = (parameter for _, parameter in problem.space)
    assert isinstance(first, Int)
    assert isinstance(second, Choice)
    values = [
        problem.value({"x1": x1, "x2": x2})
        for x1 in range(first.low, first.high + 1)
        for x2 in second.options
    ]
    assert len(values) == 49
    assert min(values) == problem.minimum


def test_wrappers_keep_what_stays_true() -> None:
    branin, svr = get_problem("branin"), get_problem("svr_diabetes")
    assert shifted(branin).vectorized == branin.vectorized == noisy(branin, 1.0).vectorized
    assert mixed(branin, integers=(0,)).vectorized is None
    assert shifted(branin).best_known == mixed(branin, integers=(0,)).best_known == branin.minimum
    # A smaller space may leave out where the best known value was seen; a larger one may not.
    assert shifted(svr).best_known is mixed(svr, integers=(0,)).best_known is None
    assert embedded(svr, 5).best_known == noisy(svr, 1.0).best_known == svr.best_known


def test_mixed_without_a_known_minimum() -> None:
    problem = mixed(get_problem("svr_diabetes"), integers=(0,), levels=3)
    assert problem.minimum is None
    assert problem.minimizers == ()
    check_problem(problem)
    plain = get_problem("svr_diabetes")
    assert problem.value({"C": 2, "gamma": 0.1, "epsilon": 0.1}) == plain.value(
        {"C": 100.0, "gamma": 0.1, "epsilon": 0.1}
    )


@pytest.mark.parametrize(
    ("columns", "words"),
    [
        ({"integers": (0, 0)}, "differ"),
        ({"integers": (0,), "ordered": (0,)}, "differ"),
        ({"integers": (2,)}, r"0 \.\.\. 1"),
        ({"integers": (0,), "levels": 1}, "levels"),
        ({"integers": (0,), "levels": 27}, "levels"),
    ],
)
def test_mixed_refuses_wrong_columns(columns: dict[str, object], words: str) -> None:
    with pytest.raises(DataError, match=words):
        mixed(get_problem("branin"), **columns)  # type: ignore[arg-type]
    with pytest.raises(DataError, match="Float"):
        mixed(get_problem("forest_wine"), integers=(0,))


def test_wrappers_compose() -> None:
    problem = noisy(
        embedded(mixed(shifted(get_problem("ackley3")), integers=(1,), unordered=(2,)), 5), 0.1, seed=2
    )
    check_problem(problem)
    assert problem.name == "noisy_mixed_shifted_ackley3_in_5d"
    assert problem.minimum == get_problem("ackley3").minimum


@pytest.mark.parametrize("wrap", [shifted, mixed])
def test_wrappers_need_a_minimizer_of_a_known_minimum(wrap: object) -> None:
    with pytest.raises(DataError, match="has none"):
        wrap(Problem("square", SPACE, square, 0.0))  # type: ignore[operator]


# --- check_problem ---------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Broken:
    """A function that breaks one rule."""

    rule: str

    def __call__(self, params: Params) -> float:
        x = float(params["x"])  # type: ignore[arg-type]
        if self.rule == "finite":
            return float("nan")
        if self.rule == "same":
            return float(np.random.default_rng().random())
        if self.rule == "below":
            return x - 0.5
        return x


@pytest.mark.parametrize(
    ("rule", "words"), [("finite", "finite"), ("same", "must not change"), ("below", "below the minimum")]
)
def test_check_problem_finds_what_is_wrong(rule: str, words: str) -> None:
    with pytest.raises(AssertionError, match=words):
        check_problem(Problem("broken", SPACE, Broken(rule), 0.0))


def test_check_problem_finds_a_wrong_minimizer() -> None:
    with pytest.raises(AssertionError, match="must attain"):
        check_problem(Problem("broken", SPACE, Broken("none"), 0.0, ({"x": 0.5},)))


def test_check_problem_finds_a_best_known_value_that_anyone_beats() -> None:
    with pytest.raises(AssertionError, match="below the best known value"):
        check_problem(Problem("broken", SPACE, square, best_known=0.9))


def halves(rows: torch.Tensor) -> torch.Tensor:
    return squares(rows) / 2


def columns(rows: torch.Tensor) -> torch.Tensor:
    return rows**2


def rough(rows: torch.Tensor) -> torch.Tensor:
    return squares(rows.float())


def in_place(rows: torch.Tensor) -> torch.Tensor:
    return rows.pow_(2)[:, 0]


@pytest.mark.parametrize(
    ("function", "words"),
    [
        (halves, "agree"),
        (columns, "one value per row"),
        (rough, "one value per row"),
        (in_place, "not change its rows"),
    ],
)
def test_check_problem_finds_a_wrong_vectorized_function(function: object, words: str) -> None:
    check_problem(Problem("square", SPACE, square, vectorized=squares))
    with pytest.raises(AssertionError, match=words):
        check_problem(Problem("broken", SPACE, square, vectorized=function))  # type: ignore[arg-type]


# --- vectorized functions ---------------------------------------------------------------------------------


VECTORIZED = [*synthetic_names(), *OTHER_DIMS]


@pytest.mark.parametrize("name", VECTORIZED)
def test_vectorized_agrees_with_the_function(name: str) -> None:
    problem = get_problem(name)
    assert problem.vectorized is not None
    uniform = torch.from_numpy(np.random.default_rng(5).random((50, problem.space.dim)))
    points = [*problem.space.decode(uniform), *problem.minimizers]
    rows = torch.tensor([list(point.values()) for point in points], dtype=torch.float64)
    expected = torch.tensor([problem.value(point) for point in points], dtype=torch.float64)
    torch.testing.assert_close(problem.vectorized(rows), expected, rtol=1e-12, atol=1e-12)
    assert problem.vectorized(rows[:0]).shape == (0,)


@pytest.mark.parametrize("name", VECTORIZED)
def test_vectorized_follows_the_device_and_dtype_of_its_rows(name: str) -> None:
    problem = get_problem(name)
    assert problem.vectorized is not None
    row = torch.tensor([list(problem.minimizers[0].values())], dtype=torch.float64)
    before = problem.vectorized(row)
    # Tensors on `meta` have a device and no memory; those of another device would be refused.
    elsewhere = problem.vectorized(row.to("meta"))
    assert (elsewhere.device.type, elsewhere.dtype) == ("meta", torch.float64)
    assert problem.vectorized(row.float()).dtype == torch.float32
    assert torch.equal(problem.vectorized(row), before)
    assert problem.value(problem.minimizers[0]) == problem.minimum


@pytest.mark.cuda
@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")
@pytest.mark.parametrize("name", VECTORIZED)
def test_vectorized_on_a_cuda_device_agrees_with_the_function(name: str) -> None:
    problem = get_problem(name)
    assert problem.vectorized is not None
    uniform = torch.from_numpy(np.random.default_rng(5).random((50, problem.space.dim)))
    points = problem.space.decode(uniform)
    rows = torch.tensor([list(point.values()) for point in points], dtype=torch.float64)
    expected = torch.tensor([problem.value(point) for point in points], dtype=torch.float64)
    values = problem.vectorized(rows.cuda())
    assert values.is_cuda
    torch.testing.assert_close(values.cpu(), expected, rtol=1e-11, atol=1e-11)


# --- models to tune, and tables --------------------------------------------------------------------------


@pytest.mark.parametrize("name", [name for name in TUNING if TUNING[name].at is not None])
def test_the_best_known_loss_is_that_of_the_point_kept_with_it(name: str) -> None:
    model = TUNING[name]
    assert model.at is not None
    # Other versions of the libraries may move a value a little.
    assert get_problem(name).value(model.at) == pytest.approx(model.best, rel=0.1)


def test_a_table_without_its_library_names_the_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    assert not set(problems()) & set(TABLES)
    table.cache_clear()
    with pytest.raises(DataError, match=r"hpolib_naval needs .*bo-suite\[tables\]"):
        get_problem("hpolib_naval")


@pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")
@pytest.mark.parametrize("name", TUNING)
def test_a_search_over_cross_validation_meets_the_same_loss(name: str) -> None:
    model = TUNING[name]
    (point,) = model.space.decode(torch.full((1, model.space.dim), 0.4, dtype=torch.float64))
    splits = list(model.folds().split(*model.data()))
    # A grid of nothing: the model as it is, once.
    search = GridSearchCV(model.estimator(point), {}, scoring=model.scoring, cv=splits, refit=False)
    search.fit(*model.data())
    assert model.loss(float(search.cv_results_["mean_test_score"][0])) == get_problem(name).value(point)
