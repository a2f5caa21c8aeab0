"""The report of benchmarks/field.py: regrets, ranks, and two methods beside each other."""

import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

sys.path.insert(0, str(Path(__file__).parents[2] / "benchmarks"))

import field
import field_runs
from field_compare import comparison
from field_report import report

from bo_suite.bench import get_method, run_suite
from bo_suite.problems import get_problem

CLASSES = ("field-one", "field-two")
REFERENCES = {"branin": (0.397887, 60.0), "hartmann3": (-3.86278, -0.5), "ackley2": (0.0, 20.0)}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("runs")
    for name, problems in zip(CLASSES, (("branin", "hartmann3"), ("ackley2",)), strict=True):
        stored = [field.stored(get_problem(problem)) for problem in problems]
        for methods, seeds, budget in ((["random"], range(5), 30), (["sobol"], range(3), 30)):
            run_suite(stored, methods, seeds, budget, out / name, workers=1, progress=False)
    return out


@pytest.fixture(autouse=True)
def references(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(field_runs, "stored_references", lambda: dict(REFERENCES))


def test_ranks_run_from_0_to_1_and_ties_share_theirs() -> None:
    values = np.array([[3.0, 1.0, 1.0 + 1e-12, 7.0, np.inf], [2.0, np.nan, 1.0, np.nan, np.nan]])
    rows = field_runs.ranks(values)
    assert rows[0] == pytest.approx([0.5, 0.125, 0.125, 0.75, 1.0])
    assert rows[1] == pytest.approx([1.0, np.nan, 0.0, np.nan, np.nan], nan_ok=True)
    assert np.isnan(field_runs.ranks(np.array([1.0, np.nan]))).all()


def test_regrets_are_0_at_the_best_known_value_and_1_at_a_typical_one(folder: Path) -> None:
    runs = field_runs.read([folder], CLASSES)
    assert len(runs.table) == 3 * (5 + 3)
    assert runs.estimated == ()
    for row in runs.table.itertuples():
        best, typical = REFERENCES[row.problem]
        assert row.regret == pytest.approx((row.incumbent - best) / (typical - best))
    assert set(runs.on("field-two").table["problem"]) == {"ackley2"}


def test_medians_are_over_seeds_and_their_resamples_lie_among_the_runs(folder: Path) -> None:
    table = field_runs.read([folder], CLASSES).table
    middle = field_runs.medians(table)
    assert middle.problems == ("branin", "hartmann3", "ackley2")
    assert middle.methods == ("random", "sobol")
    own = table[(table["problem"] == "branin") & (table["method"] == "random")]["regret"]
    assert middle.values[0, 0] == pytest.approx(own.median())
    resampled = middle.resampled[:, 0, 0]
    assert (resampled.min(), resampled.max()) == pytest.approx((own.min(), own.max()))
    mean, means = middle.mean(middle.values, middle.resampled)
    assert mean == pytest.approx(middle.values.mean(axis=0))
    assert means.shape == (1000, 2)
    low, high = np.quantile(means, (0.001, 0.999), axis=0)
    assert (low < mean).all()
    assert (mean < high).all()


def test_a_report_has_every_class_and_problem_and_says_where_a_method_is_weak(folder: Path) -> None:
    text = report(field_runs.read([folder], CLASSES), "sobol")
    for title in ("field-one: 2 problems", "field-two: 1 problems", "all classes: 3 problems"):
        assert f"== {title} ==" in text
    assert "not separated (9 pairs of runs on 3 problems" in text
    assert "where sobol is weak" in text
    assert "of 3 problems" in text


def test_methods_with_fewer_problems_come_last_and_can_be_left_to_common_problems(folder: Path) -> None:
    runs = field_runs.read([folder], CLASSES)
    table, units = runs.table, runs.records.units
    partial = replace(
        runs,
        table=table[(table["method"] == "random") | (table["problem"] == "branin")],
        records=replace(
            runs.records, units=units[(units["method"] == "random") | (units["problem"] == "branin")]
        ),
    )
    best = replace(partial, table=partial.table.assign(regret=(partial.table["method"] == "random") * 1.0))
    lines = report(best, "random").splitlines()
    (start,) = (index for index, line in enumerate(lines) if line.startswith("== all classes"))
    assert [line.split()[0] for line in lines[start + 2 : start + 4]] == ["random", "sobol"]
    assert set(best.common().table["problem"]) == {"branin"}
    assert [line.split()[0] for line in report(best.common(), "random").splitlines()[8:10]] == [
        "sobol",
        "random",
    ]


def test_a_method_that_is_always_last_is_listed(folder: Path) -> None:
    runs = field_runs.read([folder], CLASSES)
    worst = runs.table["method"] == "sobol"
    table = runs.table.assign(regret=runs.table["regret"].where(~worst, 5.0))
    text = report(replace(runs, table=table), "sobol")
    assert "worse than random by more than the interval: 3" in text
    assert "at most twice the median regret of the best peer: 0 of 3 problems (0%)" in text


def test_problems_without_references_are_measured_from_the_runs(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(field_runs, "stored_references", lambda: {"branin": REFERENCES["branin"]})
    runs = field_runs.read([folder], CLASSES)
    assert runs.estimated == ("ackley2", "hartmann3")
    assert runs.on("field-two").table["regret"].min() == 0.0
    assert "2 problems have no stored best known" in report(runs, "sobol")


def test_a_comparison_pairs_by_problem_and_seed(folder: Path) -> None:
    runs = field_runs.read([folder], CLASSES)
    table = runs.table.pivot(index=["problem", "seed"], columns="method", values="regret").dropna()
    wins, losses = (
        int((table["sobol"] < table["random"]).sum()),
        int((table["sobol"] > table["random"]).sum()),
    )
    forward = comparison(runs, "sobol", "random")
    (row,) = (line.split() for line in forward.splitlines() if line.strip().startswith("all classes"))
    assert row[2:7] == ["3", "9", str(wins), "0", str(losses)]
    ratios = np.log10(table["sobol"].clip(1e-6, 1)) - np.log10(table["random"].clip(1e-6, 1))
    assert f"{ratios.groupby(level='problem').mean().mean():+.3f}" in row
    with pytest.raises(SystemExit, match="no runs of tpe; there are runs of random, sobol"):
        comparison(runs, "tpe", "sobol")


def test_a_method_in_two_folders_is_named_by_its_folder(folder: Path, tmp_path: Path) -> None:
    problems = [field.stored(get_problem("branin"))]
    run_suite(problems, ["sobol"], range(3), 30, tmp_path / "other" / "field-one", workers=1, progress=False)
    runs = field_runs.read([folder, tmp_path / "other"], CLASSES)
    assert set(runs.table["method"]) == {"random", f"sobol@{folder.name}", "sobol@other"}
    text = comparison(runs, f"sobol@{folder.name}", "sobol@other")
    (row,) = (line.split() for line in text.splitlines() if line.strip().startswith("field-one"))
    assert row[1:6] == ["1", "3", "0", "3", "0"]


def test_a_label_names_one_method() -> None:
    (method,) = field.chosen("random", "dice", [])
    assert method.name == "dice"
    assert replace(get_method("random"), name="dice") == method  # type: ignore[type-var]
    with pytest.raises(SystemExit, match="--label names one method, got random,sobol"):
        field.chosen("random,sobol", "dice", [])
