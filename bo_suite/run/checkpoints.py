"""The folders in which evaluations store what they need to be continued; imports nothing heavy."""

from dataclasses import dataclass
from pathlib import Path

from bo_suite.errors import StorageError, TrialError

_MARK = ".run-"
"""Beginning of the name of an empty file that says to which run the folders belong."""


@dataclass(frozen=True)
class Checkpoints:
    """Where the trials of a run have their folders.

    Ids of trials begin at 0 in each run. So the folder is marked with the name of its run, and no other run
    can take its checkpoints for those of its own trials.

    Attributes:
        folder: the folder, which is created when it is used; None if it is not known.
        run: the unique name of the run.
    """

    folder: Path | None
    run: str

    def of(self, trial: int) -> Path:
        """The folder of a trial, which exists.

        Args:
            trial: its id.

        Raises:
            TrialError: the folder is not known, or belongs to another run.
            StorageError: it cannot be created.
        """
        if self.folder is None:
            raise TrialError(
                "the history is in a database, so that the run must be given checkpoints=, a folder that all "
                "workers share, got None"
            )
        mark, own = self.folder / f"{_MARK}{self.run}", self.folder / str(trial)
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            if any(other != mark for other in self.folder.glob(f"{_MARK}*")):
                raise TrialError(
                    "the folder of checkpoints must be of this run (remove it, or give another one as "
                    f"checkpoints=), got {self.folder}, which has those of another run"
                )
            mark.touch()
            own.mkdir(exist_ok=True)
        except OSError as error:
            raise StorageError(f"the folder of checkpoints must be one to write to, got {error}") from error
        return own
