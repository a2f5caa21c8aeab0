"""Checks of what an Optimizer is given; torch is imported only if it is needed."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from bo_suite.errors import SpaceError, TrialError
from bo_suite.space.checks import check_searchable
from bo_suite.space.space import Params, Space
from bo_suite.storage.goals import Goals
from bo_suite.storage.protocol import Storage
from bo_suite.storage.serialization import to_json
from bo_suite.storage.trial import Header, Trial
from bo_suite.study.scheduling import Scheduler
from bo_suite.values.describe import described
from bo_suite.values.numbers import require_int
from bo_suite.values.scalars import flag

if TYPE_CHECKING:
    from bo_suite.acquisition import Acquisition


@dataclass(frozen=True)
class Settings:
    """Arguments of an Optimizer that a later one may change.

    Attributes:
        budget: number of planned evaluations, or None.
        initial: number of space-filling points, or None.
        repeats: whether points may be evaluated again under noise, or None.
        scheduler: stops trials while they run, or None.
    """

    budget: int | None
    initial: int | None
    repeats: bool | None
    scheduler: Scheduler | None = None


def header_of(
    space: Space, acquisition: "Acquisition | None", seed: int, goals: Goals, settings: Settings
) -> Header:
    """The header of a history with these arguments.

    Raises:
        SpaceError, TrialError: an argument breaks a rule.
    """
    check_space(space)
    check_searchable(space.varying.dim)  # before a file is created
    budget, initial, repeats = settings.budget, settings.initial, settings.repeats
    scheduler = settings.scheduler
    if repeats and goals.several:
        raise TrialError(
            "repeats must be False or None with several objectives: what a repeat teaches is unknown"
        )
    return Header(
        space,
        seed=require_int("seed", seed),
        direction=goals.direction,
        budget=None if budget is None else require_int("budget", budget, at_least=1),
        initial=None if initial is None else require_int("initial", initial, at_least=1),
        acquisition=None if acquisition is None else json_of(acquisition, space, goals),
        repeats=None if repeats is None else flag("repeats", repeats, TrialError),
        constraints=goals.limits,
        scheduler=None if scheduler is None else scheduler_form(scheduler, space, goals),
    )


def check_space(space: object) -> None:
    """Raises a SpaceError unless the object is a Space."""
    if not isinstance(space, Space):
        raise SpaceError(f"an Optimizer needs a Space, got {described(space)}")


def trial_id(trial: Trial | int, run: str) -> tuple[int, int | None]:
    """The id and, if the argument is a Trial, its attempt.

    Args:
        trial: a trial or its id.
        run: name of the history that it must belong to.

    Raises:
        TrialError: it belongs to another history.
    """
    if not isinstance(trial, Trial):
        return require_int("a trial's id", trial), None
    if trial.run and run and trial.run != run:
        raise TrialError(f"trial {trial.id} must be one of this history, got one of another history")
    return trial.id, trial.attempt


def found(history: Storage, number: object) -> Trial:
    """The trial of a history with an id; raises a TrialError if there is none."""
    if (trial := history.trial(require_int("a trial's id", number))) is None:
        raise TrialError(f"a trial must be one of this history, got unknown id {number}")
    return trial


def json_of(acquisition: "Acquisition", space: Space, goals: Goals) -> Any:
    """The JSON form of an acquisition, which must support the space and the goals."""
    from bo_suite.acquisition.base import require_support
    from bo_suite.study.suggest import check_acquisition

    check_acquisition(acquisition)
    require_support(acquisition, space.aspects | goals.aspects)
    return to_json(acquisition)


def scheduler_form(scheduler: object, space: Space, goals: Goals) -> Any:
    """The JSON form of a scheduler, which must fit the space and the goals.

    Raises:
        TrialError: it is no scheduler, or does not fit.
    """
    check_scheduler(scheduler)
    check_judgeable(space, goals)
    return to_json(scheduler)


def check_judgeable(space: Space, goals: Goals) -> None:
    """Raises a TrialError unless a scheduler can judge trials of the space and the goals."""
    if space.fidelities:
        raise TrialError(
            "a run has either a scheduler or fidelities, got a scheduler and the fidelities "
            f"{list(space.target_fidelity)}: remove one or the other"
        )
    if goals.several or goals.constraints:
        what = "several objectives" if goals.several else "constraints"
        raise TrialError(f"a scheduler needs one objective without constraints, got {what}")


def check_scheduler(scheduler: object) -> None:
    """Raises a TrialError unless the object is a scheduler."""
    if isinstance(scheduler, type) or not isinstance(scheduler, Scheduler):
        law = "a scheduler must be an object with max_step, rungs, verdict and promoted, such as ASHA(52)"
        raise TrialError(f"{law}, got {described(scheduler)}")
    require_int("max_step", scheduler.max_step, at_least=1)


def usable(device: object) -> Any:
    """The device, checked for double precision; "cpu" is not checked, as that would import torch."""
    if isinstance(device, str) and device == "cpu":
        return device
    from bo_suite.linalg.environment import usable_device

    return usable_device(device)


def checked_ask(
    count: int | None, batch: object, fixed: Params | None, budget: int | None, space: Space
) -> tuple[int, int | None]:
    """The number of points to ask for and the budget, after a check of all arguments of `Optimizer.ask`."""
    check_fixed(fixed, space, "ask")
    if batch is not None:
        _check_batch(batch, space)
    number = 1 if count is None else require_int("count", count, at_least=1)
    return number, None if budget is None else require_int("budget", budget, at_least=1)


def _check_batch(batch: object, space: Space) -> None:
    """Raises a TrialError unless points can be chosen jointly by `batch` in the space."""
    from bo_suite.acquisition import SteinBatch

    if space.fidelities or not isinstance(batch, SteinBatch):
        law = "a batch must be a SteinBatch(), and no fidelity in the space"
        raise TrialError(f"{law}, got {described(batch)}")


def check_fixed(fixed: Params | None, space: Space, call: str) -> None:
    """Raises a SpaceError unless the values are of the space, with one for each context.

    Args:
        fixed: values by name, or None.
        space: of the run.
        call: name of the method, for the message.
    """
    known = space.check_some(fixed or {})
    if missing := [name for name in space.contexts if name not in known]:
        raise SpaceError(
            f"every context must be given, as in {call}(fixed={{{missing[0]!r}: ...}}), missing {missing}"
        )


def listed_points(points: object) -> list[Params]:
    """One point, or several ones, as a list of points.

    Raises:
        SpaceError: it is neither.
    """
    listed = [points] if isinstance(points, Mapping) else points
    if isinstance(listed, Sequence) and all(isinstance(point, Mapping) and point for point in listed):
        return [dict(point) for point in listed]
    law = "points must be a dict with at least one parameter, or a list of such dicts"
    raise SpaceError(f"{law}, got {described(points)}")
