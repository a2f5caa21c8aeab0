"""Functions of COCO, against coco-experiment; skipped without it, but for the noise and the guards."""

import pickle
from pathlib import Path

import numpy as np
import pytest
import torch

from bo_suite.errors import DataError
from bo_suite.problems import Problem
from bo_suite.problems.field import FIELD, FIELD_PROBLEMS
from bo_suite.problems.field.coco import CocoFunction, bbob, large, mixint, noisy
from bo_suite.problems.field.noise import BbobNoise
from bo_suite.space.parameters import Float, Int
from bo_suite.testing import check_problem

NAMES = [name for name in FIELD_PROBLEMS if name.startswith("bbob")]
CAUCHY = tuple(f"bbob_noisy_f{number}" for number in range(103, 131, 3))


@pytest.fixture(scope="module")
def coco() -> object:
    return pytest.importorskip("cocoex", reason="needs coco-experiment (bo-suite[field])")


def points(problem: Problem, count: int) -> list[dict[str, object]]:
    uniform = torch.from_numpy(np.random.default_rng(1).random((count, problem.space.dim)))
    return problem.space.decode(problem.space.encoding.sample_from_unit(uniform))


# --- what needs no library -------------------------------------------------------------------------------


@pytest.mark.parametrize("instance", [0, 6, 101])
def test_other_instances_are_kept_for_checking(instance: int) -> None:
    for make in (bbob, mixint):
        with pytest.raises(DataError, match=f"one of 1 to 5, since .* kept for checking, got {instance}"):
            make(1, instance, 5)
    with pytest.raises(DataError, match="kept for checking"):
        noisy(101, instance, 5)
    with pytest.raises(DataError, match="kept for checking"):
        large(3, instance, 80)


def test_functions_without_a_known_value_are_refused() -> None:
    for function in (100, 116, 125, 131):
        with pytest.raises(DataError, match=f"bbob-noisy must be one of .*, got {function}"):
            noisy(function, 1, 5)
    with pytest.raises(DataError, match=r"bbob-largescale must be one of .*, got 6"):
        CocoFunction("bbob-largescale", 6, 1, 80)


def test_a_noise_must_be_of_a_kind() -> None:
    with pytest.raises(DataError, match="got 'pink'"):
        BbobNoise("pink", 0.0)


def draws(noise: BbobNoise, value: float, count: int = 4000) -> np.ndarray:
    return np.array([noise(value, np.random.default_rng((3, index))) for index in range(count)])


def test_gaussian_noise_is_a_log_normal_factor() -> None:
    for function, deviation in ((101, 0.01), (107, 1.0)):
        factors = np.log((draws(BbobNoise.of(function, 5, 80.0), 90.0) + 10.0) / 10.0)
        assert factors.std() == pytest.approx(deviation, rel=0.05)
        assert abs(factors.mean()) < 4.0 * deviation / 4000**0.5


def test_uniform_noise_has_the_median_of_its_definition() -> None:
    # In two dimensions alpha = 0.99; with f = 1e9 the second factor is 1, and f U is left.
    noise = draws(BbobNoise.of(108, 2, 0.0), 1e9)
    assert np.median(noise + 1e9) == pytest.approx(0.5e9, rel=0.05)
    # With f = 1 the value is U 1e9^(0.99 V), whose mean logarithm is -1 + 0.99 log(1e9) / 2.
    logarithms = np.log(draws(BbobNoise.of(108, 2, 0.0), 1.0) + 1.0)
    expected = -1.0 + 0.99 * np.log(1e9) / 2.0
    assert logarithms.mean() == pytest.approx(expected, abs=4.0 * logarithms.std() / 4000**0.5)


def test_cauchy_noise_is_an_offset_with_outliers_of_a_share() -> None:
    for function, alpha, share in ((103, 0.01, 0.05), (109, 1.0, 0.2)):
        noise = draws(BbobNoise.of(function, 5, 0.0), 3.0)
        offset = 1000.0 * alpha
        assert np.median(noise) == pytest.approx(offset, abs=0.01)
        outliers = np.abs(noise - offset) > 1e-6
        assert outliers.mean() == pytest.approx(share, abs=4.0 * (share / 4000) ** 0.5)
        # Of a standard Cauchy variable half lies within 1.
        assert (np.abs(noise - offset)[outliers] < alpha).mean() == pytest.approx(0.5, abs=0.15)
        assert np.isfinite(noise).all()


def test_the_minimum_itself_has_no_noise() -> None:
    for function in (101, 108, 109):
        assert BbobNoise.of(function, 5, 7.0)(7.0 + 1e-9, np.random.default_rng(0)) == 0.0


# --- against coco-experiment -----------------------------------------------------------------------------


@pytest.mark.parametrize("name", NAMES)
def test_every_function_is_deterministic_finite_and_not_constant(coco: object, name: str) -> None:
    problem = FIELD_PROBLEMS[name]()
    copy = pickle.loads(pickle.dumps(problem))
    assert problem.name == name
    assert copy == problem
    seen = [problem.value(point) for point in points(problem, 50)]
    assert np.isfinite(seen).all()
    assert len(set(seen)) > 40
    assert [copy.value(point) for point in points(problem, 50)] == seen
    assert problem.minimum is not None
    assert min(seen) > problem.minimum
    if not name.startswith(CAUCHY):  # whose noise is the same at most points
        check_problem(problem)


@pytest.mark.parametrize("name", ["bbob_f8_i1_10d", "bbob_f15_i3_10d", "bbob_f10_i1_20d", "bbob_f21_i4_20d"])
def test_a_function_of_bbob_has_the_minimum_of_coco_at_its_optimum(coco: object, name: str) -> None:
    problem = FIELD_PROBLEMS[name]()
    function = problem.function
    assert isinstance(function, CocoFunction)
    bare = coco.BareProblem("bbob", function.function, function.dim, function.instance)  # type: ignore[attr-defined]
    assert problem.minimum == bare.best_value()
    optimum = dict(zip((key for key, _ in problem.space), bare.best_parameter(), strict=True))
    assert problem.value(optimum) == pytest.approx(bare.best_value(), abs=1e-9)


@pytest.mark.parametrize("name", [name for name in NAMES if "mixint" in name])
def test_a_function_of_bbob_mixint_has_its_minimum_at_the_optimum_of_coco(
    coco: object, name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    problem = FIELD_PROBLEMS[name]()
    function = problem.function
    assert isinstance(function, CocoFunction)
    limits = f"function_indices: {function.function} dimensions: {function.dim}"
    suite = coco.Suite("bbob-mixint", "instances: 1-5", limits)  # type: ignore[attr-defined]
    original = suite.get_problem(function.instance - 1)
    monkeypatch.chdir(tmp_path)
    original._best_parameter("print")  # into a file of the current folder
    numbers = np.array((tmp_path / "._bbob_problem_best_parameter.txt").read_text().split(), dtype=float)
    optimum = {
        key: int(number) if isinstance(parameter, Int) else float(number)
        for (key, parameter), number in zip(problem.space, numbers, strict=True)
    }
    assert problem.value(optimum) == original(numbers)
    assert problem.value(optimum) == pytest.approx(problem.minimum, abs=1e-9)
    kinds = [type(parameter) for _, parameter in problem.space]
    assert kinds == [Int] * (4 * function.dim // 5) + [Float] * (function.dim // 5)


@pytest.mark.parametrize(
    ("number", "base"), [(101, 1), (104, 8), (107, 1), (113, 7), (119, 14), (122, 17), (128, 21)]
)
def test_the_noise_of_coco_lies_around_our_noiseless_values(coco: object, number: int, base: int) -> None:
    suite = coco.Suite("bbob-noisy", "instances: 1-5", f"function_indices: {number - 100} dimensions: 5")  # type: ignore[attr-defined]
    problem, original = noisy(number, 3, 5), suite.get_problem(2)
    assert original.id == f"bbob_noisy_f{number}_i03_d05"
    assert problem.function == CocoFunction("bbob", base, 3, 5)
    assert problem.minimum is not None
    deviation = 0.01 if number <= 106 else 1.0
    for point in points(problem, 2):
        row = np.array([*point.values()], dtype=float)
        observed = np.array([original(row) for _ in range(2000)]) - problem.minimum
        factors = np.log(observed / (problem.value(point) - problem.minimum))
        assert abs(factors.mean()) < 5.0 * deviation / 2000**0.5
        assert factors.std() == pytest.approx(deviation, rel=0.15)


def test_the_noise_is_drawn_from_the_seed_the_point_and_the_repeat(coco: object) -> None:
    for name in FIELD["noisy"]:
        problem = FIELD_PROBLEMS[name]()
        assert problem.noisy
        assert problem.noise == 0.0
        point = points(problem, 1)[0]
        drawn = {(s, r): problem.noise_of(point, s, r) for s in range(30) for r in range(3)}
        copy = pickle.loads(pickle.dumps(problem))
        assert {(s, r): copy.noise_of(point, s, r) for s, r in drawn} == drawn
        assert len(set(drawn.values())) > 1
        if not name.startswith(CAUCHY):
            assert len(set(drawn.values())) == 90
