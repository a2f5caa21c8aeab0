"""The tables of the suite `field`, against rows of the files of their authors."""

import math
import pickle
from importlib import resources

import numpy as np
import pytest
import torch

from bo_suite.bench import run_suite
from bo_suite.problems.field.tables import measured_table, table_problem
from bo_suite.space.parameters import Choice
from bo_suite.testing import check_problem

REACTIONS = ("buchwald_a", "buchwald_b", "buchwald_c")
KERNELS = ("convolution_A100", "convolution_A4000", "convolution_W6600")

RUNS = {
    **{"block_size_x": 16, "block_size_y": 1, "tile_size_x": 1, "tile_size_y": 1},
    **{"read_only": 0, "use_padding": 0, "use_shmem": 0},
}


def test_a_reaction_has_the_yield_of_its_row() -> None:
    problem = table_problem("buchwald_a")
    point = {
        "aryl_halide": "FC(F)(F)c1ccc(Cl)cc1",
        "additive": "o1nccc1c2ccccc2",
        "base": "CN1CCCN2CCCN=C12",
        "ligand": "CC(C)C1=CC(C(C)C)=CC(C(C)C)=C1C2=C(P(C3CCCCC3)C4CCCCC4)C=CC=C2",
    }
    assert problem.value(point) == -14.96739578
    other = {**point, "base": r"CN(C)/C(N(C)C)=N\C(C)(C)C"}
    assert problem.value(other) == -14.01864146


@pytest.mark.parametrize("name", REACTIONS)
def test_a_reaction_keeps_its_contract_and_has_every_combination(name: str) -> None:
    problem = table_problem(name)
    check_problem(problem)
    table = measured_table(name)
    assert len(table.measurements) == problem.space.cardinality == 3 * 22 * 3 * 4
    assert problem.minimum == min(table.measurements)
    assert all(isinstance(p, Choice) and not p.ordered for _, p in problem.space)


@pytest.mark.parametrize(
    ("name", "seconds"),
    [("convolution_A100", 3.87533), ("convolution_A4000", 5.90049), ("convolution_W6600", 8.37559)],
)
def test_a_kernel_has_the_time_of_its_entry(name: str, seconds: float) -> None:
    assert table_problem(name).value(RUNS) == pytest.approx(seconds, rel=1e-5)


@pytest.mark.parametrize("name", KERNELS)
def test_a_kernel_has_its_measured_points_and_fails_elsewhere(name: str) -> None:
    problem, table = table_problem(name), measured_table(name)
    assert len(table.measurements) == problem.space.cardinality == 16 * 5 * 4 * 4 * 2**3
    measured = [entry for entry in table.measurements if not isinstance(entry, str)]
    assert len(measured) == (4362 if name == "convolution_W6600" else 4201)
    assert problem.minimum == min(measured) > 0.0
    ordered = {key for key, p in problem.space if isinstance(p, Choice) and p.ordered}
    assert ordered == {"block_size_x", "block_size_y", "tile_size_x", "tile_size_y"}
    assert pickle.loads(pickle.dumps(problem)) == problem
    # 16 x 1 threads: no padding without shared memory
    with pytest.raises(RuntimeError, match="does not exist for these parameters"):
        problem.value({**RUNS, "use_padding": 1})


def test_a_kernel_that_failed_says_how() -> None:
    failed = {**RUNS, "block_size_x": 32, "block_size_y": 16, "tile_size_x": 3, "tile_size_y": 4}
    with pytest.raises(RuntimeError, match="the kernel failed when it ran"):
        table_problem("convolution_A4000").value({**failed, "read_only": 1})


def test_a_suite_records_the_failures_of_a_kernel(tmp_path_factory: pytest.TempPathFactory) -> None:
    out = tmp_path_factory.mktemp("kernel")
    records = run_suite(table_problem("convolution_A100"), "random", range(1), 20, out, workers=1)
    (state,) = records.units["state"]
    assert state == "finished"
    failed = records.evaluations["value"].isna()
    assert 0 < failed.sum() < 20
    assert records.evaluations["failure"][failed].str.contains("the kernel").all()


@pytest.mark.parametrize("name", [*REACTIONS, *KERNELS])
def test_random_points_are_not_all_alike(name: str) -> None:
    problem = table_problem(name)
    uniform = torch.from_numpy(np.random.default_rng(0).random((100, problem.space.dim)))
    values = []
    for point in problem.space.decode(problem.space.encoding.sample_from_unit(uniform)):
        try:
            values.append(problem.value(point))
        except RuntimeError:
            values.append(math.inf)
    assert len({value for value in values if value < math.inf}) > 30


def test_the_licences_lie_beside_the_tables_and_all_are_small() -> None:
    folder = resources.files("bo_suite.problems.field").joinpath("data")
    for name in ("buchwald", "convolution"):
        assert "MIT License" in folder.joinpath(f"LICENSE-{name}").read_text()
    assert all(len(file.read_bytes()) < 200_000 for file in folder.iterdir())
