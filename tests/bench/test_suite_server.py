"""Suites in a PostgreSQL database: shared by runners that may die, read and reported by address."""

import sys
import time
from collections import Counter
from pathlib import Path

import bench_methods
import pandas as pd
import pytest
from bench_methods import Scripted, forked, lines, run
from typer.testing import CliRunner

from bo_suite.bench import Records, compare, report
from bo_suite.bench.environment import command
from bo_suite.cli import app
from bo_suite.errors import StorageError
from bo_suite.storage.addresses import masked, parsed


def test_records_are_those_of_a_folder(postgres_url: str, tmp_path: Path) -> None:
    asked = ["noisy_branin", "branin", bench_methods.MOODY], ["sobol", "random"], range(3), 4
    stored = run(*asked, postgres_url)
    there, here = Records.read(postgres_url), run(*asked, tmp_path)
    for name in ("problems", "units", "evaluations", "environments"):
        table = getattr(here, name)
        timed = [column for column in table if column.endswith("seconds")]
        for records in (there, stored):
            found = getattr(records, name)
            pd.testing.assert_frame_equal(found.drop(columns=timed), table.drop(columns=timed))
    assert compare(postgres_url).ranks.table["method"].equals(compare(tmp_path).ranks.table["method"])
    with pytest.raises(StorageError, match=r"problem 'branin' must be .* in postgresql://bo_suite@.*budget"):
        run("branin", "random", [0], 5, postgres_url)
    assert len(run("branin", "random", range(4), 4, postgres_url).units) == len(here.units) + 1


def test_a_unit_of_a_runner_that_is_killed_costs_the_others_one_lease(
    postgres_url: str, tmp_path: Path
) -> None:
    method, url = (
        Scripted(bench_methods.dawdles, tmp_path / "ledger"),
        f"{postgres_url}&lease=2&heartbeat=0.2",
    )
    asked = "branin", [method], range(6), 3, url
    first, second = both = [forked.Process(target=run, args=asked) for _ in range(2)]
    for process in both:
        process.start()

    def started() -> list[tuple[int, int]]:
        return [(int(line.split()[2]), int(line.split()[3])) for line in lines(method.ledger)]

    deadline = time.monotonic() + 60.0
    while len({pid for _, pid in started()}) < 2:
        assert time.monotonic() < deadline
        time.sleep(0.005)
    first.kill()
    first.join()
    second.join(timeout=60.0)
    assert second.exitcode == 0
    times = Counter(seed for seed, _ in started())
    assert sorted(times) == list(range(6))
    assert sum(times.values()) <= 7, "at most the unit that died with its runner ran again"
    records = Records.read(url)
    assert list(records.units["state"]) == ["finished"] * 6
    assert len(records.evaluations) == 18


def test_a_runner_that_waits_goes_on_when_the_lease_of_another_one_has_ended(
    postgres_url: str, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("bo_suite.bench.runner._PATIENCE", 0.5)
    url = f"{postgres_url}&lease=1.5&heartbeat=1"
    left = forked.Process(target=claim_and_die, args=(url,))
    left.start()
    left.join()
    records = run("branin", "random", range(2), 2, url)
    assert list(records.units["state"]) == ["finished"] * 2
    (warning,) = caplog.messages
    assert "units that other runners work on" in warning
    assert "free 1.5 s after its last sign of life" in warning


def claim_and_die(url: str) -> None:
    from bo_suite.bench.store import Store

    Store(url).claim([("branin", "random", seed) for seed in range(2)])


def test_a_suite_is_run_and_reported_by_its_address_without_the_password(
    postgres_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("plotly")
    monkeypatch.chdir(tmp_path)
    password, address = postgres_url.split(":")[2].split("@")[0], parsed(postgres_url)
    line = f"bench branin --methods random,sobol --seeds 0:2 --budget 3 --workers 1 --out {postgres_url}"
    monkeypatch.setattr(sys, "argv", ["bo-suite", *line.split()])
    said = CliRunner().invoke(app, line.split())
    assert said.exit_code == 0, said.output
    assert f"bo-suite report '{address}' draws them" in said.output
    reported = CliRunner().invoke(app, ["report", postgres_url])
    assert reported.exit_code == 0, reported.output
    folder = tmp_path / f"{address.run}_report"
    assert (folder / "summary.csv").exists()
    assert str(address).split("?")[0] in (folder / "report.html").read_text(), "the command is there"
    assert report(postgres_url, tmp_path / "page.html") == tmp_path / "page.html"
    missing = CliRunner().invoke(app, ["report", f"{postgres_url}_missing"])
    assert missing.exit_code == 1
    written = [path.read_text() for path in tmp_path.rglob("*") if path.suffix in (".html", ".csv")]
    stored = Records.read(postgres_url).environments["command"].tolist()
    assert len(stored) == 1
    for text in (said.output, reported.output, missing.output, *written, *stored):
        assert password not in text


@pytest.mark.parametrize(
    ("word", "shown"),
    [
        ("branin", "branin"),
        ("postgresql://u:hush@db/bo?run=a&lease=5", "postgresql://u@db/bo?run=a&lease=5"),
        ("--out=postgres://u:hush@db:5/bo", "--out=postgresql://u@db:5/bo"),
        ("postgresql://db/bo?user=u&password=hush", "postgresql://u@db/bo"),
        ("postgresql:/u:hush@db/bo", "postgresql:..."),
        ("run('postgresql://u:hush@db/bo')", "run('postgresql:..."),
        ("PostgreSQL://u:a b hush@db", "postgresql:..."),
        ("postgresql://u:hush@db/bo#hush", "postgresql:..."),
    ],
)
def test_a_command_has_no_password(word: str, shown: str, monkeypatch: pytest.MonkeyPatch) -> None:
    assert masked(word) == shown
    monkeypatch.setattr(sys, "orig_argv", ["python", "script.py", word])
    assert "hush" not in command()
    assert command().startswith("python script.py")
