"""Tables of the records of benchmarks/features.py, in Markdown."""

import math
import statistics
from collections.abc import Callable, Sequence
from typing import Any

Record = dict[str, Any]


def report(records: Sequence[Record]) -> None:
    """Prints a table for each part that has records."""
    if not records:
        print("no records")
        return
    last = records[-1]
    versions = ", ".join(f"{name} {version}" for name, version in last["versions"].items())
    commits = ", ".join(dict.fromkeys(record["commit"] for record in records))
    print(f"commit {commits}; {versions}; {last['device']}")
    for part, show in TABLES.items():
        rows = [record for record in records if record["part"] == part]
        if rows:
            print(f"\n## {part}")
            show(rows)
    for record in records:
        if "error" in record:
            print("failed:", {key: record[key] for key in record if key not in ("versions", "commit")})


def table(columns: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
    """Prints a Markdown table."""
    print(f"\n| {' | '.join(columns)} |")
    print("|" + "---|" * len(columns))
    for row in rows:
        print(f"| {' | '.join(row)} |")


def mean(records: Sequence[Record], key: str, digits: int = 3) -> str:
    """Mean of a number over records; a dash where there is none."""
    values = [record[key] for record in records if key in record]
    return f"{statistics.fmean(values):.{digits}f}" if values else "-"


def seconds(records: Sequence[Record], key: str = "seconds") -> str:
    """Median seconds, to two digits, or whole."""
    values = [record[key] for record in records if key in record]
    if not values:
        return "-"
    median = statistics.median(values)
    return f"{median:.0f}" if median >= 10 else f"{median:.2g}"


def grouped(records: Sequence[Record], *keys: str) -> dict[tuple[Any, ...], list[Record]]:
    """Records by the values of some keys, in their order; the last one of equal seeds."""
    groups: dict[tuple[Any, ...], dict[int, Record]] = {}
    for record in records:
        groups.setdefault(tuple(record[key] for key in keys), {})[record.get("seed", 0)] = record
    return {key: list(seeds.values()) for key, seeds in groups.items()}


def sets(records: Sequence[Record]) -> None:
    """A table for each regression set."""
    for (name, n, d, m), rows in grouped_rows(records, "set", "n", "d", "m").items():
        floor = rows[0].get("floor", math.nan)
        noise = "" if math.isnan(floor) else f", NLPD of the noise alone {mean(rows, 'floor')}"
        print(f"\n{name}: {n:,} x {d}, {m} inducing variables{noise}")
        lines = [
            [method, str(len(of)), seconds(of), mean(of, "nlpd"), mean(of, "rmse")]
            for (method,), of in grouped(rows, "method").items()
        ]
        table(("method", "seeds", "seconds", "NLPD", "RMSE"), lines)


def grouped_rows(records: Sequence[Record], *keys: str) -> dict[tuple[Any, ...], list[Record]]:
    """All records by the values of some keys."""
    groups: dict[tuple[Any, ...], list[Record]] = {}
    for record in records:
        groups.setdefault(tuple(record[key] for key in keys), []).append(record)
    return groups


def fixture(records: Sequence[Record]) -> None:
    """Bounds by kernel and inducing variables, beside the evidence."""
    variables = list(dict.fromkeys(record["variables"] for record in records))
    lines = []
    for (kernel,), rows in grouped_rows(records, "kernel").items():
        values = {record["variables"]: record for record in rows}
        lines.append(
            [kernel, *(mean([values[name]], "value") if name in values else "" for name in variables)]
        )
    table(("kernel", *variables), lines)
    below = [record["evidence"] - record["value"] for record in records if "evidence" in record]
    if below:
        print(f"\nEvidence less bound at the same hyperparameters: at least {min(below):.3g}")


def speed(records: Sequence[Record]) -> None:
    """Training by method, and the costs of a step by inducing variables."""
    fits = grouped([record for record in records if "method" in record], "method")
    lines = [
        [method, mean(of, "seconds", 1), mean(of, "cpu", 1), mean(of, "nlpd", 4), mean(of, "rmse", 4)]
        for (method,), of in fits.items()
    ]
    table(("method", "training, s", "CPU, s", "NLPD", "RMSE"), lines)
    steps = grouped([record for record in records if "variables" in record], "variables")
    lines = [
        [variables, *(f"{1e3 * of[0][key]:.2f}" if key in of[0] else "-" for key in COSTS)]
        for (variables,), of in steps.items()
    ]
    table(("inducing variables", *COSTS.values()), lines)


COSTS = {
    "objective": "value and gradient, ms",
    "factorise": "K_uu and its factor, ms",
    "whiten": "L⁻¹ k_u(x) of 1,000 rows, ms",
    "predict": "1,000 rows predicted, ms",
    "absorb": "a row absorbed, ms",
}


def guide(records: Sequence[Record]) -> None:
    """NLPD and seconds: a row for each size, dimension and kind, a column a method."""
    methods = list(dict.fromkeys(record["method"] for record in records))
    for key, show in (("nlpd", mean), ("seconds", seconds)):
        print(f"\n{key}")
        table(
            ("n", "d", "kind", "seeds", *methods), wide(records, methods, lambda of, k=key, s=show: s(of, k))
        )


def common(records: Sequence[Record]) -> list[Record]:
    """The records of seeds that every method has, so that means are of the same data."""
    seeds: dict[str, set[int]] = {record["method"]: set() for record in records}
    for record in records:
        seeds[record["method"]].add(record["seed"])
    shared = set.intersection(*seeds.values())
    return [record for record in records if record["seed"] in shared]


def wide(
    records: Sequence[Record], methods: Sequence[str], cell: Callable[[Sequence[Record]], str]
) -> list[list[str]]:
    """A row for each n, d and kind, with a cell a method."""
    lines = []
    for (n, d, kind), rows in grouped_rows(records, "n", "d", "kind").items():
        by_method = grouped(common(rows), "method")
        cells = [cell(by_method[method,]) if (method,) in by_method else "" for method in methods]
        seeds = min((len(of) for of in by_method.values()), default=0)
        lines.append([f"{n:,}", str(d), kind, str(seeds), *cells])
    return lines


def loop(records: Sequence[Record]) -> None:
    """Regret and seconds of asks: a row for each number of past observations and kind."""
    methods = list(dict.fromkeys(record["method"] for record in records))
    for key, title in (
        ("regret", "regret of the best ask"),
        ("recommended", "regret of what is recommended"),
    ):
        print(f"\n{title}")
        lines = wide(records, methods, lambda of, k=key: mean(of, k))
        known = [
            mean(common(rows), "past_regret") for rows in grouped_rows(records, "n", "d", "kind").values()
        ]
        lines = [[*line[:4], best, *line[4:]] for line, best in zip(lines, known, strict=True)]
        table(("n", "d", "kind", "seeds", "best of the past", *methods), lines)
    for key, title in (("first", "seconds of the first ask"), ("seconds", "seconds of a later ask")):
        print(f"\n{title}")
        table(("n", "d", "kind", "seeds", *methods), wide(records, methods, lambda of, k=key: seconds(of, k)))


TABLES: dict[str, Callable[[Sequence[Record]], None]] = {
    "sets": sets,
    "fixture": fixture,
    "speed": speed,
    "guide": guide,
    "loop": loop,
}
