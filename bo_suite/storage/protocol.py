"""What an Optimizer needs of a storage."""

from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any, Protocol, SupportsFloat

from bo_suite.space.space import Params
from bo_suite.storage.trial import Header, Trial


class Storage(Protocol):
    """The trials of one optimiser, shared by threads and processes; `History` is one.

    Each verb takes effect as a whole or not at all, and what it stored survives a crash once it returns.
    tests/storage/test_storage_contract.py holds the rules for all implementations.

    Attributes:
        path: where it is; None if it is in memory.
        header: space, seed, direction, budget and acquisition.
    """

    path: Path | None
    header: Header

    def trials(self) -> list[Trial]:
        """All trials, ordered by id, as a new list."""

    def trial(self, number: int) -> Trial | None:
        """The trial of an id; None if there is no such trial."""

    def turn(self) -> AbstractContextManager[bool]:
        """Waits until earlier callers have left their turns; yields False if that took too long."""

    def insert(
        self, params: Sequence[Params], provenance: Sequence[Mapping[str, Any]], *, expected: int | None
    ) -> list[Trial] | None:
        """Stores running trials; None, with nothing written, if the next id is not `expected`."""

    def add(self, params: Params, value: SupportsFloat, std: SupportsFloat | None = None) -> Trial:
        """Stores an observation that was not asked for."""

    def add_failed(self, params: Params, reason: str) -> Trial:
        """Stores a failure that was not asked for."""

    def tell(
        self, trial: int, value: SupportsFloat, std: SupportsFloat | None = None, attempt: int | None = None
    ) -> Trial:
        """Finishes a running trial."""

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

    def withdraw(self, trial: int, reason: str = "withdrawn", attempt: int | None = None) -> Trial:
        """Ends a running trial that will not be evaluated."""

    def reclaim(self) -> list[Trial]:
        """Takes over the running trials of dead owners, each as one more attempt, and returns them."""

    def close(self) -> None:
        """Releases the storage; running trials stay running."""
