"""Several runners on one folder, runners that are killed or interrupted, and what their workers do then."""

import contextlib
import os
import signal
import subprocess
import sys
import textwrap
import time
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path

import bench_methods
import pytest
from bench_methods import Scripted, lines, run

from bo_suite.bench import Records

SCRIPT = """
    import signal, sys
    from pathlib import Path
    sys.path[:0] = {path!r}
    from bench_methods import Scripted, dawdles
    from bo_suite.bench import run_suite

    if __name__ == "__main__":
        signal.signal(signal.SIGINT, signal.default_int_handler)  # a background job starts with it ignored
        method = Scripted(dawdles, Path({ledger!r}))
        run_suite("branin", [method], range(12), 3, {out!r}, workers=int(sys.argv[1]), progress=False)
"""


@pytest.fixture
def runner(tmp_path: Path) -> Iterator[Callable[[int], subprocess.Popen]]:
    """Starts processes at a suite of twelve units of 0.3 s, in the folder `out`, with so many workers."""
    script, started = tmp_path / "script.py", []
    places = {"ledger": str(tmp_path / "ledger"), "out": str(tmp_path / "out"), "path": sys.path}
    script.write_text(textwrap.dedent(SCRIPT).format(**places))

    def start(workers: int) -> subprocess.Popen:
        started.append(subprocess.Popen([sys.executable, str(script), str(workers)], start_new_session=True))
        return started[-1]

    yield start
    for process in started:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()


def starts(tmp_path: Path) -> list[tuple[str, int]]:
    """Seeds that were started, each with its process."""
    return [(line.split()[2], int(line.split()[3])) for line in lines(tmp_path / "ledger")]


def wait_for(what) -> None:  # workers import torch, perhaps on a busy machine
    end = time.monotonic() + 90.0
    while not what():
        assert time.monotonic() < end, "it did not come in time"
        time.sleep(0.02)


@pytest.mark.slow
def test_two_runners_of_a_folder_share_the_units(tmp_path: Path, runner) -> None:
    both = [runner(1), runner(1)]
    assert [process.wait(timeout=90) for process in both] == [0, 0]
    assert sorted(int(seed) for seed, _ in starts(tmp_path)) == list(range(12)), "each unit once"
    assert {pid for _, pid in starts(tmp_path)} == {process.pid for process in both}, "both have worked"
    records = Records.read(tmp_path / "out")
    assert list(records.units["state"]) == ["finished"] * 12
    assert len(records.evaluations) == 36


@pytest.mark.slow
def test_a_runner_that_is_killed_leaves_its_units_to_the_others(tmp_path: Path, runner) -> None:
    first, second = runner(1), runner(1)
    wait_for(lambda: {pid for _, pid in starts(tmp_path)} == {first.pid, second.pid})
    first.kill()
    first.wait()
    assert second.wait(timeout=30) == 0
    times = Counter(seed for seed, _ in starts(tmp_path))
    assert sorted(map(int, times)) == list(range(12))
    assert sorted(times.values())[:-1] == [1] * 11, "at most the unit that died with its runner ran again"
    assert list(Records.read(tmp_path / "out").units["state"]) == ["finished"] * 12


@pytest.mark.slow
def test_workers_end_with_a_runner_that_is_killed(tmp_path: Path, runner) -> None:
    process = runner(2)
    wait_for(lambda: len({pid for _, pid in starts(tmp_path)}) == 2)
    workers = {pid for _, pid in starts(tmp_path)}
    assert process.pid not in workers
    process.kill()
    process.wait()
    wait_for(lambda: not any(is_running(pid) for pid in workers))


@pytest.mark.slow
def test_ctrl_c_ends_soon_keeps_what_has_ended_and_leaves_the_rest_to_a_later_run(
    tmp_path: Path, runner
) -> None:
    process = runner(2)
    wait_for(lambda: len(starts(tmp_path)) >= 5)
    workers = {pid for _, pid in starts(tmp_path)}
    os.killpg(process.pid, signal.SIGINT)
    assert process.wait(timeout=10) != 0
    assert not any(is_running(pid) for pid in workers)
    kept = set(Records.read(tmp_path / "out").units["seed"])
    assert 3 <= len(kept) < 12
    known = len(starts(tmp_path))
    run("branin", [Scripted(bench_methods.dawdles, tmp_path / "ledger")], range(12), 3, tmp_path / "out")
    assert {int(seed) for seed, _ in starts(tmp_path)[known:]} == set(range(12)) - kept


def is_running(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] not in "ZX"
    except FileNotFoundError:
        return False
