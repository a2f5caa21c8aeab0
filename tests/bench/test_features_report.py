"""The benchmark of inducing features: its functions, its resumption, and its tables."""

import sys
from argparse import Namespace
from pathlib import Path

import pytest
import torch

sys.path.insert(0, str(Path(__file__).parents[2] / "benchmarks"))

import features
from features_report import report
from features_sets import STEPS, Function

from bo_suite.errors import FitError


@pytest.mark.parametrize("kind", ["smooth", "stepped"])
def test_no_value_is_below_the_minimum_of_a_function(kind: str) -> None:
    function = Function(kind, active=2, lengthscale=0.5, seed=3)
    x = torch.rand(20_000, 3, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    values = function.values(x)
    assert function.minimum - 1e-9 <= float(values.min()) <= function.minimum + 0.05
    assert torch.equal(values, function.values(torch.cat((x[:, :2], x[:, :1]), -1)))  # two columns matter
    assert abs(float(values.mean())) < 0.1
    assert abs(float(values.std()) - 1.0) < 0.1


def test_stepped_functions_are_constant_in_a_cell_and_periodic_ones_repeat() -> None:
    x = torch.rand(50, 2, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    cells = (x * STEPS).floor()
    stepped, periodic = (Function(kind, 2, 0.5, seed=0) for kind in ("stepped", "periodic"))
    assert torch.equal(stepped.values((cells + 0.1) / STEPS), stepped.values((cells + 0.9) / STEPS))
    torch.testing.assert_close(periodic.values(x / 2), periodic.values(x / 2 + 0.5))


def test_what_the_file_has_is_not_measured_again_and_failures_are_shown(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    calls: list[str] = []

    def tasks(options: Namespace):
        def measured(method: str) -> dict[str, float]:
            calls.append(method)
            if method == "b":
                raise FitError("no finite bound")
            return {"seconds": 1.5, "nlpd": 0.25, "rmse": 0.5, "floor": -1.0}

        for method in ("a", "b"):
            key = {"part": "sets", "method": method, "set": "s", "n": 1000, "d": 2, "m": 16, "seed": 0}
            yield key, lambda m=method: measured(m)

    monkeypatch.setattr(features, "MEASURES", {"sets": tasks})
    options = Namespace(out=tmp_path / "rows.jsonl", parts=["sets"])
    features.measure(options)
    features.measure(options)
    assert calls == ["a", "b"]
    capsys.readouterr()
    report(features.read(options.out))
    shown = capsys.readouterr().out
    assert "s: 1,000 x 2, 16 inducing variables, NLPD of the noise alone -1.000" in shown
    assert "| a | 1 | 1.5 | 0.250 | 0.500 |" in shown
    assert "no finite bound" in shown
