"""What an Optimizer needs of a storage."""

from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any, Protocol, SupportsFloat

from bo_suite.space.space import Params, Space
from bo_suite.storage.addresses import Address
from bo_suite.storage.by_parameter import ByName
from bo_suite.storage.changes import Change
from bo_suite.storage.goals import Noise, Told
from bo_suite.storage.leases import ATTEMPTS, Holder
from bo_suite.storage.trial import Header, Observation, Queued, Snapshot, Trial, Verdict


class Storage(Protocol):
    """The trials of one optimiser, shared by threads and processes; `History` is one.

    Each verb takes effect as a whole or not at all, and what it stored survives a crash once it returns.
    tests/storage/test_storage_contract.py holds the rules for all implementations.

    Attributes:
        place: where it is; None if it is in memory.
        header: space, seed, goals and settings; others may change the space.
    """

    place: Path | Address | None

    @property
    def header(self) -> Header: ...

    def trials(self) -> list[Trial]:
        """All trials, ordered by id, as a new list."""

    def trial(self, number: int) -> Trial | None:
        """The trial of an id; None if there is no such trial."""

    def turn(self) -> AbstractContextManager[bool]:
        """Waits until earlier callers have left their turns; yields False if that took too long."""

    def insert(
        self,
        params: Sequence[Params],
        provenance: Sequence[Mapping[str, Any]],
        *,
        expected: int | None,
        space: Space | None = None,
        queued: Sequence[int] = (),
    ) -> list[Trial] | None:
        """Stores running trials in place of queued points; None if they were chosen from an earlier state."""

    def add_all(self, observations: Sequence[Observation]) -> list[Trial]:
        """Stores observations that were not asked for."""

    def enqueue(self, points: Sequence[Params], *, repeats: bool = True) -> list[Queued]:
        """Stores points to be asked next; without `repeats` those alone that are not present yet."""

    def dequeue(self) -> list[Queued]:
        """Removes all queued points."""

    def snapshot(self) -> Snapshot:
        """Header, trials and queue at one instant."""

    def queue(self) -> list[Queued]:
        """The points that are asked next, in order."""

    def tell(
        self,
        trial: int,
        value: Told,
        std: Noise = None,
        attempt: int | None = None,
        gradient: ByName = None,
        params_std: ByName = None,
    ) -> Trial:
        """Finishes a running trial."""

    def report(
        self,
        trial: int,
        step: int,
        value: SupportsFloat,
        seconds: SupportsFloat | None = None,
        attempt: int | None = None,
        verdict: Verdict | None = None,
    ) -> Trial:
        """Stores an intermediate outcome of a running trial."""

    def decide(self, trial: int, step: int, verdict: Verdict, attempt: int | None = None) -> Trial:
        """Stores the verdict of a report; "stop" and "pause" end the attempt."""

    def promote(self, trial: int, expected_attempt: int) -> Trial | None:
        """Continues a paused trial here; None if it is not paused any more."""

    def fail(
        self,
        trial: int,
        reason: str,
        attempt: int | None = None,
        *,
        transient: bool = False,
        traceback: str | None = None,
    ) -> Trial:
        """Ends a running trial that has no value."""

    def withdraw(
        self, trial: int, reason: str = "withdrawn", attempt: int | None = None, *, requeue: bool = False
    ) -> Trial:
        """Ends a running trial that will not be evaluated; with `requeue` its point is queued as well."""

    def amend(
        self, trial: int, value: Told, std: Noise = None, gradient: ByName = None, params_std: ByName = None
    ) -> Trial:
        """Corrects the outcome of a trial in any state."""

    def forget(self, trial: int, reason: str) -> Trial:
        """Removes a trial in any state from what is learnt from."""

    def extend(self, before: Space, space: Space, values: Params) -> None:
        """Replaces the space, with values of new parameters in earlier trials."""

    def changes(self) -> list[Change]:
        """What was amended, forgotten and extended, in order of making."""

    def reclaim(self, most: int | None = None, attempts: int | None = ATTEMPTS) -> list[Trial]:
        """Takes over running trials of dead owners and expired leases; fails those without an attempt."""

    def hold(self) -> None:
        """Keeps the running trials of this storage until they are told, also when this process has ended."""

    def holders(self) -> list[Holder]:
        """Who holds running trials, and until when."""

    def now(self) -> float:
        """Unix seconds, by the clock of the times of trials and leases."""

    def close(self) -> None:
        """Releases the storage; running trials stay running."""
