"""Worker processes of `minimize`: what they import, which functions they take, and what they leave behind."""

import multiprocessing
import os
import subprocess
import sys
import textwrap
import threading
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import pytest

from bo_suite import Float, Optimizer, Space, Trial, minimize
from bo_suite.errors import TrialError

SPACE = Space({"x": Float(-1, 2)})


def states(f: Callable[[dict], float], budget: int = 3, **options: object) -> list[str | None]:
    """Reasons of the trials, None of those that have finished."""
    result = minimize(f, SPACE, budget, workers=2, progress=False, **options)
    assert {trial.state for trial in result.trials} <= {"finished", "failed"}
    return [trial.reason for trial in result.trials]


def is_running(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] not in "ZX"
    except FileNotFoundError:
        return False


linux = pytest.mark.skipif(not Path("/proc/self/stat").exists(), reason="looks at processes in /proc")


def test_a_worker_imports_what_f_needs_alone() -> None:
    def f(params: dict) -> float:
        heavy = {"torch", "numpy", "pandas", "rich", "sklearn", "scipy", "matplotlib"} & set(sys.modules)
        ours = {name for name in sys.modules if name.startswith("bo_suite.")}
        rooms = {"run": ("child", "evaluate", "raised"), "values": ("describe", "numbers"), "errors": ()}
        rooms["storage"] = ("by_parameter", "goals")
        light = {f"bo_suite.{room}" for room in rooms}
        light |= {f"bo_suite.{room}.{name}" for room, names in rooms.items() for name in names}
        if heavy or ours - light:
            raise ImportError(f"{heavy | ours}")
        return 0.0

    assert states(f) == [None] * 3


def test_a_worker_does_its_arithmetic_in_one_thread(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS"):
        monkeypatch.delenv(name, raising=False)

    def f(params: dict) -> float:
        import numpy as np
        import threadpoolctl

        (np.ones((2, 2)) @ np.ones((2, 2))).sum()
        return float(max([1] + [pool["num_threads"] for pool in threadpoolctl.threadpool_info()]))

    result = minimize(f, SPACE, 2, workers=2, progress=False)
    assert [trial.value for trial in result.trials] == [1.0, 1.0]


SCRIPT = """
    from functools import partial
    import multiprocessing, os, sys
    from bo_suite import Float, Space, minimize

    SCALE, HERE = 3.0, os.getpid()

    class Model:
        def loss(self, params):
            return SCALE * params["x"]

        def __call__(self, params):
            return self.loss(params)

    def square(x):
        return x * x

    def plain(params):
        assert os.getpid() == HERE or "torch" not in sys.modules, "not needed"
        return square(params["x"]) * SCALE

    def forks(params):
        with multiprocessing.get_context("fork").Pool(1) as pool:
            return sum(pool.map(square, [params["x"]]))

    def closure():
        factor = 2.0
        return lambda params: factor * square(params["x"])

    functions = [plain, closure(), lambda p: p["x"], partial(lambda a, p: a * p["x"], 2)]
    functions += [Model().loss, Model()] + [forks] * (sys.platform == "linux")
    for f in functions[: int(sys.argv[1])]:
        for trial in minimize(f, Space({"x": Float(-1, 2)}), 2, workers=2, progress=False).trials:
            assert trial.value == f(trial.params), trial
    print("all", flush=True)
"""


@pytest.mark.parametrize(
    ("interactive", "count"), [(False, 2), pytest.param(False, 7, marks=pytest.mark.slow), (True, 2)]
)
def test_functions_of_scripts_without_a_guard_and_of_sessions_without_a_file(
    tmp_path: Path, interactive: bool, count: int
) -> None:
    code, script = textwrap.dedent(SCRIPT), tmp_path / "script.py"
    script.write_text(code)
    command = [sys.executable, "-" if interactive else script, str(count)]
    done = subprocess.run(
        command, input=code if interactive else "", capture_output=True, text=True, timeout=240, cwd=tmp_path
    )
    assert done.stdout == "all\n", done.stderr


@pytest.mark.parametrize("held", ["lock", "file", "generator"])
def test_what_cannot_be_sent_is_told_before_anything_is_written(tmp_path: Path, held: str) -> None:
    with (tmp_path / "log").open("w") as file:
        thing = {"lock": threading.Lock(), "file": file, "generator": iter(i for i in range(3))}[held]
        with pytest.raises(TrialError, match=r"must be picklable .*without locks.*got "):
            minimize(lambda params: id(thing), SPACE, workers=2, storage=tmp_path / "run.db", progress=False)
    assert not (tmp_path / "run.db").exists()


def test_a_module_that_workers_do_not_find_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "lost_module.py").write_text("def f(params):\n    return 0.0\n")
    monkeypatch.syspath_prepend(tmp_path)
    from lost_module import f

    (tmp_path / "lost_module.py").unlink()
    with pytest.raises(TrialError, match=r"workers must be able to import f .* ModuleNotFoundError"):
        minimize(f, SPACE, workers=2, progress=False)


def test_a_function_is_loaded_once_a_worker_and_before_the_first_point(tmp_path: Path) -> None:
    ledger = tmp_path / "ledger"

    class Loaded:
        def __getstate__(self) -> dict:
            return {"ledger": ledger}

        def __setstate__(self, state: dict) -> None:
            with state["ledger"].open("a") as file:
                file.write(f"{time.time()}\n")

        def __call__(self, params: dict) -> float:
            return params["x"]

    result = minimize(Loaded(), SPACE, 6, workers=2, progress=False)
    loaded = [float(line) for line in ledger.read_text().split()]
    assert len(loaded) == 2
    assert max(loaded) <= min(trial.started for trial in result.trials)


def test_a_worker_that_dies_costs_its_evaluation_alone(tmp_path: Path) -> None:
    def f(params: dict) -> float:
        with (tmp_path / "ledger").open("a") as file:
            file.write(f"{params['x']}\n")
        if params["x"] == 0.5:
            os._exit(3)
        time.sleep(0.3)
        return params["x"]

    assert states(f, 4) == ["its worker process died", None, None, None]
    evaluated = Counter(map(float, (tmp_path / "ledger").read_text().split()))
    assert set(evaluated.values()) == {1}


def test_the_death_of_a_worker_is_repeated_where_failures_are(tmp_path: Path) -> None:
    def f(params: dict) -> float:
        mark = tmp_path / str(params["x"])
        tries = len(mark.read_text()) if mark.exists() else 0
        mark.write_text("x" * (tries + 1))
        if params["x"] == 0.5 or (params["x"] > 1 and not tries):
            os._exit(3)
        return params["x"]

    assert states(f, 3, retries=1) == ["its worker process died (2 tries)", None, None]


@pytest.mark.parametrize("python", ["/bin/false", "/no/such/python"])
def test_workers_that_cannot_start_are_one_clear_sentence(
    monkeypatch: pytest.MonkeyPatch, python: str
) -> None:
    monkeypatch.setattr("bo_suite.run.processes.sys.executable", python)
    with pytest.raises(TrialError, match="they died: a worker process died while it started"):
        minimize(lambda params: 0.0, SPACE, workers=2, progress=False)


# What f has started ends with the run.


def with_children(ledger: Path, hang: bool = False) -> Callable[[dict], float]:
    def f(params: dict) -> float:
        child = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(300)"])
        forked = multiprocessing.get_context("fork").Process(target=time.sleep, args=(300,))
        forked.start()
        with ledger.open("a") as file:
            file.write(f"{os.getpid()}\n{child.pid}\n{forked.pid}\n")
        if hang and params["x"] != 0.5:
            time.sleep(300)
        return params["x"]

    return f


def all_ended(ledger: Path) -> bool:
    end = time.monotonic() + 10
    pids = [int(line) for line in ledger.read_text().split()]
    assert len(pids) >= 3
    while any(map(is_running, pids)) and time.monotonic() < end:
        time.sleep(0.05)
    return not any(map(is_running, pids))


@linux
def test_a_run_ends_with_all_that_f_has_started(tmp_path: Path) -> None:
    assert states(with_children(tmp_path / "ledger")) == [None] * 3
    assert all_ended(tmp_path / "ledger")


@linux
@pytest.mark.parametrize("error", [KeyboardInterrupt, RuntimeError])
def test_a_run_that_is_cut_short_leaves_no_process(tmp_path: Path, error: type[BaseException]) -> None:
    def breaks(optimizer: Optimizer, trial: Trial) -> None:
        raise error("enough")

    f = with_children(tmp_path / "ledger", hang=True)
    if error is KeyboardInterrupt:
        result = minimize(f, SPACE, 4, workers=2, progress=False, callbacks=[breaks])
        assert result.stopped == "interrupted"
    else:
        with pytest.raises(error):
            minimize(f, SPACE, 4, workers=2, progress=False, callbacks=[breaks])
    assert all_ended(tmp_path / "ledger")


KILLED = """
    import os, subprocess, sys, time
    from pathlib import Path
    from bo_suite import Float, Space, minimize

    def f(params):
        child = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(300)"])
        with Path(sys.argv[1]).open("a") as file:
            file.write(f"{os.getpid()}\\n{child.pid}\\n")
        print("began", flush=True)
        time.sleep(300)

    minimize(f, Space({"x": Float(-1, 2)}), 4, workers=2, progress=False)
"""


@linux
@pytest.mark.slow
def test_workers_and_their_children_end_with_a_parent_that_is_killed(tmp_path: Path) -> None:
    (tmp_path / "script.py").write_text(textwrap.dedent(KILLED))
    command = [sys.executable, str(tmp_path / "script.py"), str(tmp_path / "ledger")]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as parent:
        assert [parent.stdout.readline() for _ in range(2)] == ["began\n"] * 2
        parent.kill()
    assert all_ended(tmp_path / "ledger")


UNSENT = """
    import sys, threading
    from bo_suite import Float, Space, minimize

    lock = threading.Lock()

    def f(params):
        with lock:
            return params["x"]

    if __name__ == "__main__":
        result = minimize(f, Space({"x": Float(-1, 2)}), 3, workers=2, progress=False)
        print([trial.state for trial in result.trials])
"""


@pytest.mark.slow
def test_a_script_whose_names_cannot_be_sent_is_imported(tmp_path: Path) -> None:
    script = tmp_path / "script.py"
    script.write_text(textwrap.dedent(UNSENT))
    run = [sys.executable, str(script)]
    done = subprocess.run(run, capture_output=True, text=True, timeout=240)
    assert done.stdout == "['finished', 'finished', 'finished']\n", done.stderr
    script.write_text(script.read_text().replace('if __name__ == "__main__"', "if True"))
    done = subprocess.run(run, capture_output=True, text=True, timeout=240)
    assert "a script must not start workers while a worker imports it" in done.stderr
    assert done.returncode == 1


@pytest.mark.slow
def test_four_workers_beat_one_and_no_start_is_booked() -> None:
    def f(params: dict) -> float:
        time.sleep(0.5)
        return params["x"]

    seconds = {}
    for workers in (1, 4):
        began = time.monotonic()
        result = minimize(f, SPACE, 12, workers=workers, progress=False)
        seconds[workers] = time.monotonic() - began
        assert sorted(trial.ended - trial.started for trial in result.trials)[6] < 1.0
    assert seconds[4] < 0.75 * seconds[1]


@pytest.mark.slow
def test_a_run_does_not_wait_for_idle_workers_of_joblib() -> None:
    def f(params: dict) -> float:
        from joblib import Parallel, delayed

        return float(sum(Parallel(n_jobs=2)(delayed(abs)(params["x"]) for _ in range(4))))

    ended = []
    minimize(f, SPACE, 4, workers=2, progress=False, callbacks=[lambda *_: ended.append(time.monotonic())])
    assert time.monotonic() - ended[-1] < 20
