"""What half of the runs of each method attained on a problem with two objectives, and its picture."""

import json
import math
from collections.abc import Mapping
from importlib import import_module
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from bo_suite.bench.feasibility import stored_goals
from bo_suite.bench.figures import Style
from bo_suite.bench.merit import require_moocore
from bo_suite.bench.records import Records
from bo_suite.pages.drawing import literal, new_figure
from bo_suite.plot.style import short_name
from bo_suite.storage.goals import Goals

if TYPE_CHECKING:  # plotly belongs to an extra
    from plotly.graph_objects import Figure


def attainment(records: Records, problem: str) -> pd.DataFrame:
    """The median attainment surface of each method: the points that at least half of its runs dominate.

    A row a corner of the surface, in the order of the first objective: method, and a column for each
    objective in the user's units. Feasible points alone count. Empty unless the problem has two objectives.

    Reference: Fonseca, Guerreiro, López-Ibáñez and Paquete (2011), "On the computation of the empirical
    attainment function".

    Args:
        records: of the suite.
        problem: name.

    Raises:
        DataError: moocore is not installed.
    """
    goals = _goals(records, problem)
    if goals is None or len(goals.objectives) != 2:
        return pd.DataFrame(columns=["method"])
    require_moocore()
    names = [one.name for one in goals.objectives]
    signs = np.array([one.sign for one in goals.objectives])
    rows = records.evaluations[records.evaluations["problem"] == problem]
    tables = []
    for method, units in records.units[records.units["problem"] == problem].groupby("method"):
        own = rows[(rows["method"] == method) & (rows["feasible"] == True)]  # noqa: E712 (None is neither)
        needed, with_points = math.ceil(len(units) / 2), own["seed"].nunique()
        if with_points < needed:
            continue
        losses = np.array([goals.losses(json.loads(str(text))) for text in own["outcomes"]])
        # Runs without a feasible point attain nothing; moocore rounds the share of the others up to a run.
        share = 100.0 * (needed - 0.5) / with_points
        surface = import_module("moocore").eaf(losses, own["seed"].to_numpy(), percentiles=[share])
        points = surface[np.argsort(surface[:, 0]), :2] * signs
        tables.append(pd.DataFrame(points, columns=names).assign(method=str(method)))
    return pd.concat(tables, ignore_index=True) if tables else pd.DataFrame(columns=["method", *names])


def _goals(records: Records, problem: str) -> Goals | None:
    (text,) = records.problems["goals"][records.problems["problem"] == problem]
    return None if text is None else stored_goals(str(text))


def attainment_figure(table: pd.DataFrame, styles: Mapping[str, Style]) -> "Figure":
    """The surfaces of `attainment` as steps, a line a method."""
    from plotly.graph_objects import Scatter

    first, second = (name for name in table.columns if name != "method")
    figure = new_figure(320)
    for method, style in styles.items():
        own = table[table["method"] == method]
        if not own.empty:
            line = Scatter(x=own[first], y=own[second], name=literal(short_name(method)), line=style.line)
            figure.add_trace(line.update(mode="lines", hovertemplate="%{x:.4g}, %{y:.4g}"))
    figure.update_xaxes(title_text=literal(first))
    figure.update_yaxes(title_text=literal(second))
    return figure
