"""Two methods of benchmarks/field.py, such as two versions of bo_suite, paired by problem and seed."""

import numpy as np
import pandas as pd
from field_runs import Array, Runs

from bo_suite.bench.bootstrap import RESAMPLES, percentile_interval
from bo_suite.bench.signed_ranks import differences, signed_rank_p

_FLOOR = 1e-6
_SHOWN = 12
_HEADER = """Over the (problem, seed) that both have run. Rank: 0 if {first} always found less than {second},
1 if always more, mean over problems. log10 ratio: of the normalised regret of {first} over that of {second},
each between 1e-6 and 1, mean over problems; below 0 {first} is better. Intervals are 95%, from resampled
problems and seeds. p: of the signed-rank test, uncorrected."""


def comparison(runs: Runs, first: str, second: str) -> str:
    """The comparison by class and over all, and the problems that differ most, as text."""
    known = sorted(set(runs.table["method"]))
    if missing := [name for name in (first, second) if name not in known]:
        raise SystemExit(f"no runs of {missing[0]}; there are runs of {', '.join(known)}")
    table = runs.table.pivot(index=["class", "problem", "seed"], columns="method", values="regret")
    both = table[[first, second]].dropna()
    if both.empty:
        raise SystemExit(f"{first} and {second} have no problem and seed in common")
    ratios = pd.DataFrame(
        {
            "ratio": _logarithm(both[first]) - _logarithm(both[second]),
            "rank": (_signs(both[first], both[second]) + 1) / 2,
        },
        index=both.index,
    )
    rows = [_row(str(name), own) for name, own in ratios.groupby(ratios.index.get_level_values("class"))]
    if len(rows) > 1:
        rows.append(_row("all classes", ratios))
    means = ratios["ratio"].groupby(level="problem").mean().sort_values()
    lines = [_HEADER.format(first=first, second=second), "", pd.DataFrame(rows).to_string(index=False), ""]
    for title, some in (
        ("better", means[means < 0][:_SHOWN]),
        ("worse", means[means > 0][: -_SHOWN - 1 : -1]),
    ):
        shown = ", ".join(f"{name} {value:+.2f}" for name, value in some.items())
        lines.append(f"{first} is {title} most on (log10 ratio): {shown or 'none'}")
    return "\n".join(lines)


def _logarithm(regrets: pd.Series) -> pd.Series:
    return pd.Series(np.log10(regrets.clip(_FLOOR, 1.0)), index=regrets.index)


def _signs(first: pd.Series, second: pd.Series) -> Array:
    """-1 where the first is smaller by more than a rounding error, 1 where it is larger, else 0."""
    return np.asarray(np.sign(differences(first.round(9), second.round(9))))


def _row(name: str, own: pd.DataFrame) -> dict[str, str | int]:
    problems = own.index.get_level_values("problem")
    rank, rank_ends = _clustered(own["rank"])
    ratio, ratio_ends = _clustered(own["ratio"])
    return {
        "class": name,
        "problems": problems.nunique(),
        "pairs": len(own),
        "wins": int((own["rank"] == 0.0).sum()),
        "ties": int((own["rank"] == 0.5).sum()),
        "losses": int((own["rank"] == 1.0).sum()),
        "rank": f"{rank:.3f}",
        "95% of rank": f"{rank_ends[0]:.2f} to {rank_ends[1]:.2f}",
        "log10 ratio": f"{ratio:+.3f}",
        "95% of log10 ratio": f"{ratio_ends[0]:+.2f} to {ratio_ends[1]:+.2f}",
        "p": f"{signed_rank_p(own['ratio'].to_numpy(), problems.astype(str)):.2g}",
    }


def _clustered(values: pd.Series) -> tuple[float, tuple[Array, Array]]:
    """The mean over problems of the means over seeds, and its interval from resampled problems and seeds."""
    generator = np.random.default_rng(0)
    groups = [own.to_numpy() for _, own in values.groupby(level="problem")]
    resampled = [own[generator.integers(len(own), size=(RESAMPLES, len(own)))].mean(axis=1) for own in groups]
    shares = generator.multinomial(len(groups), np.full(len(groups), 1 / len(groups)), RESAMPLES)
    means = (shares * np.stack(resampled, axis=1)).sum(axis=1) / len(groups)
    return float(np.mean([own.mean() for own in groups])), percentile_interval(means)
