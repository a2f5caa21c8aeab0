"""What the model of a run predicts, in the user's units and direction."""

import math

import numpy as np
import pandas as pd
import pytest
import torch
from scipy import integrate, stats

from bo_suite import Choice, Float, Int, Optimizer, Space, minimize
from bo_suite.errors import ArgumentError, SpaceError, TrialError
from bo_suite.study.outcomes import OutcomeTransform

MIXED = Space(
    {"x": Float(-1, 2), "lr": Float(1e-4, 1.0, log=True), "n": Int(1, 5), "k": Choice(["a", "b", "c"])}
)
COLUMNS = ["mean", "std", "low", "high", "observation_std", "observation_low", "observation_high", "outside"]


def bowl(params: dict) -> float:
    return float(
        (params["x"] - 0.5) ** 2
        + math.log10(params["lr"] / 0.01) ** 2
        + 0.3 * (params["n"] - 2) ** 2
        + (params["k"] == "b")
    )


def told(space: Space, function, count: int, direction: str = "minimize") -> Optimizer:
    """An Optimizer with space-filling trials."""
    optimizer = Optimizer(space, direction=direction, initial=count)
    for _ in range(count):
        trial = optimizer.ask()
        optimizer.tell(trial, function(trial.params))
    return optimizer


def points_of(space: Space, count: int) -> list[dict]:
    uniform = torch.rand(count, space.dim, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    return space.decode(space.encoding.sample_from_unit(uniform))


@pytest.mark.parametrize("direction", ["minimize", "maximize"])
def test_a_smooth_function_of_a_mixed_space_is_predicted(direction: str) -> None:
    sign = 1.0 if direction == "minimize" else -1.0
    optimizer = told(MIXED, lambda params: sign * bowl(params), 80, direction)
    points = points_of(MIXED, 100)
    frame = optimizer.predict(points)
    truth = np.array([sign * bowl(point) for point in points])
    assert list(frame) == COLUMNS
    assert np.corrcoef(frame["mean"], truth)[0, 1] > 0.97
    assert ((frame["low"] <= truth) & (truth <= frame["high"])).mean() >= 0.75
    assert (frame["low"] <= frame["high"]).all()
    assert (frame["observation_low"] <= frame["low"]).all()
    assert (frame["observation_high"] >= frame["high"]).all()
    assert (frame["observation_std"] >= frame["std"]).all()
    assert not frame["outside"].any()


def test_the_mirrored_run_has_the_mirrored_predictions() -> None:
    points = points_of(MIXED, 9)
    least = told(MIXED, bowl, 15).predict(points)
    greatest = told(MIXED, lambda params: -bowl(params), 15, "maximize").predict(points)
    for name, mirrored, sign in (
        ("mean", "mean", -1.0),
        ("std", "std", 1.0),
        ("low", "high", -1.0),
        ("high", "low", -1.0),
        ("observation_low", "observation_high", -1.0),
        ("observation_std", "observation_std", 1.0),
    ):
        np.testing.assert_allclose(greatest[name], sign * least[mirrored], rtol=1e-9, atol=1e-12)


def test_moments_and_quantiles_are_those_of_the_mapped_normal_distribution() -> None:
    belief = told(MIXED, bowl, 12).belief()
    points = points_of(MIXED, 5)
    frame = belief.predict(points, interval=0.8)
    mean, var = belief.moments(belief.encode(points))

    def value(z: float) -> float:
        return float(belief.values(torch.tensor([z], dtype=torch.float64)))

    for index in range(5):
        for spread, prefix in ((0.0, ""), (float(belief.process.noise), "observation_")):
            normal = stats.norm(float(mean[index]), math.sqrt(float(var[index]) + spread))
            ends = [value(normal.ppf(share)) for share in (0.1, 0.9)]
            assert frame[f"{prefix}low"][index] == pytest.approx(ends[0], rel=1e-9)
            assert frame[f"{prefix}high"][index] == pytest.approx(ends[1], rel=1e-9)
            limits = normal.mean() - 8 * normal.std(), normal.mean() + 8 * normal.std()
            first, second = (
                integrate.quad(lambda z, k=k, n=normal: value(z) ** k * n.pdf(z), *limits, limit=300)[0]
                for k in (1, 2)
            )
            std = math.sqrt(second - first**2)
            if not prefix:
                assert frame["mean"][index] == pytest.approx(first, abs=0.01 * std)
            assert frame[f"{prefix}std"][index] == pytest.approx(std, rel=0.02)


@pytest.mark.parametrize(
    "values",
    [
        [5.0],
        [5.0] * 4,
        [0.0] * 3,
        [1e300, -1e300, 0.0],
        [1e-300, 2e-300, 5e-300, 3e-300],
        [1.0, 1.1, 1.2, 1.3, 1.4, 1e12, 1e250],
        [math.exp(k) for k in range(12)],
    ],
)
@pytest.mark.parametrize("direction", ["minimize", "maximize"])
def test_predictions_are_finite_and_end_at_the_cap(values: list[float], direction: str) -> None:
    optimizer = Optimizer(Space({"x": Float(0, 1)}), direction=direction)
    sign = 1.0 if direction == "minimize" else -1.0
    for index, value in enumerate(values):
        optimizer.add({"x": index / 12}, sign * value)
    frame = optimizer.predict([{"x": x} for x in np.linspace(0, 1, 20)], interval=0.999999)
    assert np.isfinite(frame.to_numpy(dtype=float)).all()
    assert (frame["low"] <= frame["mean"]).all()
    assert (frame["mean"] <= frame["high"]).all()
    transform = OutcomeTransform.fit(torch.tensor(values, dtype=torch.float64))
    worst = frame["high"].max() if sign > 0 else -frame["low"].min()
    cap = max(float(transform.cap), float(transform.location + transform.scale)) * float(transform.unit)
    assert worst <= cap * (1 + 1e-12 * np.sign(cap))


def test_points_may_be_a_dict_a_list_or_a_table_with_an_index() -> None:
    optimizer = told(MIXED, bowl, 8)
    points = points_of(MIXED, 3)
    expected = optimizer.predict(points)
    table = pd.DataFrame(points, index=["one", "two", "three"])[["k", "n", "x", "lr"]]
    of_table = optimizer.predict(table)
    assert list(of_table.index) == ["one", "two", "three"]
    np.testing.assert_array_equal(of_table.to_numpy(), expected.to_numpy())
    pd.testing.assert_frame_equal(optimizer.predict(points[0]), expected[:1])
    pd.testing.assert_frame_equal(optimizer.predict(table.iloc[0]), expected[:1])
    assert list(optimizer.predict([])) == COLUMNS


def test_a_run_at_fidelities_predicts_at_the_given_fidelity() -> None:
    space = Space({"x": Float(0, 1), "epochs": Int(1, 27, log=True, fidelity=True), "fixed": Int(3, 3)})
    optimizer = Optimizer(space)
    for point in points_of(space, 40):
        optimizer.add(point, (point["x"] - 0.3) ** 2 + 1.0 / point["epochs"])
    frame = optimizer.predict([{"x": 0.3, "epochs": epochs, "fixed": 3} for epochs in (1, 27)])
    assert frame["mean"][0] > frame["mean"][1] + 0.4
    assert optimizer.belief().recommended() == optimizer.recommend()


def test_an_observation_is_as_uncertain_as_the_noise() -> None:
    generator = np.random.default_rng(0)
    optimizer = told(
        Space({"x": Float(0, 1)}), lambda params: 3.0 * params["x"] + generator.normal(0.0, 0.5), 60
    )
    frame = optimizer.predict([{"x": 0.25}, {"x": 0.5}, {"x": 0.75}])
    assert np.allclose(frame["observation_std"], 0.5, rtol=0.4)
    assert (frame["std"] < 0.3).all()


@pytest.mark.parametrize("untold", [0, 9])
def test_a_new_observation_has_the_noise_that_was_told(untold: int) -> None:
    generator = np.random.default_rng(1)
    optimizer = Optimizer(Space({"x": Float(0, 1)}))
    for number in range(20):
        point = {"x": (number + 0.5) / 20}
        value = 3.0 * point["x"] + generator.normal(0.0, 0.5)
        optimizer.add(point, value, std=None if number < untold else 0.5)
    belief = optimizer.belief()
    frame = belief.predict([{"x": 0.25}, {"x": 0.5}, {"x": 0.75}])
    assert np.allclose(np.hypot(frame["std"], 0.5), frame["observation_std"], rtol=0.15)
    assert (frame["observation_high"] - frame["observation_low"] > 2 * 1.6 * 0.5 * 0.85).all()
    assert belief.data.noise is not None
    assert float(belief.observation_noise) == pytest.approx(np.nanmedian(belief.data.noise))


def test_few_told_noises_say_nothing_of_a_new_observation() -> None:
    optimizer = told(Space({"x": Float(0, 1)}), lambda params: params["x"], 5)
    assert float(optimizer.belief().observation_noise) == float(optimizer.belief().process.noise)
    for x in (0.1, 0.3, 0.5, 0.7, 0.9):
        optimizer.add({"x": x}, x, std=0.5)
    belief = optimizer.belief()
    assert float(belief.observation_noise) == float(belief.process.noise)


def test_the_result_of_minimize_has_a_belief() -> None:
    result = minimize(bowl, MIXED, budget=8, progress=False)
    frame = result.belief().predict(result.best.params)
    assert frame["mean"][0] == pytest.approx(result.best.value, abs=0.5)


def test_wrong_arguments_are_refused() -> None:
    optimizer = Optimizer(MIXED)
    with pytest.raises(TrialError, match="there is no model before a trial has finished, got 0 trials"):
        optimizer.predict({})
    optimizer.add({"x": 0.0, "lr": 0.1, "n": 2, "k": "a"}, 1.0)
    good = {"x": 0.0, "lr": 0.1, "n": 2, "k": "a"}
    for points, message in (
        ({"x": 0.0}, "every parameter must be given, missing"),
        ([good, good | {"z": 1}], "got unknown"),
        ([good | {"k": "d"}], "parameter 'k'"),
        (3, "a point must be a dict"),
    ):
        with pytest.raises(SpaceError, match=message):
            optimizer.predict(points)
    for interval in (0.0, 1.0, "half", math.nan):
        with pytest.raises(ArgumentError, match="`0 < interval < 1` must hold"):
            optimizer.predict(good, interval=interval)
