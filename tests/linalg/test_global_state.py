"""Nothing of the caller's global state reaches into a step, and nothing of a step's gets out."""

import subprocess
import sys
import warnings
from collections.abc import Callable, Iterable, Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager
from functools import cache
from typing import Any

import gpytorch
import numpy as np
import pytest
import torch
from botorch.models import SingleTaskGP
from sklearn.ensemble import RandomForestClassifier

from bo_suite import Choice, Float, Int, Optimizer, Space
from bo_suite.acquisition import (
    Bore,
    KnowledgeGradient,
    LogExpectedImprovement,
    NoisyExpectedImprovement,
    SteinBatch,
    ThompsonSampling,
    UpperConfidenceBound,
)
from bo_suite.bench import run_replicates
from bo_suite.classifiers import GPClassifier, MLPClassifier, SklearnClassifier, WeightedExamples
from bo_suite.data import Dataset, Seeds
from bo_suite.errors import FitError
from bo_suite.integrations.botorch import BoTorchSurrogate
from bo_suite.integrations.sklearn import BOSearchCV
from bo_suite.linalg.environment import numerical_environment
from bo_suite.problems import get_problem
from bo_suite.run.stopping import RegretBelow
from bo_suite.space.space import Params
from bo_suite.surrogates import SGPR, SVGP, AutoGP, ExactGP
from bo_suite.surrogates.variational.likelihoods import (
    BernoulliLogit,
    BernoulliProbit,
    Gaussian,
    Poisson,
    StudentT,
)
from bo_suite.surrogates.variational.training import NaturalAdam

State = Callable[[], AbstractContextManager[Any]]

SPACE = Space({"x": Float(0.0, 1.0), "n": Int(1, 9), "k": Choice(("a", "b", "c"))})
LINE = Space({"x": Float(0.0, 1.0)})
FIDELITY = Space({"x": Float(0.0, 1.0), "size": Int(1, 9, fidelity=True)})


@contextmanager
def default_dtype() -> Iterator[None]:
    torch.set_default_dtype(torch.float64)
    try:
        yield
    finally:
        torch.set_default_dtype(torch.float32)


@contextmanager
def default_device(device: str = "meta") -> Iterator[None]:
    torch.set_default_device(device)
    try:
        yield
    finally:
        torch.set_default_device(None)


@contextmanager
def deterministic() -> Iterator[None]:
    torch.use_deterministic_algorithms(True, warn_only=True)
    try:
        yield
    finally:
        torch.use_deterministic_algorithms(False)


@contextmanager
def two_threads() -> Iterator[None]:
    threads = torch.get_num_threads()
    torch.set_num_threads(2)
    try:
        yield
    finally:
        torch.set_num_threads(threads)


@contextmanager
def anomaly() -> Iterator[None]:
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "Anomaly Detection")
        mode = torch.autograd.set_detect_anomaly(True, check_nan=False)
    with mode:
        yield


STATES: dict[str, State] = {
    "no_grad": torch.no_grad,
    "inference_mode": torch.inference_mode,
    "default dtype": default_dtype,
    "default device": default_device,
    "anomaly": anomaly,
    "deterministic": deterministic,
    "two threads": two_threads,
    "autocast": lambda: torch.autocast("cpu", torch.bfloat16),
    "numpy raises": lambda: np.errstate(all="raise"),
}


@contextmanager
def all_at_once(without: tuple[str, ...] = ()) -> Iterator[None]:
    with ExitStack() as stack:
        for name, state in STATES.items():
            if name not in without:
                stack.enter_context(state())
        yield


def global_state() -> dict[str, Any]:
    return {
        "inference": torch.is_inference_mode_enabled(),
        "grad": torch.is_grad_enabled(),
        "dtype": torch.get_default_dtype(),
        "device": torch.empty(0).device,
        "anomaly": (torch.is_anomaly_enabled(), torch.is_anomaly_check_nan_enabled()),
        "deterministic": (
            torch.are_deterministic_algorithms_enabled(),
            torch.is_deterministic_algorithms_warn_only_enabled(),
        ),
        "threads": torch.get_num_threads(),
        "autocast": (torch.is_autocast_enabled("cpu"), torch.is_autocast_enabled("cuda")),
        "numpy": np.geterr(),
        "numpy's generator": str(np.random.get_state()),  # noqa: NPY002
        "torch's generator": bytes(torch.default_generator.get_state().numpy()),
    }


def same_in(state: State, run: Callable[[], Any], plain: Any) -> None:
    with state():
        before = global_state()
        found = run()
        assert global_state() == before
    assert found == plain


def value(params: Params) -> float:
    penalty = {"a": 0.2, "b": 0.0, "c": 0.5}[str(params.get("k", "b"))]
    return (float(params["x"]) - 0.3) ** 2 + abs(float(params.get("n", 6)) - 6) / 10 + penalty


def search(acquisition: Any, space: Space = SPACE, batch: SteinBatch | None = None) -> list[Params]:
    optimizer = Optimizer(space, acquisition, seed=3, initial=4)
    for _ in range(7 if batch is None else 5):
        trial = optimizer.ask()
        optimizer.tell(trial, value(trial.params))
    if batch is not None:
        optimizer.ask(2, batch)
    assert any(trial.provenance["source"] == "acquisition" for trial in optimizer.trials)
    assert all(trial.provenance["source"] != "fallback" for trial in optimizer.trials)
    return [trial.params for trial in optimizer.trials]


@cache
def gpytorch_kernel() -> Any:
    prior = gpytorch.priors.GammaPrior(3.0, 6.0)
    matern = gpytorch.kernels.MaternKernel(nu=2.5, ard_num_dims=3, lengthscale_prior=prior)
    return gpytorch.kernels.ScaleKernel(matern).double()


def botorch_surrogate() -> BoTorchSurrogate:
    return BoTorchSurrogate(lambda x, y, variances: SingleTaskGP(x, y, variances))


TRAINING = NaturalAdam(steps=30)

ACQUISITIONS: dict[str, Callable[[], list[Params]]] = {
    "LogExpectedImprovement": lambda: search(LogExpectedImprovement()),
    "NoisyExpectedImprovement": lambda: search(NoisyExpectedImprovement()),
    "UpperConfidenceBound": lambda: search(UpperConfidenceBound()),
    "KnowledgeGradient": lambda: search(KnowledgeGradient()),
    "KnowledgeGradient, fidelities": lambda: search(KnowledgeGradient(), FIDELITY),
    "ThompsonSampling": lambda: search(ThompsonSampling()),
    "Bore": lambda: search(Bore()),
    "Bore, SteinBatch": lambda: search(Bore(), batch=SteinBatch(steps=20)),
    "Bore, GPClassifier": lambda: search(Bore(GPClassifier())),
    "Bore, MLPClassifier": lambda: search(Bore(MLPClassifier())),
    "Bore, SklearnClassifier": lambda: search(
        Bore(SklearnClassifier(RandomForestClassifier(n_estimators=5)))
    ),
}

SURROGATES: dict[str, Callable[[], Any]] = {
    "ExactGP": ExactGP,
    "ExactGP, gpytorch": lambda: ExactGP(kernel=gpytorch_kernel()),
    "SGPR": lambda: SGPR(inducing=5),
    "AutoGP": lambda: AutoGP(handover=7, inducing=5),
    "SVGP, Gaussian": lambda: SVGP(inducing=5, likelihood=Gaussian(), training=TRAINING),
    "SVGP, StudentT": lambda: SVGP(inducing=5, likelihood=StudentT(), training=TRAINING),
    "BoTorchSurrogate": botorch_surrogate,
}

SEARCHES = ACQUISITIONS | {
    name: (lambda make=make: search(LogExpectedImprovement(surrogate=make())))
    for name, make in SURROGATES.items()
}

SLOW = (
    "SVGP, Gaussian",
    "SVGP, StudentT",
    "SVGP, Poisson",
    "SVGP, BernoulliProbit",
    "SVGP, gpytorch",
    "KnowledgeGradient, fidelities",
)


def some_slow(names: Iterable[str]) -> list[Any]:
    return [pytest.param(name, marks=pytest.mark.slow) if name in SLOW else name for name in names]


@cache
def plain(name: str) -> list[Params]:
    return SEARCHES[name]()


@pytest.mark.parametrize("name", some_slow(SEARCHES))
def test_a_search_is_the_same_in_all_states_at_once(name: str) -> None:
    same_in(all_at_once, SEARCHES[name], plain(name))


@pytest.mark.parametrize("state", STATES)
def test_a_search_is_the_same_in_each_state(state: str) -> None:
    same_in(STATES[state], SEARCHES["LogExpectedImprovement"], plain("LogExpectedImprovement"))


@pytest.mark.slow
@pytest.mark.parametrize("state", STATES)
@pytest.mark.parametrize("name", SEARCHES)
def test_every_search_is_the_same_in_each_state(name: str, state: str) -> None:
    same_in(STATES[state], SEARCHES[name], plain(name))


@pytest.mark.cuda
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
@pytest.mark.parametrize("name", ["LogExpectedImprovement", "KnowledgeGradient", "Bore", "BoTorchSurrogate"])
def test_a_search_on_the_cpu_is_the_same_with_cuda_as_the_default_device(name: str) -> None:
    same_in(lambda: default_device("cuda"), SEARCHES[name], plain(name))


FITS: dict[str, tuple[Callable[[], Any], str]] = {
    **{name: (make, "outcomes") for name, make in SURROGATES.items()},
    "SVGP, gpytorch": (lambda: SVGP(inducing=5, kernel=gpytorch_kernel(), training=TRAINING), "outcomes"),
    "SVGP, moved inducing inputs": (
        lambda: SVGP(inducing=5, learn_inducing=True, training=TRAINING),
        "outcomes",
    ),
    "SVGP, BernoulliLogit": (lambda: SVGP(5, likelihood=BernoulliLogit(), training=TRAINING), "labels"),
    "SVGP, BernoulliProbit": (lambda: SVGP(5, likelihood=BernoulliProbit(), training=TRAINING), "labels"),
    "SVGP, Poisson": (lambda: SVGP(5, likelihood=Poisson(), training=TRAINING), "labels"),
    "GPClassifier": (GPClassifier, "classes"),
    "MLPClassifier": (MLPClassifier, "classes"),
}


def fitted(name: str) -> list[float]:
    make, kind = FITS[name]
    x = Seeds.of(0, 0).uniform((12, 3), torch.empty(0, dtype=torch.float64, device="cpu"))
    y = torch.sin(4.0 * x[:, 0]) + x[:, 1].square() - 1.0
    labels = (y > 0).to(y)
    if kind == "classes":
        score = make().fit(WeightedExamples(x, labels, 1.0 - labels), Seeds.of(0, 1))
        return [float(one) for one in score(x).detach()]
    process = make().fit(Dataset(x, labels if kind == "labels" else y), Seeds.of(0, 1))
    return [float(one) for one in torch.cat(process.mean_and_var(x)).detach()]


@pytest.mark.parametrize("name", some_slow(FITS))
def test_a_fit_without_a_loop_is_the_same_without_gradients_and_in_inference_mode(name: str) -> None:
    expected = pytest.approx(fitted(name), rel=1e-9)  # without gradients, gpytorch rounds in another way
    for state in ("no_grad", "inference_mode"):
        same_in(STATES[state], lambda: fitted(name), expected)


def told(space: Space, acquisition: Any, count: int = 8) -> Optimizer:
    optimizer = Optimizer(space, acquisition)
    for _ in range(count):
        trial = optimizer.ask()
        optimizer.tell(trial, value(trial.params))
    return optimizer


def test_bounds_and_recommendations_are_the_same_in_all_states_at_once() -> None:
    def run() -> Any:
        optimizer = told(SPACE, None)
        stop = RegretBelow(bound=100.0, after=2)(optimizer, optimizer.trials[-1])
        assert stop is not None
        return optimizer.recommend(), optimizer.regret_bound().value, stop

    same_in(all_at_once, run, run())


def test_scikit_learn_searches_in_all_states_at_once() -> None:
    from sklearn.linear_model import Ridge

    x = np.random.default_rng(0).normal(size=(30, 2))

    def run() -> Any:
        search = BOSearchCV(Ridge(), Space({"alpha": Float(1e-3, 1e3, log=True)}))
        search.set_params(n_iter=8, cv=2, random_state=0)
        return search.fit(x, x[:, 0] + 0.1 * x[:, 1]).cv_results_["params"]

    same_in(all_at_once, run, run())


def test_replicates_are_the_same_in_all_states_at_once() -> None:
    def run() -> Any:
        found = run_replicates(get_problem("branin"), LogExpectedImprovement(), (0, 1), 8)
        return [found.rows.tolist(), found.values.tolist()]

    same_in(lambda: all_at_once(("default device",)), run, run())


@numerical_environment()
def fail_inside() -> None:
    assert torch.is_grad_enabled()
    assert not torch.is_inference_mode_enabled()
    with torch.no_grad(), numerical_environment():
        assert torch.is_grad_enabled()
        assert torch.get_num_threads() == 1
    raise FitError("inside")


def test_the_state_is_the_callers_again_after_an_error() -> None:
    with all_at_once():
        before = global_state()
        with pytest.raises(FitError, match="inside"):
            fail_inside()
        assert global_state() == before


GENERATORS = """
import random
import numpy as np, torch
from bo_suite import Float, Optimizer, Space
from bo_suite.acquisition import Bore, KnowledgeGradient, ThompsonSampling

def states():
    return random.getstate(), str(np.random.get_state()), bytes(torch.get_rng_state().numpy())

asked = []
for seed in (1, 2):
    random.seed(seed), np.random.seed(seed), torch.manual_seed(seed)
    before = states()
    for acquisition in (None, KnowledgeGradient(), ThompsonSampling(), Bore()):
        optimizer = Optimizer(Space({"x": Float(0.0, 1.0)}), acquisition, initial=3)
        for _ in range(5):
            trial = optimizer.ask()
            optimizer.tell(trial, (trial.params["x"] - 0.3) ** 2)
        asked.append([trial.params for trial in optimizer.trials])
    assert states() == before
print(asked[:4] == asked[4:])
"""


def test_global_generators_are_neither_read_nor_changed() -> None:
    # in a process of its own, since the type checker of these tests draws random numbers
    answer = subprocess.run([sys.executable, "-c", GENERATORS], capture_output=True, text=True, timeout=100)
    assert answer.stdout.strip() == "True", answer.stderr


FORKS = """
import os, sys, tempfile, threading, time, warnings
import torch
from bo_suite import Float, Optimizer, Space

warnings.simplefilter("ignore")
space = Space({"x": Float(0.0, 1.0), "y": Float(0.0, 1.0)})

def ask(optimizer):
    trial = optimizer.ask()
    optimizer.tell(trial, sum((v - 0.3) ** 2 for v in trial.params.values()))

def run(storage):
    optimizer = Optimizer(space, storage=storage, initial=3)
    for _ in range(5):
        ask(optimizer)

def state():
    return torch.get_num_threads(), torch.is_anomaly_enabled(), torch.are_deterministic_algorithms_enabled()

def child(path):
    if state() != before:
        return 2
    run(None)
    run(path)
    return 0 if state() == before else 3

def loop():
    while not end.is_set():
        run(None)

torch.set_num_threads(2)
torch.use_deterministic_algorithms(True)
torch.autograd.set_detect_anomaly(True)
run(None)
before, end, answers = state(), threading.Event(), []
thread = threading.Thread(target=loop)
thread.start()
with tempfile.TemporaryDirectory() as folder:
    for turn in range(3):
        time.sleep(0.05 + 0.013 * turn)
        pid = os.fork()
        if not pid:
            try:
                os._exit(child(os.path.join(folder, f"{turn}.db")))
            finally:
                os._exit(1)
        for _ in range(2000):
            done, status = os.waitpid(pid, os.WNOHANG)
            if done:
                answers.append(os.waitstatus_to_exitcode(status))
                break
            time.sleep(0.01)
        else:
            os.kill(pid, 9)
            os.waitpid(pid, 0)
            answers.append("hangs")
end.set()
thread.join()
print(answers == [0] * 3 and state() == before, answers)
"""


@pytest.mark.skipif(sys.platform == "win32", reason="fork")
def test_a_process_forked_while_another_thread_asks_has_the_callers_state_and_asks() -> None:
    answer = subprocess.run([sys.executable, "-c", FORKS], capture_output=True, text=True, timeout=150)
    assert answer.stdout.startswith("True"), answer.stdout + answer.stderr
