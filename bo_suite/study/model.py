"""The Suggester of a history, made again when the space or the past has changed, and what its model says.

torch is imported when one of these is asked for.
"""

from typing import TYPE_CHECKING, Any

from bo_suite.space.space import Params, Space
from bo_suite.storage.protocol import Storage
from bo_suite.storage.trial import Header, Snapshot
from bo_suite.study.arguments import json_of
from bo_suite.study.summary import RegretBound

if TYPE_CHECKING:
    import pandas as pd

    from bo_suite.acquisition import Acquisition, SteinBatch
    from bo_suite.study.belief import Belief, Points
    from bo_suite.study.suggest import Suggester, Suggestion


class Suggesters:
    """The Suggester of a history's latest header, which another process may change.

    Args:
        history: stores the trials.
        acquisition: chooses the points; None for that of the history.
        device: of the surrogates.
        max_step: the last step of a whole evaluation, if there is a scheduler.

    Raises:
        StorageError: the acquisition of the history has parts that must be given again.
    """

    def __init__(
        self,
        history: Storage,
        acquisition: "Acquisition | None",
        device: Any,
        max_step: int | None = None,
    ) -> None:
        self._history, self._acquisition = history, acquisition
        self._device, self._max_step = device, max_step
        self._latest: tuple[Header, Suggester] | None = None
        if acquisition is None and history.header.acquisition is not None:
            from bo_suite.storage.serialization import from_json

            self._acquisition = from_json(history.header.acquisition)

    @property
    def latest(self) -> "Suggester":
        """The Suggester of the present header."""
        return self.of(self._history.header)

    def suggest(
        self, batch: "SteinBatch | None", fixed: Params | None, snapshot: Snapshot, count: int
    ) -> "list[Suggestion]":
        """`Suggester.suggest` of what a history holds."""
        suggester = self.of(snapshot.header)
        return suggester.suggest(snapshot.trials, count, batch, fixed=fixed, queue=snapshot.queue)

    def recommended(self, fixed: Params | None, robust: object) -> Any:
        """`Optimizer.recommend`."""
        from bo_suite.study.recommend_front import recommended

        return recommended(self.latest, self._history.trials(), fixed, robust)

    def regret_bound(self, width: float | None) -> RegretBound:
        """`Optimizer.regret_bound`."""
        from bo_suite.study.recommend import regret_bound

        return regret_bound(self.latest, self._history.trials(), width)

    def belief(self, outcome: str | None) -> "Belief":
        """`Optimizer.belief`."""
        from bo_suite.study.beliefs import belief_about

        return belief_about(self.latest, self._history.trials(), outcome)

    def predict(self, points: "Points", interval: float) -> "pd.DataFrame":
        """`Optimizer.predict`."""
        from bo_suite.study.beliefs import predictions

        return predictions(self.latest, self._history.trials(), points, interval)

    def importance(self) -> "pd.DataFrame":
        """`Optimizer.importance`."""
        from bo_suite.study.beliefs import importances

        return importances(self.latest, self._history.trials())

    def of(self, header: Header) -> "Suggester":
        """The Suggester of a header."""
        latest = self._latest
        if latest is None or latest[0] is not header:
            latest = self._latest = header, self._made(header)
        return latest[1]

    def check(self, space: Space) -> None:
        """Raises a DataError if the acquisition does not support an aspect of a space."""
        if self._acquisition is not None:
            json_of(self._acquisition, space, self._history.header.goals)

    def _made(self, header: Header) -> "Suggester":
        import torch

        from bo_suite.acquisition.default import default_acquisition
        from bo_suite.study.initial import initial_size
        from bo_suite.study.suggest import Suggester

        goals = header.goals
        return Suggester(
            header.space,
            self._acquisition
            or default_acquisition(header.space.aspects | goals.aspects, len(goals.objectives)),
            header.seed,
            goals,
            header.initial or initial_size(header.budget, header.space),
            header.since,
            bool(header.repeats),
            torch.device(self._device),
            self._max_step,
        )
