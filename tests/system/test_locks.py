"""The lock: fair, re-entrant, interruptible, and free after a fork."""

import subprocess
import sys
import threading
import time
from itertools import pairwise

import pytest

from bo_suite.system.locks import FairLock


def waiting(lock: FairLock, count: int) -> None:
    """Returns once as many threads wait."""
    for _ in range(2000):
        if len(lock._waiting) == count:
            return
        time.sleep(0.001)
    raise AssertionError(f"{count} threads must wait, got {len(lock._waiting)}")


def test_threads_get_it_in_the_order_of_asking() -> None:
    lock, order = FairLock(), []

    def take(number: int) -> None:
        with lock:
            order.append(number)

    threads = [threading.Thread(target=take, args=(number,)) for number in range(8)]
    with lock:
        for number, thread in enumerate(threads):
            thread.start()
            waiting(lock, number + 1)
    for thread in threads:
        thread.join()
    assert order == list(range(8))


def test_one_that_takes_it_again_at_once_comes_after_those_that_wait() -> None:
    lock, turns, end = FairLock(), [], threading.Event()

    def greedy() -> None:
        while not end.is_set():
            with lock:
                turns.append("greedy, another waits" if lock._waiting else "greedy")
                time.sleep(0.002)

    thread = threading.Thread(target=greedy)
    thread.start()
    for _ in range(20):
        with lock:
            turns.append("other")
        time.sleep(0.001)
    end.set()
    thread.join()
    after = [now for before, now in pairwise(turns) if before == "greedy, another waits"]
    assert set(after) <= {"other"}, turns


def test_it_is_entered_again_by_its_thread_and_only_released_by_it() -> None:
    lock = FairLock()
    with lock, lock:
        assert lock.acquire(timeout=0)
        lock.release()
        answers: list[object] = []

        def other() -> None:
            answers.append(lock.acquire(timeout=0.01))
            with pytest.raises(RuntimeError, match="by the thread"):
                lock.release()

        thread = threading.Thread(target=other)
        thread.start()
        thread.join()
        assert answers == [False]
        assert not lock._waiting
    with pytest.raises(RuntimeError, match="by the thread"):
        lock.release()
    assert lock.acquire(timeout=0)


def test_it_loads_nothing() -> None:
    heavy = ("numpy", "torch")
    code = f"import sys, bo_suite.system.locks; print([name for name in {heavy} if name in sys.modules])"
    answer = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert answer.stdout.strip() == "[]"


INTERRUPTED = """
import os, signal, threading, time
from bo_suite.system.locks import FairLock

lock, taken, end = FairLock(), threading.Event(), threading.Event()

def hold():
    with lock:
        taken.set()
        end.wait(20)

thread = threading.Thread(target=hold)
thread.start()
taken.wait()
signal.signal(signal.SIGINT, signal.default_int_handler)  # what runs tests may ignore it
threading.Timer(0.2, os.kill, (os.getpid(), signal.SIGINT)).start()
try:
    lock.acquire()
    print("acquired")
except KeyboardInterrupt:
    print("interrupted", len(lock._waiting))
end.set()
thread.join()
print(lock.acquire(timeout=1))
"""


@pytest.mark.skipif(sys.platform == "win32", reason="signals")
def test_waiting_can_be_interrupted_and_leaves_nothing_behind() -> None:
    answer = subprocess.run([sys.executable, "-c", INTERRUPTED], capture_output=True, text=True, timeout=30)
    assert answer.stdout.split() == ["interrupted", "0", "True"], answer.stderr


FORKED = """
import os, threading, warnings
from bo_suite.system.locks import FairLock

warnings.simplefilter("ignore")
lock, taken, end = FairLock(), threading.Event(), threading.Event()

def hold():
    with lock:
        taken.set()
        end.wait(20)

def answer_of_child(check):
    pid = os.fork()
    if not pid:
        os._exit(0 if check() else 1)
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])

with lock:
    mine = answer_of_child(lambda: lock._owner == threading.get_ident() and lock._depth == 1)
thread = threading.Thread(target=hold)
thread.start()
taken.wait()
others = answer_of_child(lambda: lock.acquire(timeout=1))
end.set()
thread.join()
print(mine, others)
"""


@pytest.mark.skipif(sys.platform == "win32", reason="fork")
def test_a_forked_process_has_it_only_if_the_thread_that_forked_had_it() -> None:
    answer = subprocess.run([sys.executable, "-c", FORKED], capture_output=True, text=True, timeout=30)
    assert answer.stdout.split() == ["0", "0"], answer.stderr
