"""Who a running trial belongs to, by the name of its owner: other boots, containers, hosts and versions."""

import os
import platform
import shutil
import subprocess
import sys
from contextlib import closing
from pathlib import Path

import pytest
from histories import SPACE

import bo_suite
from bo_suite import Optimizer
from bo_suite.system import owners
from bo_suite.system.owners import is_own, is_owner, is_process_alive, new_owner, start_time

PID, PARENT = os.getpid(), os.getppid()
GONE = 2**22 + 5
"""Above the largest process id of Linux."""


@pytest.fixture
def machine(monkeypatch: pytest.MonkeyPatch) -> str:
    """A host whose boot and PID namespace are known."""
    name = "node/boot-2/4026531836"
    monkeypatch.setattr(owners, "_machine", lambda: name)
    monkeypatch.setattr(platform, "node", lambda: "node")
    return name


def start(pid: int) -> str:
    found = start_time(pid)
    assert found is not None
    return found


def test_a_name_is_its_own_and_lives() -> None:
    name, other = new_owner(), new_owner()
    assert name != other
    assert is_owner(name)
    assert is_own(name)
    assert is_process_alive(name)
    machine, pid, *_ = name.rsplit(":", 3)
    assert (machine.count("/"), pid) == (2, str(PID))


@pytest.mark.parametrize(
    ("machine_of_owner", "pid", "started", "alive"),
    [
        ("node/boot-2/4026531836", PARENT, "now", True),
        ("node/boot-2/4026531836", PARENT, "5", False),  # the number names another process now
        ("node/boot-2/4026531836", PARENT, "", True),  # its start time was not known
        ("node/boot-2/4026531836", GONE, "5", False),
        ("node/boot-1/4026531836", PARENT, "now", False),  # before the machine was started anew
        ("node/boot-1/4026531836", 1, "now", False),  # as does the first process of a container
        ("node/boot-1/4026532999", 1, "now", False),  # in a container, before the machine was started anew
        ("node/boot-2/4026532999", GONE, "5", True),  # in another container: not to be seen from here
        ("node/boot-2/4026532999", 1, "5", True),
        ("node//4026532999", GONE, "5", True),  # its boot was not known
        ("node/boot-2/", GONE, "5", False),  # its namespace was not known
        ("node//", PARENT, "now", True),
        ("node//", GONE, "5", False),
        ("elsewhere/boot-2/4026531836", GONE, "5", True),
        ("elsewhere/boot-1/4026531836", GONE, "5", True),
        ("node", PARENT, "now", True),  # as version 0.8.0 named it
        ("node", PARENT, "5", False),
        ("node", GONE, "", False),
        ("elsewhere", GONE, "5", True),
        ("fe80::1%eth0", GONE, "5", True),
        ("fe80::1%eth0/boot-2/4026531836", GONE, "5", True),
        ("a/b/c", GONE, "5", True),
        ("a/b", GONE, "5", True),
        ("", GONE, "5", True),
        ("node/boot-2/4026531836/more", GONE, "5", True),
    ],
)
def test_who_lives(machine: str, machine_of_owner: str, pid: int, started: str, alive: bool) -> None:
    name = f"{machine_of_owner}:{pid}:{start(pid) if started == 'now' else started}:abc"
    assert is_owner(name)
    assert is_process_alive(name) is alive


@pytest.mark.parametrize("host", ["node", "fe80::1", "a/b", "a:7:8:9", "ho st", "ünï", "", "x" * 300])
@pytest.mark.parametrize("tail", ["/boot/5", "//", ""], ids=["known", "unknown", "0.8.0"])
def test_any_host_name_will_do(monkeypatch: pytest.MonkeyPatch, host: str, tail: str) -> None:
    monkeypatch.setattr(platform, "node", lambda: host)
    monkeypatch.setattr(owners, "_machine", lambda: f"{host}{tail or '/boot/5'}")
    name = f"{host}{tail}:{PID}:{start(PID)}:abc"
    assert is_owner(name)
    assert is_own(name)
    assert is_process_alive(name)
    assert not is_process_alive(f"{host}{tail}:{GONE}:5:abc")


def test_this_process_by_the_name_that_0_8_0_gave_it(machine: str) -> None:
    assert is_own(f"node:{PID}:{start(PID)}:abc")
    assert not is_own(f"node:{PID}:5:abc"), "an earlier process of that number"
    assert not is_own(f"node:{PARENT}:{start(PARENT)}:abc")
    assert not is_own(f"node/boot-2/4026532999:{PID}:{start(PID)}:abc"), "of another container"
    assert not is_own(f"node/boot-1/4026531836:{PID}:{start(PID)}:abc"), "of an earlier boot"


@pytest.mark.parametrize(
    "text",
    [
        *("", "x", "a:b:c:d", "host:1:2", ":::", "host::5:abc", "host:-1:5:abc", "host:1.5:5:abc", 7, None),
        *("host: 1:5:abc", f"host:{'9' * 20}:5:abc", b"host:1:5:abc"),
    ],
)
def test_what_is_no_name(text: object) -> None:
    assert not is_owner(text)


@pytest.mark.parametrize("pid", [0, GONE, 10**18])
def test_a_process_that_is_not_there(pid: int) -> None:
    assert start_time(pid) is None or pid == 0


UNSHARED = """
import sys
from bo_suite.storage.history import History
history = History.open(sys.argv[1], None)
print(history.reclaim(), flush=True)
history.insert([history.trials()[0].params], [{}], expected=None)
print("asked", flush=True)
sys.stdin.readline()
"""


def unshared(path: Path) -> "subprocess.Popen[str]":
    """A process of a PID namespace of its own, which asks and stays."""
    command = ["unshare", "--pid", "--fork", sys.executable, "-c", UNSHARED, str(path)]
    root = str(Path(bo_suite.__file__).parents[1])
    return subprocess.Popen(
        command,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env=os.environ | {"PYTHONPATH": root},
    )


def test_a_living_owner_in_another_container_keeps_its_trial(tmp_path: Path) -> None:
    if shutil.which("unshare") is None:
        pytest.skip("needs the program unshare")
    probe = subprocess.run(["unshare", "--pid", "--fork", "true"], capture_output=True, text=True)
    if probe.returncode:
        pytest.skip(f"needs a PID namespace of its own: {probe.stderr.strip()}")
    path = tmp_path / "run.db"
    with closing(Optimizer(SPACE, storage=path)) as optimizer:
        optimizer.ask()
        asker = unshared(path)
        assert asker.stdin is not None
        assert asker.stdout is not None
        try:
            assert asker.stdout.readline() == "[]\n", "ours lives, as seen from there"
            assert asker.stdout.readline() == "asked\n"
            assert optimizer.reclaim() == [], "its trial lives, as seen from here"
            assert [trial.attempt for trial in optimizer.trials] == [1, 1]
        finally:
            asker.communicate("\n", timeout=60)
        assert optimizer.tell(1, 0.5).state == "finished", "told by somebody who knows that it is gone"
