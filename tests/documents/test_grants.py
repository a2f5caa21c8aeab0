"""The rights that docs/cluster.md grants are enough for a worker and for a reader, and no more."""

from collections.abc import Iterator
from contextlib import closing
from typing import Any

import psycopg
import pytest
from code_blocks import ROOT, code_blocks
from postgres_server import Server

from bo_suite import Float, Optimizer, Space
from bo_suite.errors import StorageError
from bo_suite.storage.addresses import parsed
from bo_suite.storage.runs import remove_run

SPACE = Space({"x": Float(0, 1)})


@pytest.fixture
def granted(postgres_server: Server, monkeypatch: pytest.MonkeyPatch) -> Iterator[Server]:
    """A server on which the statements of the page were executed by the role that creates runs."""
    (block,) = [one for one in code_blocks(ROOT / "docs" / "cluster.md") if "DEFAULT PRIVILEGES" in one.code]
    names: dict[str, Any] = {"psycopg": psycopg}
    exec(block.code.partition("with ")[0], names)
    postgres_server.create_database("granted")
    postgres_server.execute(names["grants"], database="granted")
    for role in ("bo_worker", "bo_reader"):
        postgres_server.execute(f"ALTER ROLE {role} PASSWORD 'hush'")
    yield postgres_server
    postgres_server.execute("DROP DATABASE granted WITH (FORCE)")
    for role in ("bo_worker", "bo_reader"):
        postgres_server.execute(f"DROP ROLE {role}")


def test_a_worker_can_ask_and_a_reader_can_look(granted: Server) -> None:
    owner, worker, reader = (
        granted.url("granted", user, password, run="a")
        for user, password in (("postgres", None), ("bo_worker", "hush"), ("bo_reader", "hush"))
    )
    Optimizer(SPACE, storage=owner).close()
    with closing(Optimizer.resume(worker)) as optimizer:
        optimizer.enqueue({"x": 0.5})
        trial = optimizer.ask()
        optimizer.report(trial, 1, 3.0)
        optimizer.tell(trial, 1.0)
        optimizer.amend(0, 2.0)
        running = optimizer.ask()
        assert optimizer.reclaim() == []
    with closing(Optimizer.resume(reader)) as optimizer:
        assert [trial.value for trial in optimizer.trials] == [2.0, None]
        assert len(optimizer.to_frame(history=True)) == 1
        assert len(optimizer._history.holders()) == 1
        for call in (optimizer.ask, lambda: optimizer.tell(running, 1.0), optimizer.dequeue):
            with pytest.raises(StorageError, match="the storage is read-only and cannot be changed"):
                call()
    with pytest.raises(StorageError, match="the role has no right to do that"):
        Optimizer(SPACE, storage=worker.replace("run=a", "run=b"))
    for url in (worker, reader):
        with pytest.raises(StorageError, match="the role has no right to do that"):
            remove_run(parsed(url))
