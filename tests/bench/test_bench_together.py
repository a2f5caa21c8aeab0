"""Seeds of a problem that run as one program, and what becomes of them where they cannot."""

import json
from collections import Counter
from pathlib import Path

import bench_methods
import numpy as np
import pytest
from bench_methods import MOODY, Together, forked_workers, lines, run

from bo_suite.problems import get_problem, noisy

KEY = ["problem", "method", "seed"]


@pytest.mark.slow
def test_seeds_run_together_have_the_values_they_have_alone(tmp_path: Path) -> None:
    problems = ["branin", noisy(get_problem("hartmann3"), 0.1)]
    one = run(problems, "bo_suite,random", range(3), 8, tmp_path / "one", together=1)
    all_ = run(problems, "bo_suite,random", range(3), 8, tmp_path / "all")
    pairs = run(problems, "bo_suite,random", range(3), 8, tmp_path / "pairs", together=2)
    alone = all_.units["method"].eq("random")
    assert all_.units["replicates"].equals(alone.map({True: 1, False: 3}))
    odd = pairs.units["seed"].eq(2)
    assert pairs.units["replicates"].equals((alone | odd).map({True: 1, False: 2}))
    for records in (all_, pairs):
        assert records.evaluations[[*KEY, "evaluation"]].equals(one.evaluations[[*KEY, "evaluation"]])
        for column in ("value", "true_value", "regret"):
            np.testing.assert_allclose(records.evaluations[column], one.evaluations[column], atol=1e-6)
        assert set(records.units["state"]) == {"finished"}
    source = [json.loads(text)["source"] for text in all_.evaluations["provenance"] if text != "{}"]
    alone_source = [json.loads(text)["source"] for text in one.evaluations["provenance"] if text != "{}"]
    assert source == alone_source
    assert (all_.evaluations["ask_seconds"] > 0).all()


def test_seeds_of_a_problem_that_is_not_vectorised_run_alone(tmp_path: Path) -> None:
    records = run(
        [MOODY, "branin"], [Together(), Together(lockstep=False, name="other")], [0, 1], 2, tmp_path
    )
    found = records.units.set_index(["problem", "method"])["replicates"]
    assert (found.loc["branin", "together"] == 2).all()
    assert (found.drop(("branin", "together")) == 1).all()
    assert set(records.units["state"]) == {"finished"}


def test_where_seeds_cannot_run_together_they_run_one_by_one(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    ledger = tmp_path / "ledger"
    methods = [Together(bench_methods.raises, ledger, "raises"), Together(bench_methods.quits, name="quits")]
    records = run("branin", methods, range(3), 3, tmp_path / "out")
    assert set(records.units["state"]) == {"finished"}
    assert set(records.units["replicates"]) == {1}
    assert [line.rsplit(maxsplit=1)[0] for line in lines(ledger)] == [
        "together 2 0,1,2",
        *(f"start 2 {seed}" for seed in range(3)),
    ]
    assert "ValueError('out of ideas')" in caplog.text


def test_a_time_limit_holds_for_seeds_together(tmp_path: Path) -> None:
    method = Together(bench_methods.hangs)
    records = run("branin", [method], range(3), 3, tmp_path, time_limit=1.0)
    assert set(records.units["state"]) == {"finished"}
    assert set(records.units["replicates"]) == {1}


def test_seeds_that_take_their_worker_down_together_run_one_by_one(tmp_path: Path) -> None:
    method = Together(bench_methods.is_killed, tmp_path / "ledger")
    records = run("branin", [method], range(3), 3, tmp_path / "out", forked_workers, workers=2)
    assert set(records.units["state"]) == {"finished"}
    assert set(records.units["replicates"]) == {1}
    started = Counter(line.split()[2] for line in lines(method.ledger) if line.startswith("start"))
    assert started == {"0": 1, "1": 1, "2": 1}
