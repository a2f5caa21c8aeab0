"""Serves a method over lines of JSON: `python -m bo_suite.bench.peers.serve METHOD`.

Each line of standard input is a call, `{"call": NAME, "with": [...]}`: first `start` with a task, then
methods of the run. Each is answered by a line on standard output: `{"answer": ...}`, or
`{"error": TEXT, "kind": CLASS, "trace": TEXT}`. The process ends with its input.
"""

import json
import os
import queue
import sys
import threading
import time
import traceback
from typing import Any, TextIO

from bo_suite.bench.method import AnyMethod, Method, OutcomeMethod, OutcomeTask, Task, task_from_json
from bo_suite.bench.peers import get_method
from bo_suite.errors import DataError

_GRACE = 5.0
"""Seconds for the current call to finish after the input has ended."""


def _read(lines: TextIO, calls: "queue.SimpleQueue[str | None]") -> None:
    for line in lines:
        calls.put(line)
    calls.put(None)
    time.sleep(_GRACE)
    os._exit(1)  # in the middle of a long call, whose answer nobody waits for


def started(method: AnyMethod, task: Task | OutcomeTask) -> Any:
    """The run of the method.

    Raises:
        DataError: the method does not accept the goals of the task.
    """
    if isinstance(task, Task):
        if not isinstance(method, Method):
            raise DataError(f"a method for one value must have `start`, got {method.name}")
        return method.start(task)
    if not isinstance(method, OutcomeMethod) or not method.accepts(task.goals):
        raise DataError(f"a method must accept the goals ({task.goals}), got {method.name}")
    return method.start_outcomes(task)


def serve(method: str, calls: "queue.SimpleQueue[str | None]", answers: TextIO) -> None:
    """Answers calls until there are no more."""
    run: Any = None
    while (line := calls.get()) is not None:
        try:
            call = json.loads(line)
            if call["call"] == "start":
                run, answer = started(get_method(method), task_from_json(*call["with"])), None
            else:
                answer = getattr(run, call["call"])(*call["with"])
            text = json.dumps({"answer": answer})
        except Exception as error:
            fields = {"error": str(error), "kind": type(error).__name__, "trace": traceback.format_exc()}
            text = json.dumps(fields)
        print(text, file=answers, flush=True)


def main() -> None:
    """Runs the command line."""
    # Whatever libraries print to standard output goes to standard error, so it cannot mix with the answers.
    with os.fdopen(os.dup(1), "w", encoding="utf-8") as answers:
        os.dup2(2, 1)
        calls: queue.SimpleQueue[str | None] = queue.SimpleQueue()
        threading.Thread(target=_read, args=(sys.stdin, calls), daemon=True).start()
        serve(sys.argv[1], calls, answers)


if __name__ == "__main__":
    main()
