"""The importance of parameters, against closed forms and on runs."""

import math

import numpy as np
import pytest
import torch
from torch import Tensor

from bo_suite import Choice, Float, Int, Optimizer, Space
from bo_suite.acquisition import LogExpectedImprovement
from bo_suite.data import Seeds
from bo_suite.errors import TrialError
from bo_suite.study.importance import ped_anova, sobol_indices
from bo_suite.surrogates import AutoGP, ExactGP

COLUMNS = ["main", "total", "low", "high", "ped_anova"]


def cube(dim: int) -> Space:
    return Space({f"x{column}": Float(0, 1) for column in range(dim)})


def ishigami(x: Tensor, a: float = 7.0, b: float = 0.1) -> Tensor:
    z = math.pi * (2.0 * x - 1.0)
    return z[:, 0].sin() + a * z[:, 1].sin().square() + b * z[:, 2] ** 4 * z[:, 0].sin()


def ishigami_indices(a: float = 7.0, b: float = 0.1) -> tuple[list[float], list[float]]:
    """Ishigami and Homma (1990): main and total indices."""
    first = 0.5 * (1.0 + b * math.pi**4 / 5.0) ** 2
    second = a**2 / 8.0
    both = b**2 * math.pi**8 * (1.0 / 18.0 - 1.0 / 50.0)
    variance = first + second + both
    main = [first / variance, second / variance, 0.0]
    return main, [(first + both) / variance, second / variance, both / variance]


G = torch.tensor([0.0, 1.0, 4.5, 99.0], dtype=torch.float64)


def g_function(x: Tensor) -> Tensor:
    return (((4.0 * x[:, : len(G)] - 2.0).abs() + G) / (1.0 + G)).prod(-1)


def g_indices() -> tuple[list[float], list[float]]:
    """Saltelli and Sobol (1995): main and total indices."""
    share = 1.0 / (3.0 * (1.0 + G).square())
    variance = (1.0 + share).prod() - 1.0
    total = share * (1.0 + variance) / (1.0 + share) / variance
    return (share / variance).tolist(), total.tolist()


@pytest.mark.parametrize(
    ("function", "expected"),
    [(ishigami, ishigami_indices()), (g_function, g_indices())],
    ids=["ishigami", "g"],
)
def test_indices_of_known_functions(function, expected) -> None:
    main, total = expected
    two_functions = lambda rows: torch.stack((function(rows), 3.0 * function(rows) - 1.0))  # noqa: E731
    for seed in range(3):
        mains, totals = sobol_indices(two_functions, cube(len(main)), 4096, Seeds.of(seed, 0))
        for copy in range(2):
            np.testing.assert_allclose(mains[copy], main, atol=0.015)
            np.testing.assert_allclose(totals[copy], total, atol=0.015)
    idle = lambda rows: function(rows)[None]  # noqa: E731
    mains, totals = sobol_indices(idle, cube(len(main) + 1), 256, Seeds.of(0, 0))
    assert float(mains[0, -1]) == float(totals[0, -1]) == 0.0
    assert bool((mains <= totals).all())


def test_levels_are_equally_likely_and_logs_uniform() -> None:
    space = Space(
        {"k": Choice(["a", "b", "c", "d"]), "n": Int(1, 3), "lr": Float(1e-4, 1, log=True), "one": Int(2, 2)}
    )

    def additive(rows: Tensor) -> Tensor:
        points = space.decode(rows)
        values = [
            2.0 * (point["k"] == "b") + point["n"] + math.log10(point["lr"]) + point["one"]
            for point in points
        ]
        return torch.tensor(values, dtype=torch.float64)[None]

    variances = np.array([4.0 * 3.0 / 16.0, 2.0 / 3.0, 16.0 / 12.0, 0.0])
    for indices in sobol_indices(additive, space, 2048, Seeds.of(1, 0)):
        np.testing.assert_allclose(indices[0], variances / variances.sum(), atol=0.02)


@pytest.mark.parametrize("count", [1, 2, 64, 4096])
def test_indices_lie_between_nothing_and_all(count: int) -> None:
    functions = lambda rows: torch.stack((rows[:, 0], (20.0 * rows[:, 0]).sin(), rows.sum(-1)))  # noqa: E731
    for dim in (1, 3):
        for seed in range(8):
            main, total = sobol_indices(functions, cube(dim), count, Seeds.of(seed, 0))
            assert float(main.min()) >= 0.0
            assert float(total.max()) <= 1.0
            assert bool((main <= total).all())


def filled(space: Space, function, count: int, **settings) -> Optimizer:
    """An Optimizer with outcomes of a function of encoded rows, at scattered points."""
    optimizer = Optimizer(space, **settings)
    like = torch.empty(0, space.dim, dtype=torch.float64)
    rows = space.encoding.sample_from_unit(Seeds.of(5, 0).sobol(count, like))
    points = space.decode(rows)
    values = function(space.encode(points))
    for point, value in zip(points, values.tolist(), strict=True):
        optimizer.add(point, value)
    return optimizer


def test_a_model_of_many_points_has_the_indices_of_the_function() -> None:
    main, total = g_indices()
    table = filled(cube(4), g_function, 250).importance().loc[["x0", "x1", "x2", "x3"]]
    np.testing.assert_allclose(table["total"], total, atol=0.06)
    np.testing.assert_allclose(table["main"], main, atol=0.06)
    assert (table["low"] <= table["high"]).all()


@pytest.mark.parametrize("direction", ["minimize", "maximize"])
def test_a_mixed_run_names_what_matters(direction: str) -> None:
    space = Space(
        {
            "idle": Float(0, 1),
            "lr": Float(1e-4, 1, log=True),
            "kind": Choice(["a", "b", "c"]),
            "same": Choice(["only"]),
            "epochs": Int(1, 9, fidelity=True),
        }
    )
    sign = 1.0 if direction == "minimize" else -1.0

    def function(rows: Tensor) -> Tensor:
        return sign * (
            4.0 * (rows[:, 1] - 0.4).square() + 0.4 * (rows[:, 2] == 0.5) + 0.1 * (1.0 - rows[:, 4])
        )

    table = filled(space, function, 60, direction=direction).importance()
    assert list(table) == COLUMNS
    assert list(table.index[:2]) == ["lr", "kind"]
    assert table.index.name == "parameter"
    assert set(table.index) == {"idle", "lr", "kind", "same"}
    assert table.loc["idle", "total"] < 0.02
    assert table.loc["same"].tolist() == [0.0] * 5
    assert table["ped_anova"].sum() == pytest.approx(1.0)
    assert table["ped_anova"].idxmax() == "lr"


def test_intervals_shrink_with_data() -> None:
    widths = []
    for count in (15, 250):
        table = filled(cube(4), g_function, count).importance()
        widths.append(float((table["high"] - table["low"]).mean()))
    assert widths[1] < 0.5 * widths[0]


@pytest.mark.parametrize("scale", [1.0, 1e290, 1e-290])
def test_bad_outliers_do_not_dominate(scale: float) -> None:
    def function(rows: Tensor) -> Tensor:
        values = 3.0 * rows[:, 0] + rows[:, 1]
        values[::17] = 1e6  # at any points
        return scale * values

    table = filled(cube(4), function, 60).importance()
    assert table.index[0] == "x0"
    assert table.loc["x0", "total"] > 0.6


def test_known_noise_is_not_taken_for_variation() -> None:
    generator = np.random.default_rng(0)
    optimizer = Optimizer(cube(2))
    for _ in range(60):
        point = {"x0": float(generator.random()), "x1": float(generator.random())}
        optimizer.add(point, point["x0"] + 0.5 * generator.normal(), std=0.5)
    table = optimizer.importance()
    assert table.loc["x0", "total"] > 0.9


def test_a_constant_function_has_no_important_parameter() -> None:
    table = filled(cube(3), lambda rows: torch.ones(len(rows)), 10).importance()
    assert (table == 0.0).all(axis=None)


def test_without_paths_the_interval_is_unknown() -> None:
    import gpytorch

    acquisition = LogExpectedImprovement(AutoGP(exact=ExactGP(kernel=gpytorch.kernels.RBFKernel())))
    table = filled(cube(2), lambda rows: rows[:, 0].square(), 12, acquisition=acquisition).importance()
    assert table[["low", "high"]].isna().all(axis=None)
    assert table.loc["x0", "total"] > 0.9


def test_trials_outside_of_the_space_are_no_part_of_the_second_opinion() -> None:
    optimizer = filled(Space({"x": Float(0, 1), "k": Choice(["a", "b"])}), lambda rows: rows[:, 0], 12)
    optimizer.extend({"x": Float(0.0, 0.1), "k": Choice(["a"])})
    for x in (0.01, 0.02):
        optimizer.add({"x": x, "k": "a"}, x)
    outside = optimizer.importance()
    assert (outside["total"] > 0.0).any()
    for x in (0.03, 0.05, 0.08):
        optimizer.add({"x": x, "k": "a"}, x)
    table = optimizer.importance()
    assert table.loc["x", "ped_anova"] == pytest.approx(1.0)
    assert table.loc["k"].tolist() == [0.0] * 5


def assert_shares(optimizer: Optimizer) -> None:
    table = optimizer.importance()
    assert ((table >= 0.0) & (table <= 1.0)).all(axis=None)
    assert (table["main"] <= table["total"]).all()
    assert (table["low"] <= table["high"]).all()


def test_all_shares_lie_between_nothing_and_all() -> None:
    for seed in range(3):
        assert_shares(filled(cube(1), lambda rows: (6.0 * rows[:, 0]).sin(), 8, seed=seed))
    narrowed = filled(cube(4), g_function, 30)
    narrowed.extend({f"x{column}": Float(0.0, 0.05) for column in range(4)})
    assert_shares(narrowed)


def test_a_parameter_with_one_option_has_no_share() -> None:
    optimizer = Optimizer(Space({"k": Choice(["only"])}))
    for value in (1.0, 2.0, 3.0):
        optimizer.add({"k": "only"}, value)
    table = optimizer.importance()
    assert table.loc["k"].tolist() == [0.0] * 5


def test_two_trials_are_too_few() -> None:
    optimizer = filled(cube(2), lambda rows: rows[:, 0], 2)
    with pytest.raises(TrialError, match="importances need 3 finished trials, got 2"):
        optimizer.importance()


def test_ped_anova_names_what_the_best_have_in_common() -> None:
    space = Space({"x": Float(0, 1), "k": Choice(["a", "b", "c"]), "idle": Float(0, 1), "n": Int(0, 3)})
    rows = space.encoding.sample_from_unit(
        torch.rand(400, 4, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    )
    losses = (rows[:, 0] - 0.2).square() + 0.3 * (rows[:, 1] != 1.0)
    shares = ped_anova(rows, losses, space)
    assert float(shares.sum()) == pytest.approx(1.0)
    assert shares[:2].min() > 4.0 * shares[2:].max()
    assert ped_anova(rows, torch.ones(400, dtype=torch.float64), space).tolist() == [0.0] * 4


@pytest.mark.slow
def test_forty_parameters_and_two_hundred_trials() -> None:
    weights = torch.zeros(40, dtype=torch.float64)
    weights[:3] = torch.tensor([4.0, 2.0, 1.0])
    table = filled(cube(40), lambda rows: (rows - 0.3).square() @ weights, 200).importance()
    assert list(table.index[:3]) == ["x0", "x1", "x2"]
    assert table["total"][3:].max() < 0.02
