"""Commands that ask the model: `recommend`, `predict`, `importance`."""

import math
from contextlib import closing
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, cast

import typer

from bo_suite.cli.console import USAGE, print_json, print_lines, print_points, print_table, sentences, stop
from bo_suite.cli.options import (
    ColumnOption,
    FixedOption,
    JsonOption,
    RobustOption,
    StorageArgument,
    deviations_in,
    fixed_values,
    headings_in,
)

if TYPE_CHECKING:
    import pandas as pd

    from bo_suite.space.space import Params, Space

IntervalOption = Annotated[float, typer.Option(help="Probability of the intervals, between 0 and 1.")]


@sentences()
def recommend(
    storage: StorageArgument,
    fixed: FixedOption = None,
    robust: RobustOption = None,
    interval: IntervalOption = 0.9,
    as_json: JsonOption = False,
) -> None:
    """Show the point that the model recommends, evaluated or not, and what it predicts there.

    Under noise it is a better choice than `best`, whose value may be luck. With several objectives these are
    at most ten points that no other is predicted to dominate, and the JSON is a list. With `--robust` it is
    the point with the best mean over what may be set about it; the prediction is of the point itself.
    """
    from bo_suite.study.optimizer import Optimizer

    with closing(Optimizer.resume(storage)) as optimizer:
        space = optimizer.space
        point = optimizer.recommend(fixed_values(space, fixed), deviations_in(space, robust))
        points = point if isinstance(point, list) else [point]
        predictions = _rows(optimizer.predict(points, interval))
    if as_json:
        records = [{"params": one} | row for one, row in zip(points, predictions, strict=True)]
        print_json(records if isinstance(point, list) else records[0])
    else:
        _print_predictions(points, predictions, space, interval)


@sentences()
def predict(
    storage: StorageArgument,
    values: Annotated[
        list[str] | None,
        typer.Argument(metavar="[NAME=VALUE ...]", help="A point, with a value for every parameter."),
    ] = None,
    points: Annotated[
        Path | None,
        typer.Option(metavar="FILE.CSV", help="A table of points, with a column for each parameter."),
    ] = None,
    column: ColumnOption = None,
    interval: IntervalOption = 0.9,
    as_json: JsonOption = False,
) -> None:
    """Show what the model predicts at points: mean and interval of the function, and of an observation.

    With several outcomes the JSON has these by name below `outcomes`.
    """
    from bo_suite.space.text import values_in
    from bo_suite.storage.csv_files import read_points
    from bo_suite.study.optimizer import Optimizer

    if bool(values) == (points is not None):
        stop("predict needs a point (NAME=VALUE ...) or --points FILE.CSV, and not both", USAGE)
    with closing(Optimizer.resume(storage)) as optimizer:
        space = optimizer.space
        if points is not None:
            asked = read_points(points, space, headings_in(space, column))
        else:
            asked = [space.accept(values_in(space, values or []))]
        predictions = _rows(optimizer.predict(asked, interval))
    if as_json:
        print_json([{"params": point} | row for point, row in zip(asked, predictions, strict=True)])
    else:
        _print_predictions(asked, predictions, space, interval)


@sentences()
def importance(storage: StorageArgument, as_json: JsonOption = False) -> None:
    """Show how much of the variation each parameter explains, the most important first.

    `total` is its share with all interactions, with a 90 % interval; `alone` its share without these;
    `ped_anova` a second opinion, from where the best quarter of the trials is. With several outcomes there is
    a table for each, and the JSON has these by name.
    """
    from bo_suite.study.optimizer import Optimizer

    with closing(Optimizer.resume(storage)) as optimizer:
        tables = {name: _shares(optimizer.belief(name).importance()) for name in optimizer.goals.names}
    only, *others = tables.values()
    if as_json:
        print_json(tables if others else only)
        return
    for name, rows in tables.items():
        if others:
            print_lines(name)
        _print_shares(rows)


def _shares(table: "pd.DataFrame") -> list[dict[str, Any]]:
    """The rows of the table of one outcome."""
    return [{"parameter": name} | row for name, row in zip(table.index, _rows(table), strict=True)]


def _print_shares(rows: list[dict[str, Any]]) -> None:
    """Prints the table of one outcome."""
    headings = ("parameter", "total", "90% interval", "alone", "ped_anova")
    cells = [
        (
            row["parameter"],
            *(_share(row["total"]), f"{_share(row['low'])} to {_share(row['high'])}"),
            *(_share(row["main"]), _share(row["ped_anova"])),
        )
        for row in rows
    ]
    print_table(headings, cells)


def _print_predictions(
    points: "list[Params]", predictions: list[dict[str, Any]], space: "Space", interval: float
) -> None:
    """Prints a table of points and of what is predicted there."""
    share = f"{100 * interval:.4g}%"
    if "outcomes" in predictions[0]:
        headings = [f"{name} ({share})" for name in predictions[0]["outcomes"]]
        cells = [
            [f"{one['mean']:.6g} ({one['low']:.6g} to {one['high']:.6g})" for one in row["outcomes"].values()]
            for row in predictions
        ]
        print_points(headings, cells, points, space)
        return
    headings = ["mean", f"{share} of the function", f"{share} of observations"]
    outside = any(row["outside"] for row in predictions)
    rows = [
        (
            f"{row['mean']:.6g}",
            *(f"{row[f'{kind}low']:.6g} to {row[f'{kind}high']:.6g}" for kind in ("", "observation_")),
            *(["outside" if row["outside"] else ""] if outside else []),
        )
        for row in predictions
    ]
    print_points([*headings, *(["space"] if outside else [])], rows, points, space)


def _share(value: float | None) -> str:
    return "unknown" if value is None else f"{value:.3f}"


def _rows(table: "pd.DataFrame") -> list[dict[str, Any]]:
    """The rows of a table as JSON values; None for what is not finite.

    With several outcomes a row has these by name below "outcomes".
    """
    if table.columns.nlevels > 1:
        names = list(dict.fromkeys(table.columns.get_level_values(0)))
        parts = [_rows(cast("pd.DataFrame", table[name])) for name in names]
        return [{"outcomes": dict(zip(names, row, strict=True))} for row in zip(*parts, strict=True)]
    return [
        {
            str(name): None if isinstance(value, float) and not math.isfinite(value) else value
            for name, value in row.items()
        }
        for row in table.to_dict("records")
    ]
