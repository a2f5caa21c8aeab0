"""PED-ANOVA against Optuna's, on real parameters; Optuna smooths the frequencies of categories more."""

import numpy as np
import pytest
import torch

from bo_suite import Float, Space
from bo_suite.study.importance import ped_anova

optuna = pytest.importorskip("optuna")


@pytest.mark.filterwarnings("ignore::optuna.exceptions.ExperimentalWarning")
def test_the_shares_are_those_of_optuna() -> None:
    space = Space({"x": Float(-1, 3), "lr": Float(1e-4, 1, log=True), "idle": Float(0, 1)})
    rows = torch.rand(200, 3, generator=torch.Generator().manual_seed(2), dtype=torch.float64)
    points = space.decode(rows)
    losses = (rows[:, 0] - 0.2).square() + 0.3 * (rows[:, 1] - 0.7).square()
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    study = optuna.create_study()
    distributions = {
        name: optuna.distributions.FloatDistribution(parameter.low, parameter.high, log=parameter.log)
        for name, parameter in space
    }
    for point, loss in zip(points, losses.tolist(), strict=True):
        study.add_trial(optuna.trial.create_trial(params=point, distributions=distributions, value=loss))
    evaluator = optuna.importance.PedAnovaImportanceEvaluator(target_quantile=0.25, evaluate_on_local=False)
    expected = optuna.importance.get_param_importances(study, evaluator=evaluator)
    ours = ped_anova(rows, losses, space)
    np.testing.assert_allclose(ours, [expected[name] for name in space.names], atol=0.03)
