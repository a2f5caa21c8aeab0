"""The form of an acquisition in a file: what it may name, and that nothing else in it is ever run."""

import ast
import json
import sqlite3
from importlib import import_module
from pathlib import Path
from typing import Any

import pytest
from sklearn.linear_model import Ridge
from typer.testing import CliRunner

import bo_suite
from bo_suite import Float, Optimizer, Space, minimize
from bo_suite.acquisition import (
    AffineCost,
    Bore,
    KnowledgeGradient,
    LogExpectedImprovement,
    RootGamma,
    UpperConfidenceBound,
)
from bo_suite.classifiers import GPClassifier, MLPClassifier
from bo_suite.cli import app
from bo_suite.errors import StorageError
from bo_suite.integrations.sklearn import BOSearchCV
from bo_suite.kernels import Matern52, Zonal
from bo_suite.storage.field_types import is_of_type
from bo_suite.storage.serialization import from_json, restored, to_json
from bo_suite.storage.stored_names import CLASSES, GIVEN_AGAIN
from bo_suite.surrogates import SGPR, SVGP, AutoGP, ExactGP, FreezeThaw
from bo_suite.surrogates.features import Activations

ROOT = Path(bo_suite.__file__).parent
LINE = Space({"x": Float(0.0, 1.0)})

NO_RECIPES = {
    "acquisition": (
        *("ImprovementScore", "KnowledgeGradientScore", "ConfidenceBoundScore", "RungScore", "PerCostScore"),
        *("StartingPoints", "OneStepMeans", "PathScore", "BoreScore", "DescentScore"),
        *("SuccessProbability", "LikelyScore", "AdaptiveScore", "OutcomeScale", "ScaleChoice"),
        *("Plateaus", "Forecast", "Feasibility", "Penalty", "Boxes", "Chebyshev", "ObservedFront"),
        *(
            "FittedObjectives",
            "FittedLimits",
            "LimitScales",
            "HypervolumeScore",
            "ScalarisedScore",
            "ScalarisedPathScore",
        ),
    ),
    "classifiers": (*("WeightedExamples", "GPLogOdds", "SklearnLogOdds"), *("MLPLogOdds", "DensityRatio")),
    "kernels": (
        *(
            "Ard",
            "Functionals",
            "Conditional",
            "ConditionalFeatures",
            "Described",
            "Layout",
            "Mixture",
            "Part",
            "Parameters",
        ),
        *("Projection", "Rectified", "RidgeFunctions", "Waves"),
    ),
    "surrogates": (
        *("Paths", "FitTrace", "SparseProcess", "Lookahead", "WarmStart", "ExactProcess", "Model"),
        *(
            "Whitened",
            "VariationalState",
            "VariationalProblem",
            "Statistics",
            "Collapsed",
            "CollapsedObjective",
        ),
        *("InducingCovariance", "Points", "Observables", "Observations", "Stacked", "Harmonics", "Units"),
        *("Basis", "PriorMean", "AtStep", "CurvesProcess", "Group", "Reduction", "AveragedProcess"),
        *("StreamingGP", "ScalarOutputs", "VectorOutputs", "OperatorOutputs", "Message", "Optimum"),
        *("FixedPrecision", "GammaPrecision", "WishartPrecision", "SeparableSums", "OperatorSums"),
        *("Expectations", "BoundObjective", "LocatedInputs"),
        *("OutputData", "Entries", "Rotation", "KroneckerEvidence", "EntriesEvidence", "OutputMeans"),
        *("StackedProcess", "IntrinsicProcess", "EitherProcess", "OutputsChoice"),
    ),
    "optim": ("Sweep", "BatchResult", "Limits"),
    "integrations": (
        *("Record", "Journal", "ConditionedProcess", "AcquisitionContext", "BoTorchScore", "Dimension"),
        *("Translation", "FitCall", "CandidateScore", "CrossValidation", "Measured"),
        *("SearchGoals", "SearchRun", "Tree", "Evidence", "Steps", "Candidate", "OneSplit"),
    ),
}
"""Classes of the rooms that recipes are made of, which are no part of one."""

WITHOUT_RECIPES = {
    "bench",
    "cli",
    "data",
    "linalg",
    "plot",
    "report",
    "problems",
    "run",
    "space",
    "study",
    "storage",
}
"""Rooms with dataclasses, none of which is a part of an acquisition."""

SCHEDULERS = ".run.schedulers."
"""Part of the names of modules whose dataclasses are schedulers."""


def part(kind: str, /, **fields: Any) -> dict[str, Any]:
    return {"type": kind, "fields": fields}


def dataclasses_of_the_package() -> list[tuple[str, str]]:
    """Layer and name in a file of each class that is a dataclass."""
    found = []
    for path in sorted(ROOT.rglob("*.py")):
        relative = path.relative_to(ROOT)
        module = ".".join(("bo_suite", *relative.with_suffix("").parts)).removesuffix(".__init__")
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.ClassDef) and any(
                "dataclass" in ast.unparse(decorator) for decorator in node.decorator_list
            ):
                found.append((relative.parts[0].removesuffix(".py"), f"{module}:{node.name}"))
    return found


def test_every_dataclass_may_be_in_a_file_or_is_known_to_be_in_none() -> None:
    places = {*CLASSES.values(), *GIVEN_AGAIN.values()}
    found = dataclasses_of_the_package()
    assert len(found) > 100
    for layer, name in found:
        short = name.split(":")[1]
        excluded = (
            (layer in WITHOUT_RECIPES and SCHEDULERS not in name)
            or short.startswith("_")
            or short in NO_RECIPES.get(layer, ())
        )
        assert (name in places) != excluded, (
            f"{name} must be in the table of storage/stored_names.py, or in the list of this test"
        )
    assert places <= {name for _, name in found}


@pytest.mark.parametrize("name", CLASSES)
def test_a_default_one_of_every_class_is_restored_as_a_part(name: str) -> None:
    module, _, attribute = CLASSES[name].partition(":")
    kind = getattr(import_module(module), attribute)
    made = kind(max_step=52) if SCHEDULERS in name else kind()
    assert CLASSES[to_json(made)["type"]] == CLASSES[name]
    if SCHEDULERS in name:
        assert restored(json.loads(json.dumps(to_json(made))), "a scheduler") == made
        return
    holders = {
        "acquisition": lambda one: one,
        "surrogates": lambda one: LogExpectedImprovement(one),
        "classifiers": lambda one: Bore(one),
        "profiles": lambda one: LogExpectedImprovement(SGPR(kernel=Zonal(one, ((1, 3),)))),
        "kernels": lambda one: LogExpectedImprovement(ExactGP(one)),
        "inducing": lambda one: LogExpectedImprovement(SGPR(selection=one)),
        "likelihoods": lambda one: LogExpectedImprovement(SVGP(likelihood=one)),
        "training": lambda one: LogExpectedImprovement(SVGP(training=one)),
        "Activations": lambda one: LogExpectedImprovement(SGPR(inducing=one)),
        "activations": lambda one: LogExpectedImprovement(SGPR(inducing=Activations(8, one))),
        "orthogonal": lambda one: LogExpectedImprovement(SGPR(inducing=one)),
        "spherical": lambda one: LogExpectedImprovement(SGPR(inducing=one)),
        "Search": lambda one: LogExpectedImprovement(search=one),
        "AffineCost": lambda one: KnowledgeGradient(cost=one),
        "RootGamma": lambda one: Bore(MLPClassifier(), one),
        "SteinBatch": None,
        "Decay": lambda one: LogExpectedImprovement(FreezeThaw(steps=one)),
    }
    keys = (attribute, module.split(".")[-1], module.split(".")[1])
    holder = next(holders[key] for key in keys if key in holders)
    if holder is not None:
        whole = holder(made)
        assert from_json(json.loads(json.dumps(to_json(whole)))) == whole


AUTO = (
    '{"type": "bo_suite.surrogates.auto:AutoGP", "fields": {"exact": {"type": "bo_suite.surrogates.exact:'
    'ExactGP", "fields": {"kernel": null, "noise_location": -6.0, "noise_spread": 1.0, "restarts": 2}}, '
    '"handover": 1000, "inducing": 512, "selection": {"type": "bo_suite.surrogates.inducing:GreedyVariance", '
    '"fields": {"quality": 0.9, "best": 0.75, "pool": 2048}}}}'
)
FORMS_OF_0_8_0 = {
    '{"type": "bo_suite.acquisition.improvement:LogExpectedImprovement", "fields": {"surrogate": '
    f'{AUTO}, "fantasies": 32}}}}': LogExpectedImprovement(AutoGP(handover=1000)),
    '{"type": "bo_suite.acquisition.knowledge_gradient:KnowledgeGradient", "fields": {"surrogate": '
    f'{AUTO}, "cost": {{"type": "bo_suite.acquisition.knowledge_gradient:AffineCost", "fields": {{"fixed": '
    '1.0, "slope": 2.0}}, "quantiles": 7, "candidates": 8, "fantasies": 16}}': KnowledgeGradient(
        AutoGP(handover=1000), cost=AffineCost(1.0, 2.0)
    ),
    '{"type": "bo_suite.acquisition.bore:Bore", "fields": {"classifier": {"type": '
    '"bo_suite.classifiers.mlp:MLPClassifier", "fields": {"hidden": [32, 32], "steps": 500, "rate": 0.03, '
    '"weight_decay": 0.003, "members": 1, "warm_steps": null}}, "gamma": {"type": '
    '"bo_suite.acquisition.bore:RootGamma", "fields": {"scale": 1.0, "largest": 0.25}}, "weighting": '
    '"improvement"}}': Bore(MLPClassifier(), gamma=RootGamma()),
}


@pytest.mark.parametrize(
    "acquisition",
    [
        UpperConfidenceBound(beta=2.5),
        KnowledgeGradient(cost=AffineCost(1.0, 2.0)),
        Bore(GPClassifier(kernel=Matern52((0,), ())), gamma=RootGamma()),
        Bore(MLPClassifier(hidden=(8, 8), warm_steps=None), gamma=0.25),
        LogExpectedImprovement(AutoGP(ExactGP(Matern52()))),
    ],
)
def test_what_is_stored_is_restored(acquisition: Any) -> None:
    assert from_json(json.loads(json.dumps(to_json(acquisition)))) == acquisition


COMMANDS = [
    part(
        "bo_suite.run.evaluate:evaluate",
        params="touch PWNED",
        function=part("bo_suite.values.imports:import_attribute", kind="x", name="os:system"),
    ),
    part("bo_suite.values.imports:import_attribute", kind="x", name="this:s"),
    part("bo_suite.cli:main"),
    part("bo_suite.acquisition.improvement:torch.hub.load", repo_or_dir="x", model="y"),
    part("bo_suite.acquisition.improvement:dataclass", cls=None),
    part("bo_suite.acquisition.improvement:LogExpectedImprovement.__init__"),
    part("bo_suite.storage.serialization:from_json", form=None),
    part("bo_suite.run.minimize:minimize"),
    part("shutil:rmtree", path="PRECIOUS"),
    part("os:system", command="touch PWNED"),
    part("bo_suite.acquisition.bore:Bore", classifier=part("shutil:rmtree", path="PRECIOUS")),
    part("bo_suite.acquisition.confidence_bound:UpperConfidenceBound", beta=part("os:getcwd")),
]
"""Names that 0.8.0 imported, or called."""

UCB = "bo_suite.acquisition.confidence_bound:UpperConfidenceBound"
LOG_EI = "bo_suite.acquisition.improvement:LogExpectedImprovement"
EXACT = "bo_suite.surrogates.exact:ExactGP"


def deep(levels: int) -> Any:
    form: Any = 1
    for _ in range(levels):
        form = [form]
    return form


MISFITS = [
    part(LOG_EI, surrogate=5),
    part(LOG_EI, surrogate="abc"),
    part(LOG_EI, surrogate=None),
    part(LOG_EI, surrogate=part("bo_suite.kernels.stationary:Matern52")),
    part(LOG_EI, fantasies=1.5),
    part(LOG_EI, fantasies=True),
    part(LOG_EI, fantasies=-1),
    part(LOG_EI, surrogate=part(EXACT, kernel=7)),
    part(LOG_EI, surrogate=part(EXACT, kernel=part(UCB))),
    part(LOG_EI, surrogate=part(EXACT, restarts=0)),
    part(LOG_EI, surrogate=part(EXACT, noise_spread=-1.0)),
    part(LOG_EI, other=1),
    part(UCB, beta="abc"),
    part(UCB, beta=True),
    part(UCB, beta=[1.0]),
    part(UCB, beta=float("inf")),
    part(UCB, beta=float("nan")),
    part(UCB, beta=10**400),
    part(
        "bo_suite.acquisition.bore:Bore",
        classifier=part("bo_suite.classifiers.mlp:MLPClassifier", hidden=[0.5]),
    ),
    part(
        "bo_suite.acquisition.bore:Bore", classifier=part("bo_suite.classifiers.mlp:MLPClassifier"), gamma="f"
    ),
    part("bo_suite.acquisition.stein:SteinBatch"),
    part(EXACT),
    part("bo_suite.space.parameters:Float", low=0.0, high=1.0),
    {"type": UCB},
    {"type": UCB, "fields": []},
    {"type": UCB, "fields": None},
    {"type": UCB, "fields": {}, "more": 1},
    {"type": None, "fields": {}},
    {"type": 5, "fields": {}},
    {"type": [UCB], "fields": {}},
    {"type": {}, "fields": {}},
    {"fields": {}},
    {},
    [],
    5,
    "abc",
    True,
    [part(UCB)],
    {"foreign": 5},
    deep(900),
]


@pytest.mark.parametrize("form", [*COMMANDS, *MISFITS], ids=lambda form: f"{form!r:.120}")
def test_a_form_that_is_no_acquisition_is_an_error(
    form: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "PRECIOUS").mkdir()
    with pytest.raises(StorageError, match=r"acquisition|stored"):
        from_json(form)
    assert [path.name for path in tmp_path.iterdir()] == ["PRECIOUS"]


def test_a_form_that_is_nested_without_end_is_an_error() -> None:
    with pytest.raises(StorageError, match="nested too deeply"):
        from_json(deep(100_000))


@pytest.mark.parametrize("name", CLASSES)
def test_a_value_of_any_kind_in_any_field_is_taken_or_an_error(name: str) -> None:
    module, _, attribute = CLASSES[name].partition(":")
    kind = getattr(import_module(module), attribute)
    values = [None, True, 0, -1, 5, 10**30, 0.5, -1e308, float("nan"), "", "abc", [], [1], [[1]], ["a"]]
    values += [part(UCB), part(EXACT), part("bo_suite.acquisition.bore:RootGamma")]
    for field in kind.__dataclass_fields__:
        for value in values:
            form = part(name, **{field: value})
            try:
                found = from_json(form)
            except StorageError:
                continue
            assert from_json(to_json(found)) == found


ENTRANCES = {
    "resume": lambda file: Optimizer.resume(file),
    "optimizer": lambda file: Optimizer(LINE, storage=file),
    "minimize": lambda file: minimize(lambda p: p["x"], LINE, budget=3, storage=file, progress=False),
}


def forged(folder: Path, form: Any, direction: str = "minimize") -> Path:
    file = folder / "run.db"
    space = Space({"alpha": Float(0.1, 1.0)}) if direction == "maximize" else LINE
    Optimizer(space, UpperConfidenceBound(), direction=direction, storage=file).close()
    with sqlite3.connect(file) as connection:
        connection.execute("UPDATE meta SET value = ? WHERE key = 'acquisition'", (json.dumps(form),))
    connection.close()
    return file


def run(*words: str) -> Any:
    return CliRunner().invoke(app, words)


@pytest.mark.parametrize("form", [*COMMANDS[:3], COMMANDS[8], MISFITS[0]], ids=lambda form: f"{form!r:.60}")
def test_nothing_in_a_history_file_runs(form: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "PRECIOUS").mkdir()
    file = forged(tmp_path, form)
    for enter in ENTRANCES.values():
        with pytest.raises(StorageError, match="stored"):
            enter(file)
    for command in (("ask", "run.db"), ("minimize", "branin", "--storage", "run.db"), ("best", "run.db")):
        answer = run(*command)
        assert answer.exit_code == 1, "`best` builds no acquisition: it finds no trial"
        assert isinstance(answer.exception, SystemExit)
    (tmp_path / "search").mkdir()
    file = forged(tmp_path / "search", form, "maximize")
    search = BOSearchCV(Ridge(), Space({"alpha": Float(0.1, 1.0)}), storage=file)
    with pytest.raises(StorageError, match="stored"):
        search.fit([[0.0], [1.0], [2.0], [3.0], [4.0], [5.0]], [0, 1, 2, 3, 4, 5])
    assert not (tmp_path / "PWNED").exists()
    assert (tmp_path / "PRECIOUS").is_dir()


def test_forms_of_0_8_0_are_restored_and_written_as_they_were() -> None:
    for text, acquisition in FORMS_OF_0_8_0.items():
        assert json.dumps(to_json(acquisition)) == text
        assert from_json(json.loads(text)) == acquisition


@pytest.mark.parametrize(
    ("value", "declared", "fits"),
    [
        (1, float, True),
        (1, int, True),
        (1.0, int, False),
        (True, int, False),
        (True, float, False),
        (True, bool, True),
        (1, bool, False),
        (None, None, True),
        (None, int | None, True),
        ("a", int | None, False),
        ((1, 2), tuple[int, ...], True),
        ((1, "a"), tuple[int, ...], False),
        ((), tuple[int, ...], True),
        ((1, "a"), tuple[int, str], True),
        ((1,), tuple[int, str], False),
        (len, float | Any, True),
    ],
)
def test_types_of_fields(value: Any, declared: Any, fits: bool) -> None:
    assert is_of_type(value, declared) is fits
