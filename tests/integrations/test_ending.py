"""Which schedulers are refused where no trial can be paused."""

import pytest

from bo_suite.integrations.ending import check_ending
from bo_suite.run import schedulers
from bo_suite.storage.trial import Report, Trial
from bo_suite.study.scheduling import CurveModel, Progress, Scheduler

LAST = 9


def no_curves() -> CurveModel:
    raise AssertionError("the first trial is judged without a model")


@pytest.mark.parametrize("name", schedulers.__all__)
def test_exactly_those_that_pause_are_refused(name: str) -> None:
    scheduler: Scheduler = getattr(schedulers, name)(LAST)
    reports = tuple(Report(step, 1.0, 1.0, 1) for step in range(1, LAST))
    trial = Trial(0, {}, "running", None, None, None, 1, True, {}, 0.0, None, reports=reports)
    if scheduler.verdict(trial, Progress([trial], 0, 1.0, no_curves)) == "pause":
        with pytest.raises(ValueError, match=f"^it must end trials, got {name}, which pauses them$"):
            check_ending(scheduler, "it must end trials")
    else:
        check_ending(scheduler, "it must end trials")


def test_it_must_be_a_scheduler() -> None:
    with pytest.raises(ValueError, match="a scheduler must be an object"):
        check_ending(LAST, "it must end trials")
