"""The way of a report to its run: pickles, connections, forks, and processes that do not find it."""

import multiprocessing
import os
import pickle
import threading
from dataclasses import replace
from multiprocessing import AuthenticationError, connection
from pathlib import Path

import pytest

from bo_suite import Float, Optimizer, Space
from bo_suite.errors import StorageError, TrialError
from bo_suite.run import reporting
from bo_suite.run.evaluate import EvaluationEnded
from bo_suite.run.report_server import ReportServer
from bo_suite.run.reporting import Reporter, Route, answered
from bo_suite.run.schedulers import ASHA


@pytest.fixture
def optimizer() -> Optimizer:
    return Optimizer(Space({"x": Float(0.0, 1.0)}), scheduler=ASHA(9))


def from_elsewhere(reporter: Reporter, monkeypatch: pytest.MonkeyPatch) -> Reporter:
    """The reporter as another process gets it."""
    sent = pickle.dumps(reporter)
    with monkeypatch.context() as patch:
        patch.setattr(reporting, "receivers", {})
        got: Reporter = pickle.loads(sent)
    return got


def test_a_reporter_finds_its_run_again(optimizer: Optimizer, monkeypatch: pytest.MonkeyPatch) -> None:
    trial = optimizer.ask()
    with ReportServer(optimizer) as server:
        (reporter,) = server.reporters(trial)
        here = pickle.loads(pickle.dumps(reporter))
        there = from_elsewhere(reporter, monkeypatch)
        again = from_elsewhere(there, monkeypatch)
        for step, one in enumerate((reporter, here, there, again), 1):
            assert one.step == step - 1
            assert one(step, 10.0 - step) == "continue"
        there.close()
        assert there(5, 1.0) == "continue", "it connects again"
        assert [report.value for report in optimizer.trial(0).reports] == [9.0, 8.0, 7.0, 6.0, 1.0]
        there.close()
        again.close()


def test_a_report_after_the_run_is_refused(optimizer: Optimizer, monkeypatch: pytest.MonkeyPatch) -> None:
    trial = optimizer.ask()
    with ReportServer(optimizer) as server:
        (reporter,) = server.reporters(trial)
        late, connected = (from_elsewhere(reporter, monkeypatch) for _ in range(2))
        connected(1, 1.0)
    for one in (reporter, connected):
        with pytest.raises(EvaluationEnded):
            one(2, 1.0)
    with pytest.raises(TrialError, match=r"a report needs the process of its run, or a storage that is"):
        late(2, 1.0)
    assert optimizer.trial(0).step == 1


def test_from_another_machine_a_database_is_needed(
    optimizer: Optimizer, monkeypatch: pytest.MonkeyPatch
) -> None:
    with ReportServer(optimizer) as server:
        _, (route,) = server.__reduce__()
        assert isinstance(route, Route)
        assert repr(route).find(repr(route.secret)) < 0
        far = Reporter(0, 1, reporting.reached(replace(route, process=-1, host="elsewhere")), None)
        with pytest.raises(TrialError, match=r"which other machines reach, got .* of elsewhere is not found"):
            far(1, 1.0)
        opened = []
        monkeypatch.setattr(Optimizer, "resume", lambda place: opened.append(place) or optimizer)
        monkeypatch.setattr(optimizer, "close", lambda: opened.append("closed"))
        trial = optimizer.ask()
        stored = replace(route, process=-1, host="elsewhere", database="postgresql://db/bo?run=a")
        far = Reporter(trial.id, 1, reporting.reached(stored), None)
        assert far(1, 1.0) == "continue"
        far.close()
    assert optimizer.trial(0).step == 1
    assert opened == ["postgresql://db/bo?run=a", "closed"]


def test_nobody_without_the_secret_reports(optimizer: Optimizer, monkeypatch: pytest.MonkeyPatch) -> None:
    trial = optimizer.ask()
    with ReportServer(optimizer) as server:
        _, (route,) = server.__reduce__()
        with pytest.raises(AuthenticationError):
            connection.Client(route.address, authkey=b"another")
        with connection.Client(route.address, authkey=route.secret) as channel:
            channel.send_bytes(b"no JSON")
            assert b"JSONDecodeError" in channel.recv_bytes()
            channel.send_bytes(b'["report", 7, 1, 1, 1.0]')
            assert b"must be of a trial of this run" in channel.recv_bytes()
        (reporter,) = server.reporters(trial)
        there = from_elsewhere(reporter, monkeypatch)
        assert there(1, 1.0) == "continue"
        there.close()


def test_errors_keep_their_class_if_it_is_one_of_ours(
    optimizer: Optimizer, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(*arguments: object) -> None:
        raise errors.pop()

    errors = [KeyError("x"), StorageError("the disk is full")]
    monkeypatch.setattr(optimizer, "report", broken)
    trial = optimizer.ask()
    with ReportServer(optimizer) as server:
        (reporter,) = server.reporters(trial)
        there = from_elsewhere(reporter, monkeypatch)
        with pytest.raises(StorageError, match=r"^the disk is full$"):
            there(1, 1.0)
        with pytest.raises(RuntimeError, match="KeyError: 'x'"):
            there(1, 1.0)
        there.close()
    assert answered(b"[]", server).startswith(b'{"error"')


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
def test_a_forked_child_does_not_report_into_its_copy(optimizer: Optimizer) -> None:
    trial = optimizer.ask()
    with ReportServer(optimizer) as server:
        (reporter,) = server.reporters(trial)
        context = multiprocessing.get_context("fork")
        texts = context.SimpleQueue()

        def report() -> None:
            try:
                reporter(1, 1.0)
            except TrialError as error:
                texts.put(str(error))

        child = context.Process(target=report)
        child.start()
        assert "the process that f was called in" in texts.get()
        child.join()


def test_a_path_that_is_too_long_for_a_socket(optimizer: Optimizer, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(family: str) -> str:
        return "/" + "x" * 200

    monkeypatch.setattr(connection, "arbitrary_address", refuse)
    trial = optimizer.ask()
    with ReportServer(optimizer) as server:
        (reporter,) = server.reporters(trial)
        there = from_elsewhere(reporter, monkeypatch)
        assert there(1, 1.0) == "continue"
        there.close()


def test_reports_of_many_threads_are_all_stored(optimizer: Optimizer, tmp_path: Path) -> None:
    trials = optimizer.ask(6)
    with ReportServer(optimizer) as server:
        reporters = [server.reporters(trial)[0] for trial in trials]

        def report(reporter: Reporter) -> None:
            for step in range(1, 10):
                reporter(step, 1.0)

        threads = [threading.Thread(target=report, args=(reporter,)) for reporter in reporters]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    assert [trial.step for trial in optimizer.trials] == [9] * 6
