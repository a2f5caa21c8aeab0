"""What a model of all learning curves expects of one of them."""

from collections.abc import Sequence
from dataclasses import dataclass

import jaxtyping as jt
import torch
from torch import Tensor

from bo_suite.data import Seeds
from bo_suite.errors import TrialError
from bo_suite.linalg.environment import numerical_environment
from bo_suite.space.space import Space
from bo_suite.storage.goals import Goals
from bo_suite.storage.trial import Trial
from bo_suite.study.curves import is_partial
from bo_suite.study.observations import Observations
from bo_suite.study.outcomes import HALF_WIDTH
from bo_suite.surrogates import FreezeThaw
from bo_suite.values.describe import described


@dataclass(frozen=True, eq=False)
class Extrapolation:
    """The posterior of the curve of a trial, in the user's units, without the noise of reports.

    As in the model of a run, outcomes beyond the cap of bad outcomes count as equal to it.

    Attributes:
        trial: the trial.
        steps: ascending, from the last reported one of the trial, if it is on the grid, to the last one.
        mean: of the curve, on the scale of the model, in the user's units.
        low: lower end of its 90 % interval.
        high: upper end.
    """

    trial: Trial
    steps: jt.Float64[Tensor, " t"]
    mean: jt.Float64[Tensor, " t"]
    low: jt.Float64[Tensor, " t"]
    high: jt.Float64[Tensor, " t"]

    @staticmethod
    def of(
        trials: Sequence[Trial], space: Space, goals: Goals, max_step: int, number: int
    ) -> "Extrapolation":
        """The posterior of a curve by a `FreezeThaw` of all curves.

        Args:
            trials: of the run.
            space: of the run.
            goals: with one objective.
            max_step: the last step of a whole evaluation.
            number: id of a trial that has reported and has no outcome at the last step.

        Raises:
            TrialError: there is no such trial, or it has no report, has failed or is finished.
            FitError, NumericalError: the model cannot be fitted.
        """
        trial = next((one for one in trials if one.id == number), None)
        if trial is None or not is_partial(trial) or trial.reports[0].step > max_step:
            what = "unknown" if trial is None else f"{trial.state} with {len(trial.reports)} reports"
            raise TrialError(
                "a trial must be running, stopped or paused and have a report to be extrapolated, "
                f"got {described(number)}, which is {what}"
            )
        informative = [one for one in trials if one.informative]
        observations = Observations(space.varying, goals, torch.device("cpu"), max_step)
        data, curves = observations.dataset(informative), observations.curves(informative)
        assert data.curves is not None
        assert curves is not None
        index = next(place for place, one in enumerate(curves.trials) if one.id == number)
        with numerical_environment(), torch.no_grad():
            process = FreezeThaw().fit(data, Seeds.of(0, len(informative)))
            mean, covariance = process.curve(index)
            reach = HALF_WIDTH * covariance.diagonal().clamp(min=0.0).sqrt()
            ends = torch.stack((mean - reach, mean, mean + reach))
            values = goals.objectives[0].sign * curves.transform.capped_inverse(ends)
            low, middle, high = values.sort(0).values
        steps = (curves.steps * max_step).round()
        ahead = steps >= min(trial.step, max_step)  # before, the reports say more than the capped model
        return Extrapolation(trial, steps[ahead], middle[ahead], low[ahead], high[ahead])
