"""Turns at a history: their order, and all that can happen to processes and to the file where they wait."""

import os
import select
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from bo_suite import Float, Optimizer, Space
from bo_suite.storage import database
from bo_suite.storage.turns import Turns

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="processes take no turns there")

SPACE = Space({"x": Float(0, 1)})

CHILD = """
import sys, time
from pathlib import Path
from bo_suite.storage.turns import Turns

turns = Turns(Path(sys.argv[1]))
for line in sys.stdin:
    began = time.monotonic()
    with turns.turn(float(line)) as own:
        print("own" if own else "without", time.monotonic() - began, flush=True)
        sys.stdin.readline()
    print("left", flush=True)
"""


class Child:
    """Another process, which takes a turn and leaves it when it is told to."""

    def __init__(self, path: Path) -> None:
        self._process = subprocess.Popen(
            [sys.executable, "-c", CHILD, str(path)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )

    def ask(self, patience: float = 20.0) -> None:
        self._say(str(patience))

    def entered(self) -> str:
        return self._hear().split()[0]

    def speaks(self) -> bool:
        """Whether it says something within a moment."""
        return bool(select.select([self._process.stdout], [], [], 0.02)[0])

    def leave(self) -> None:
        self._say("")
        assert self._hear() == "left"

    def signal(self, number: int) -> None:
        self._process.send_signal(number)
        if number == signal.SIGKILL:
            self._process.wait()

    def end(self) -> None:
        self._process.kill()
        self._process.communicate()

    def _say(self, text: str) -> None:
        assert self._process.stdin is not None
        self._process.stdin.write(f"{text}\n")
        self._process.stdin.flush()

    def _hear(self) -> str:
        assert self._process.stdout is not None
        return self._process.stdout.readline().strip()


@contextmanager
def children(path: Path, count: int) -> Iterator[list[Child]]:
    """That many processes, which have loaded what they need."""
    made = [Child(path) for _ in range(count)]
    try:
        for child in made:
            child.ask()
            assert child.entered() == "own"
            child.leave()
        yield made
    finally:
        for child in made:
            child.end()


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "run.db"


def file_of(path: Path) -> Path:
    return path.with_name(f"{path.name}-turns")


def drawn(path: Path) -> int:
    """Number of tickets."""
    return int.from_bytes(file_of(path).read_bytes()[:8]) if file_of(path).exists() else 0


def await_tickets(path: Path, count: int) -> None:
    """Without reading the file here while this process has a turn: closing it would free the turn."""
    command = [sys.executable, "-c", f"import time, pathlib\nfile = pathlib.Path({str(file_of(path))!r})\n"]
    command[-1] += f"while int.from_bytes(file.read_bytes()[:8]) < {count}: time.sleep(.001)"
    subprocess.run(command, timeout=10, check=True)


def test_processes_get_turns_in_the_order_of_asking(path: Path) -> None:
    with children(path, 4) as (first, *others):
        first.ask()
        assert first.entered() == "own"
        for child in others:
            before = drawn(path)
            child.ask()
            await_tickets(path, before + 1)
        waiting = list(others)
        first.leave()
        while waiting:
            child = waiting.pop(0)
            assert child.entered() == "own"
            assert not any(other.speaks() for other in waiting), "one at a time"
            child.leave()


def test_threads_and_a_process_get_turns_in_the_order_of_asking(path: Path) -> None:
    order: list[str] = []
    with children(path, 1) as (child,):
        before = drawn(path)

        def take(name: str) -> None:
            with Turns(path).turn(20.0) as own:
                order.append(f"{name} {own}")

        threads = [threading.Thread(target=take, args=(name,)) for name in "ab"]
        turns = Turns(path)
        with turns.turn(20.0) as own:
            assert own
            threads[0].start()
            time.sleep(0.05)
            child.ask()
            await_tickets(path, before + 2)  # ours and the child's: a thread here draws when it is the first
            threads[1].start()
            time.sleep(0.05)
        assert child.entered() == "own"
        order.append("child")
        child.leave()
        for thread in threads:
            thread.join()
    assert order == ["child", "a True", "b True"]


@pytest.mark.parametrize("waits", [False, True])
def test_a_process_that_is_killed_in_its_turn_or_before_holds_nobody_up(path: Path, waits: bool) -> None:
    with children(path, 2) as (first, second):
        first.ask()
        first.entered()
        if waits:
            before = drawn(path)
            second.ask()
            await_tickets(path, before + 1)
            second.signal(signal.SIGKILL)
            first.leave()
        else:
            first.signal(signal.SIGKILL)
        with Turns(path).turn(5.0) as own:
            assert own


@pytest.mark.parametrize("waits", [False, True])
def test_a_stopped_process_holds_others_up_once_and_no_longer_than_the_patience(
    path: Path, waits: bool
) -> None:
    with children(path, 2) as (first, second):
        first.ask()
        first.entered()
        stopped = first
        if waits:
            before = drawn(path)
            second.ask()
            await_tickets(path, before + 1)
            stopped = second
        stopped.signal(signal.SIGSTOP)
        if waits:
            first.leave()
        turns, owns = Turns(path), []
        for _ in range(6):
            with turns.turn(0.2) as own:
                owns.append(own)
        assert not owns[0]
        # the one that was stopped while it waited may have been counted as the latest turn of the other
        assert sum(owns) >= 4
        stopped.signal(signal.SIGCONT)
        if waits:
            assert second.entered() == "own", "it waits at a file that is gone, and draws a ticket anew"
        stopped.leave()
        with turns.turn(5.0) as own:
            assert own


def test_those_who_wait_at_a_file_that_is_removed_draw_tickets_anew(path: Path) -> None:
    with children(path, 3) as (first, *others):
        first.ask()
        first.entered()
        for child in others:
            before = drawn(path)
            child.ask()
            await_tickets(path, before + 1)
        file_of(path).unlink()
        entered = others if others[0].speaks() or not others[1].speaks() else others[::-1]
        assert entered[0].entered() == "own", "the first of the new file"
        assert not entered[1].speaks()
        entered[0].leave()
        assert entered[1].entered() == "own"
        entered[1].leave()
        first.leave()


def read_only(file: Path) -> None:
    file.write_bytes(b"")
    file.chmod(0o400)


CONTENTS = {
    "empty": lambda file: file.write_bytes(b""),
    "garbage": lambda file: file.write_text("this is no number at all, and it is long"),
    "huge": lambda file: file.write_bytes(b"\xff" * 64),
    "the last number": lambda file: file.write_bytes((2**48 - 1).to_bytes(8)),
    "short": lambda file: file.write_bytes(b"\x01"),
    "read-only": read_only,
    "a folder": lambda file: file.mkdir(),
    "a pipe": lambda file: os.mkfifo(file),
    "a loop": lambda file: file.symlink_to(file),
    "a link elsewhere": lambda file: file.symlink_to(file.with_name("precious")),
}


@pytest.mark.parametrize("content", CONTENTS)
def test_whatever_lies_where_they_wait_nobody_is_held_up(path: Path, content: str) -> None:
    precious = path.with_name("precious")
    precious.write_text("a text of 8")
    CONTENTS[content](file_of(path))
    turns = Turns(path)
    usable = content in ("empty", "garbage", "huge", "the last number", "short")
    for _ in range(4):
        with turns.turn(5.0) as own:
            assert own or not usable
            with Turns(path).turn(5.0):
                pass
    turns.forget()
    assert precious.read_text() == "a text of 8"
    optimizer = Optimizer(SPACE, storage=path)
    optimizer.tell(optimizer.ask(), 1.0)
    optimizer.close()


def test_a_turn_within_a_turn_is_part_of_it(path: Path) -> None:
    with children(path, 1) as (child,):
        turns = Turns(path)
        with turns.turn(5.0) as own:
            with Turns(path).turn(5.0) as inner:
                assert (own, inner) == (True, True)
            Turns(path).forget()  # as another Optimizer on the file that is closed
            child.ask(0.05)
            assert child.entered() == "without", "the outer turn goes on"
            child.leave()
        child.ask()
        assert child.entered() == "own"
        child.leave()


def test_a_process_that_is_forked_in_a_turn_leaves_it_to_its_parent(path: Path) -> None:
    code = f"""
import os, sys, time, warnings
from pathlib import Path
from bo_suite.storage.turns import Turns
warnings.simplefilter("ignore")
path = Path({str(path)!r})
turns = Turns(path)
with turns.turn(5.0) as own:
    pid = os.fork()
    if not pid:
        with turns.turn(5.0):
            pass
if not pid:
    os._exit(0)
code = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
with turns.turn(5.0) as again:
    pass
print(own, code, again)
"""
    answer = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=30)
    assert answer.stdout.split() == ["True", "0", "True"], answer.stderr


def test_a_forked_process_that_ends_does_not_end_its_parents_turn(path: Path) -> None:
    code = f"""
import os, subprocess, sys, warnings
from pathlib import Path
from bo_suite.storage.turns import Turns
warnings.simplefilter("ignore")
path = Path({str(path)!r})
other = "import sys; from pathlib import Path; from bo_suite.storage.turns import Turns\\n"
other += "with Turns(Path(sys.argv[1])).turn(0.05) as own: print(own)"
with Turns(path).turn(5.0):
    if not (pid := os.fork()):
        os._exit(0)
    os.waitpid(pid, 0)
    print(subprocess.run([sys.executable, "-c", other, str(path)], capture_output=True, text=True).stdout)
"""
    answer = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=30)
    assert answer.stdout.split() == ["False"], answer.stderr


def test_histories_in_memory_have_turns_of_their_own_and_no_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    one, other = Turns(None), Turns(None)
    seen = []

    def take(turns: Turns) -> None:
        with turns.turn(0.05) as own:
            seen.append(own)

    with one.turn(5.0) as own:
        assert own
        for turns in (one, other):
            thread = threading.Thread(target=take, args=(turns,))
            thread.start()
            thread.join()
    one.forget()
    assert seen == [False, True]
    assert not any(tmp_path.iterdir())


def test_all_paths_to_a_file_lead_to_one_queue(
    path: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path.write_bytes(b"")
    folder = tmp_path / "elsewhere"
    folder.mkdir()
    link, linked_folder = folder / "link.db", tmp_path / "linked"
    link.symlink_to(path)
    linked_folder.symlink_to(tmp_path)
    monkeypatch.chdir(tmp_path)
    with children(link, 1) as (child,):
        for one in (path, Path(path.name), link, linked_folder / path.name):
            with Turns(one).turn(5.0) as own:
                assert own
                assert file_of(path).exists()
                child.ask(0.05)
                assert child.entered() == "without"
                child.leave()
    assert not any(folder.glob("*-turns"))


def test_the_file_is_removed_by_the_last_one_who_leaves(path: Path) -> None:
    with children(path, 1) as (child,):
        turns = Turns(path)
        child.ask()
        child.entered()
        turns.forget()
        assert file_of(path).exists(), "somebody has a turn"
        child.leave()
        turns.forget()
        turns.forget()
        assert not file_of(path).exists()
        child.ask()
        assert child.entered() == "own"
        child.leave()


def test_removing_the_file_races_with_turns_and_two_never_have_one(path: Path) -> None:
    code = f"""
from pathlib import Path
from bo_suite.storage.turns import Turns
turns = Turns(Path({str(path)!r}))
print("ready", flush=True)
while True:
    turns.forget()
"""
    with subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True) as process:
        try:
            assert process.stdout is not None
            process.stdout.readline()
            witness = path.with_name("witness")
            worker = f"""
import os, time
from pathlib import Path
from bo_suite.storage.turns import Turns
turns, bad = Turns(Path({str(path)!r})), 0
for _ in range(150):
    with turns.turn(5.0) as own:
        assert own
        try:
            os.close(os.open({str(witness)!r}, os.O_CREAT | os.O_EXCL))
            time.sleep(0.0002)
            os.unlink({str(witness)!r})
        except FileExistsError:
            bad += 1
print(bad)
"""
            workers = [
                subprocess.Popen([sys.executable, "-c", worker], stdout=subprocess.PIPE, text=True)
                for _ in range(2)
            ]
            answers = [one.communicate(timeout=30)[0].strip() for one in workers]
        finally:
            process.kill()
    assert answers == ["0", "0"]


def test_an_ask_goes_on_without_a_turn(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(database, "BUSY_TIMEOUT_S", 0.1)
    optimizer = Optimizer(SPACE, storage=path)
    optimizer.ask()  # loads what it needs
    with children(path, 1) as (child,):
        child.ask()
        child.entered()
        child.signal(signal.SIGSTOP)
        trials = [optimizer.ask() for _ in range(4)]
        child.signal(signal.SIGCONT)
        child.leave()
    assert [trial.id for trial in trials] == [1, 2, 3, 4]
    optimizer.close()
    assert not file_of(path).exists()


def test_an_ask_that_fails_or_is_interrupted_gives_its_turn_back(path: Path) -> None:
    class Interrupted:
        def build(self, data: object, seeds: object, start: object = None) -> None:
            raise KeyboardInterrupt

    optimizer = Optimizer(SPACE, Interrupted(), storage=path)
    for value in range(6):
        optimizer.tell(optimizer.ask(), value)
    with pytest.raises(KeyboardInterrupt):
        optimizer.ask()
    with children(path, 1):
        pass
    optimizer.close()
