"""Methods that are samplers in an Optuna study: Optuna's own by their names, and others as module:class."""

import pytest

from bo_suite.bench.method import Run, Task
from bo_suite.bench.peers.optuna_study import OptunaStudy
from bo_suite.space.space import Params
from bo_suite.testing import check_method
from bo_suite.testing.method import SPACES

pytestmark = pytest.mark.integration
pytest.importorskip("optuna")

DOOR = OptunaStudy("optuna:bo_suite", "bo_suite.integrations.optuna:BoSuiteSampler")
SPACE = SPACES["a mixed space"]


def points(run: Run, count: int) -> list[Params]:
    asked = []
    for number in range(count):
        asked.append(run.ask())
        run.tell(asked[-1], float(number % 5))
    return asked


def test_a_sampler_is_found_by_its_name_and_by_its_module() -> None:
    task = Task(SPACE, 5, 12, noisy=False)
    asked = [
        points(OptunaStudy("a study", sampler).start(task), 12)
        for sampler in ("TPESampler", "optuna.samplers:TPESampler", "RandomSampler")
    ]
    assert asked[0] == asked[1] != asked[2]


def test_a_sampler_that_is_not_there_is_named() -> None:
    with pytest.raises(AttributeError, match="NoSampler"):
        OptunaStudy("none", "optuna.samplers:NoSampler").start(Task(SPACE, 5, 12, noisy=False))


@pytest.mark.slow
def test_our_sampler_in_a_study_keeps_the_contract_of_methods() -> None:
    check_method(DOOR)


@pytest.mark.slow
def test_our_sampler_in_a_study_models_what_it_was_told() -> None:
    target = points(OptunaStudy("random", "RandomSampler").start(Task(SPACE, 1, 1, noisy=False)), 1)

    def best(method: OptunaStudy) -> float:
        run, values = method.start(Task(SPACE, 5, 25, noisy=False)), list[float]()
        for _ in range(25):
            params = run.ask()
            values.append(float((SPACE.encode([params]) - SPACE.encode(target)).square().sum()))
            run.tell(params, values[-1])
        return min(values)

    assert best(DOOR) < best(OptunaStudy("random", "RandomSampler"))
