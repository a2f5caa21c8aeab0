"""The templates of pages, and the words for numbers in them.

Text of a user is text in a page, whatever it contains: templates of HTML escape what is put into them, and
`seen` writes out what nobody sees.
"""

import math
from typing import TYPE_CHECKING, Any

from bo_suite.values.describe import visible

if TYPE_CHECKING:
    from jinja2 import Environment  # belongs to an extra


def templates(package: str) -> "Environment":
    """The templates of a package, with those that all pages share.

    Raises:
        ImportError: jinja2 is not installed.
    """
    try:
        from jinja2 import ChoiceLoader, Environment, PackageLoader, StrictUndefined
    except ImportError as error:
        raise ImportError("sentences and reports need jinja2: pip install 'bo-suite[report]'") from error
    made = Environment(
        loader=ChoiceLoader([PackageLoader(package), PackageLoader("bo_suite.pages")]),
        autoescape=lambda name: name is not None and name.endswith(".html.j2"),
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    made.filters |= {
        "counted": counted,
        "interval": interval,
        "names": names,
        "number": number,
        "percent": percent,
    }
    made.tests["missing"] = missing
    return made


def seen(page: str) -> str:
    """The page with invisible characters written out, but for the ends of its lines."""
    return "\n".join(map(visible, page.split("\n")))


def missing(value: Any) -> bool:
    """Whether a cell is None or NaN."""
    return value is None or value != value


def number(value: float | None) -> str:
    """The value to three significant digits."""
    if value is None or math.isnan(value):
        return "–"
    if math.isinf(value):
        return "∞" if value > 0 else "−∞"
    rounded = float(f"{value:.3g}")
    if rounded == 0 or 1000 <= abs(rounded) < 1e6:
        return f"{rounded:,.0f}"
    return f"{rounded:#.3g}".removesuffix(".")


def interval(ends: tuple[float | None, float | None]) -> str:
    return "–" if any(map(missing, ends)) else f"{number(ends[0])} to {number(ends[1])}"


def percent(share: float | None) -> str:
    return "–" if share is None or math.isnan(share) else f"{100 * share:.1f}%"


def counted(count: int, thing: str) -> str:
    return f"{count:,} {thing}" if count == 1 else f"{count:,} {thing}s"


def names(several: list[str]) -> str:
    shown = [visible(name) for name in several]
    return " and ".join([", ".join(shown[:-1]), shown[-1]] if len(shown) > 1 else shown)
