"""Learning curves of networks on 34 data sets, by the surrogate `lcbench` of YAHPO Gym.

The data are not part of the package: the folder holds `model.onnx`, `encoding.json` and `config_space.json`
of the scenario. The network needs the extra `bo-suite[curves]`.
"""

import json
import os
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from bo_suite.errors import DataError
from bo_suite.problems.curves.base import Curve
from bo_suite.space.parameters import Float, Int
from bo_suite.space.space import Params, Space

_Array = npt.NDArray[np.float64]
_EPOCHS = 52
_LEAST_SECONDS = 0.1  # of an epoch: the network's times may be flat or fall
_COLUMNS = (
    *("batch_size", "learning_rate", "momentum", "weight_decay"),
    *("num_layers", "max_units", "max_dropout"),
)
_SPACE = Space(
    {
        "batch_size": Int(16, 512, log=True),
        "learning_rate": Float(1e-4, 1e-1, log=True),
        "momentum": Float(0.1, 0.99),
        "weight_decay": Float(1e-5, 1e-1),
        "num_layers": Int(1, 5),
        "max_units": Int(64, 1024, log=True),
        "max_dropout": Float(0.0, 1.0),
    }
)
_VARIABLE = "BO_SUITE_DATA"
_TIME, _ACCURACY = 0, 1  # columns of the network's output


@dataclass(frozen=True)
class LCBench:
    """Validation accuracy in per cent, to be maximised, after each of 52 epochs of training on one data set.

    Accuracies are clipped to [0, 100]. The time up to an epoch is the network's, but at least 0.1 seconds
    more than up to the epoch before, so that it increases.

    Attributes:
        task: OpenML task of the data set, one of `lcbench_tasks(folder)`.
        folder: that holds the data; None for the folder `lcbench` in the folder that the environment variable
            BO_SUITE_DATA names.

    Raises:
        DataError: there are no data, or none of the task, or onnxruntime is not installed.

    References: Zimmer, Lindauer and Hutter (2021), "Auto-PyTorch tabular"; Pfisterer et al. (2022), "YAHPO
    Gym: an efficient multi-objective multi-fidelity benchmark".
    """

    task: int
    folder: str | None = None

    def __post_init__(self) -> None:
        if self.task not in (tasks := lcbench_tasks(self.folder)):
            raise DataError(f"the task must be one of {list(tasks)}, got {self.task!r}")
        _session(str(_folder(self.folder)))

    @property
    def name(self) -> str:
        """`lcbench_TASK`."""
        return f"lcbench_{self.task}"

    @property
    def space(self) -> Space:
        """Seven hyperparameters."""
        return _SPACE

    @property
    def max_step(self) -> int:
        """52 epochs."""
        return _EPOCHS

    @property
    def direction(self) -> Literal["maximize"]:
        """The accuracy is to be large."""
        return "maximize"

    def curve(self, params: Params) -> Curve:
        """The accuracies and times; raises a SpaceError if params are not a point of the space."""
        return self.curves([params])[0]

    def curves(self, points: Sequence[Params]) -> list[Curve]:
        """The curves of many points, each equal to that of the point alone."""
        outputs = self._outputs(points, np.arange(1.0, _EPOCHS + 1))
        return [Curve(_clipped(one[:, _ACCURACY]), _increasing(one[:, _TIME])) for one in outputs]

    def values_at(self, points: Sequence[Params], step: int) -> _Array:
        """The accuracies of many points after one epoch, each equal to that in the point's curve; (n,)."""
        return _clipped(self._outputs(points, np.array([float(step)]))[:, 0, _ACCURACY])

    def _outputs(self, points: Sequence[Params], epochs: _Array) -> _Array:
        """The network's output of each point and epoch, (n, epochs, 6)."""
        if not points:
            return np.zeros((0, len(epochs), 6))
        network, codes = _session(str(_folder(self.folder)))
        checked = [_SPACE.check(point) for point in points]
        numbers = np.array([[point[name] for name in _COLUMNS] for point in checked])
        repeated = np.repeat(numbers, len(epochs), axis=0)
        rows = np.hstack([np.tile(epochs, len(points))[:, None], repeated]).astype(np.float32)
        task = np.full((len(rows), 1), codes[str(self.task)], dtype=np.int32)
        output = np.asarray(network.run(None, {"x_cat": task, "x_cont": rows})[0], dtype=np.float64)
        return output.reshape(len(points), len(epochs), -1)


def lcbench_tasks(folder: str | None = None) -> tuple[int, ...]:
    """The OpenML tasks of the data sets, ascending.

    Args:
        folder: as that of `LCBench`.

    Raises:
        DataError: the folder has no data.
    """
    return _tasks(str(_folder(folder)))


def _folder(folder: str | None) -> Path:
    """The folder of the data."""
    if folder is None and _VARIABLE not in os.environ:
        raise DataError(
            f"lcbench needs its data: pass their `folder`, or set {_VARIABLE} to the one above it"
        )
    return Path(os.environ[_VARIABLE]) / "lcbench" if folder is None else Path(folder)


def _clipped(accuracies: _Array) -> _Array:
    return np.asarray(np.clip(accuracies, 0.0, 100.0))


def _increasing(seconds: _Array) -> _Array:
    """The smallest times that are at least these, each at least `_LEAST_SECONDS` above the one before."""
    least = _LEAST_SECONDS * np.arange(1, len(seconds) + 1)
    return np.asarray(np.maximum.accumulate(np.maximum(seconds - least, 0.0)) + least)


@lru_cache(maxsize=4)
def _tasks(folder: str) -> tuple[int, ...]:
    (task,) = (one for one in _read(folder, "config_space.json")["hyperparameters"] if "task" in one["name"])
    return tuple(sorted(int(choice) for choice in task["choices"]))


@lru_cache(maxsize=4)
def _session(folder: str) -> tuple[Any, dict[str, int]]:
    """The network, on one thread, and the code of each task."""
    if find_spec("onnxruntime") is None:
        raise DataError(
            "lcbench needs the package onnxruntime: install it with `pip install 'bo-suite[curves]'`"
        )
    onnx = import_module("onnxruntime")
    options = onnx.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    path = str(Path(folder) / "model.onnx")
    network = onnx.InferenceSession(path, options, providers=["CPUExecutionProvider"])
    return network, _read(folder, "encoding.json")["OpenML_task_id"]


def _read(folder: str, name: str) -> Any:
    try:
        return json.loads((Path(folder) / name).read_text())
    except OSError as error:
        raise DataError(f"the folder of lcbench must hold {name}, got {folder!r}") from error
