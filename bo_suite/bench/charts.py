"""Charts as SVG: legible at 320 pixels, in two colour schemes, in print, and without colours.

Every chart is 360 units wide, and is shown about as large, so that its text is as large as the page's.
Colours come from the page's style sheet, by class; a method has a dash pattern, a marker and a name as well.
"""

import math
import zlib
from collections.abc import Sequence
from dataclasses import dataclass

from markupsafe import Markup

from bo_suite.bench.wording import number, raised
from bo_suite.errors import DataError

_WIDTH = 360.0
_LEFT, _TOP, _BOTTOM = 42.0, 26.0, 34.0
_NAME = 19  # letters of the longest name that is shown whole
_GAP = 13.0  # between the baselines of labels
_STYLES = 8
_MARKS = (
    "M-3.2 0a3.2 3.2 0 1 0 6.4 0a3.2 3.2 0 1 0-6.4 0z",
    "M-2.9-2.9h5.8v5.8h-5.8z",
    "M0-3.9L3.7 2.7h-7.4z",
    "M0-4L4 0L0 4L-4 0z",
    "M0 3.9L3.7-2.7h-7.4z",
    "M-1.2-4h2.4v2.8H4v2.4H1.2V4h-2.4V1.2H-4v-2.4h2.8z",
    "M-4-1.7h8v3.4h-8z",
    "M-1.7-4h3.4v8h-3.4z",
)


@dataclass(frozen=True)
class Axis:
    """What runs along one side of a chart.

    Raises:
        DataError: ends that are not finite and in order, or not positive on a logarithmic axis.
    """

    label: str
    low: float
    high: float
    log: bool = False

    def __post_init__(self) -> None:
        if not (math.isfinite(self.low) and math.isfinite(self.high) and self.low < self.high):
            raise DataError(f"`low < high` must hold of an axis, got low={self.low}, high={self.high}")
        if self.log and self.low <= 0:
            raise DataError(f"`low > 0` must hold of a logarithmic axis, got low={self.low}")

    def share(self, value: float) -> float:
        """Where a value lies between the ends, from 0 to 1; values outside lie on the nearer end."""
        inside = min(max(value, self.low), self.high)
        if self.log:
            return math.log(inside / self.low) / math.log(self.high / self.low)
        return (inside - self.low) / (self.high - self.low)

    def ticks(self) -> list[float]:
        """Round values between the ends, mostly two to six."""
        if not self.log:
            return _round_values(self.low, self.high)
        first, last = math.ceil(math.log10(self.low) - 1e-9), math.floor(math.log10(self.high) + 1e-9)
        if last - first >= 2:
            return [10.0**power for power in range(first, last + 1, math.ceil((last - first + 1) / 5))]
        steps = [m * 10.0**power for power in range(first - 1, last + 1) for m in (1, 2, 5)]
        inside = [step for step in steps if self.low <= step * (1 + 1e-9) and step <= self.high * (1 + 1e-9)]
        return inside if len(inside) > 1 else _round_values(self.low, self.high)


def axis(label: str, values: Sequence[float], *, log: bool = False) -> Axis:
    """The axis that holds the values; of a logarithmic one the positive values within 12 powers of ten."""
    kept = [value for value in values if math.isfinite(value) and (value > 0 or not log)] or [1.0]
    low, high = min(kept), max(kept)
    if log:
        low = max(low, high * 1e-12)
        return Axis(label, low, high, log) if high > 1.5 * low else Axis(label, low / 2, high * 2, log)
    margin = 0.0 if high > low else 0.5 * abs(high) or 0.5
    return Axis(label, low - margin, high + margin, log)


@dataclass(frozen=True)
class Curve:
    """A method's values, each of which holds until the next, with an interval about them where there is one.

    Of more than `detail` steps some are left out, evenly, but never the last.
    """

    label: str
    style: int
    x: Sequence[float]
    y: Sequence[float]
    low: Sequence[float] = ()
    high: Sequence[float] = ()
    detail: int = 60


@dataclass(frozen=True)
class Row:
    """A method's value on a line of its own, with an interval or with the values it comes from."""

    label: str
    style: int
    value: float
    low: float = math.nan
    high: float = math.nan
    others: tuple[float, ...] = ()


def lines(curves: Sequence[Curve], *, x: Axis, y: Axis, title: str, text: str) -> Markup:
    """Step curves with their intervals as bands and their names at their ends."""
    right = _WIDTH - 2 - _gutter(curves)
    height = max(220.0, _TOP + _BOTTOM + _GAP * len(curves))
    frame = _Frame(x, y, (_LEFT, right), (height - _BOTTOM, _TOP))
    bands, strokes, ends = Markup(), Markup(), []
    for curve in curves:
        points = frame.points(curve)
        if points:
            bands += _grouped(curve.style, _band(points) if curve.low else Markup())
            strokes += _grouped(curve.style, _stroke(points) + _marks(points, curve.style, frame.across))
            ends.append((points[-1], curve))
    if not ends:
        return _svg(60, title, text, _text(0, 11, y.label, "start") + _text(_LEFT, 40, "no values", "start"))
    return _svg(height, title, text, frame.drawn() + bands + strokes + _names(ends, right, height))


def rank_diagram(
    rows: Sequence[Row], groups: Sequence[Sequence[str]], critical: float, *, title: str, text: str
) -> Markup:
    """Mean ranks, best first, with a bar across each group of methods that the ranks do not separate."""
    ordered = sorted((row for row in rows if math.isfinite(row.value)), key=lambda row: row.value)
    left, right = _gutter(ordered), _WIDTH - 40
    scale = Axis("Mean rank (1 is best)", 1.0, float(max(2, len(ordered))))
    where = {row.label: left + (right - left) * scale.share(row.value) for row in ordered}
    bars = [[where[name] for name in group if name in where] for group in groups]
    bars = [bar for bar in bars if len(bar) > 1]
    top = 46.0
    first = top + 18 + 9 * len(bars)
    body = _text(0, 11, scale.label, "start") + _bracket(left, right, scale, critical)
    body += _line(left, top, right, top, "rule")
    for tick in range(1, int(scale.high) + 1):
        place = left + (right - left) * scale.share(tick)
        body += _line(place, top - 4, place, top, "rule") + _text(place, top - 8, str(tick), "middle")
    for index, row in enumerate(ordered):
        body += _line(where[row.label], top, where[row.label], first + 20 * index, "drop")
    for index, bar in enumerate(bars):
        height = top + 10 + 9 * index
        body += _line(min(bar) - 4, height, max(bar) + 4, height, "bar")
    for index, row in enumerate(ordered):
        body += _row(row, scale, (left, right), first + 20 * index) + _text(
            _WIDTH - 2, first + 20 * index + 4, number(row.value), "end"
        )
    if not ordered:
        body += _text((left + right) / 2, first, "no ranks", "middle")
    return _svg(first + 20 * max(len(ordered), 1), title, text, body)


def dots(rows: Sequence[Row], *, x: Axis, title: str, text: str) -> Markup:
    """Each method's value on an axis, over small strokes at the values it comes from."""
    left, right = _gutter(rows), _WIDTH - 52
    bottom = 12 + 22.0 * max(len(rows), 1)
    body = _line(left, bottom, right, bottom, "rule")
    for tick in x.ticks():
        place = left + (right - left) * x.share(tick)
        body += _line(place, 8, place, bottom, "grid") + _text(place, bottom + 14, _tick(tick), "middle")
    body += _text((left + right) / 2, bottom + 30, x.label, "middle")
    for index, row in enumerate(rows):
        height = 20 + 22.0 * index
        body += _row(row, x, (left, right), height) + _text(_WIDTH - 2, height + 4, number(row.value), "end")
    return _svg(bottom + 36, title, text, body)


def swatch(style: int) -> Markup:
    """A piece of a method's line with its marker, to put before its name."""
    stroke = Markup('<path class="line" d="M1 6H27"/>') + _mark(style, 14, 6)
    return Markup('<svg class="swatch" viewBox="0 0 28 12" aria-hidden="true">{}</svg>').format(
        _grouped(style, stroke)
    )


def short(name: str) -> str:
    """The name, its middle left out where it is too long for a chart."""
    return name if len(name) <= _NAME else f"{name[: _NAME - 8]}…{name[-7:]}"


@dataclass(frozen=True)
class _Frame:
    """The two axes of a chart, and where they lie on the drawing."""

    x: Axis
    y: Axis
    across: tuple[float, float]
    up: tuple[float, float]

    def place(self, x: float, y: float) -> tuple[float, float]:
        (left, right), (bottom, top) = self.across, self.up
        return left + (right - left) * self.x.share(x), bottom + (top - bottom) * self.y.share(y)

    def points(self, curve: Curve) -> "list[_Point]":
        found: list[_Point] = []
        low, high = curve.low or curve.y, curve.high or curve.y
        for x, y, under, over in zip(curve.x, curve.y, low, high, strict=True):
            if math.isfinite(x) and math.isfinite(y):
                ends = (self.place(x, y if math.isnan(end) else end)[1] for end in (under, over))
                found.append(_Point(*(round(c, 1) for c in (*self.place(x, y), *ends))))
        kept = [
            p for before, p in zip([None, *found], found, strict=False) if p is found[-1] or p.differs(before)
        ]
        every = max(1, math.ceil(len(kept) / curve.detail))
        return kept[:-1:every] + kept[-1:]

    def drawn(self) -> Markup:
        (left, right), (bottom, _) = self.across, self.up
        body = _text(0, 11, self.y.label, "start") + _text(
            (left + right) / 2, bottom + 30, self.x.label, "middle"
        )
        for tick in self.y.ticks():
            height = self.place(self.x.low, tick)[1]
            body += _line(left, height, right, height, "grid") + _text(
                left - 5, height + 4, _tick(tick), "end"
            )
        for tick in self.x.ticks():
            place = self.place(tick, self.y.low)[0]
            body += _line(place, bottom, place, bottom + 4, "rule") + _text(
                place, bottom + 16, _tick(tick), "middle"
            )
        return body + _line(left, bottom, right, bottom, "rule")


@dataclass(frozen=True)
class _Point:
    x: float
    y: float
    low: float
    high: float

    def differs(self, other: "_Point | None") -> bool:
        return other is None or (self.y, self.low, self.high) != (other.y, other.low, other.high)


def _round_values(low: float, high: float) -> list[float]:
    rough = (high - low) / 5
    power = 10.0 ** math.floor(math.log10(rough))
    step = next(m * power for m in (1, 2, 5, 10) if m * power >= rough * (1 - 1e-9))
    first, last = math.ceil(low / step - 1e-9), math.floor(high / step + 1e-9)
    return [round(place * step, 12) if step > 1e-6 else place * step for place in range(first, last + 1)]


def _tick(value: float) -> str:
    if value == 0 or 1e-3 <= abs(value) < 1e4:
        return f"{value:.6g}".replace("-", "−")
    mantissa, power = f"{value:.3e}".split("e")
    factor = f"{float(mantissa):g}".replace("-", "−")
    return ("" if factor == "1" else f"{factor}×") + f"10{raised(int(power))}"


def _c(value: float) -> str:
    return f"{value:.1f}".removesuffix(".0")


def _text(x: float, y: float, content: str, anchor: str) -> Markup:
    return Markup('<text x="{}" y="{}" class="{}">{}</text>').format(_c(x), _c(y), anchor, content)


def _line(x1: float, y1: float, x2: float, y2: float, name: str) -> Markup:
    return Markup('<path class="{}" d="M{} {}L{} {}"/>').format(name, _c(x1), _c(y1), _c(x2), _c(y2))


def _grouped(style: int, body: Markup) -> Markup:
    dash = (style + style // _STYLES) % _STYLES
    return Markup('<g class="c{} d{}">{}</g>').format(style % _STYLES, dash, body)


def _mark(style: int, x: float, y: float) -> Markup:
    shape = _MARKS[(style + 2 * (style // _STYLES)) % len(_MARKS)]
    return Markup('<path class="mark" transform="translate({} {})" d="{}"/>').format(_c(x), _c(y), shape)


def _stroke(points: "list[_Point]") -> Markup:
    steps = "".join(f"H{_c(point.x)}V{_c(point.y)}" for point in points[1:])
    return Markup('<path class="line" d="M{} {}{}"/>').format(_c(points[0].x), _c(points[0].y), steps)


def _band(points: "list[_Point]") -> Markup:
    forth = "".join(f"H{_c(point.x)}V{_c(point.high)}" for point in points[1:])
    back = "".join(f"V{_c(before.low)}H{_c(before.x)}" for before in reversed(points[:-1]))
    start, end = points[0], points[-1]
    outline = f"M{_c(start.x)} {_c(start.high)}{forth}V{_c(end.low)}{back}Z"
    return Markup('<path class="band" d="{}"/>').format(outline)


def _marks(points: "list[_Point]", style: int, across: tuple[float, float]) -> Markup:
    marks = _mark(style, points[-1].x, points[-1].y)
    left, right = across
    for quarter in range(4):
        x = left + (right - left) * (0.06 + 0.25 * quarter + 0.025 * (style % _STYLES))
        before = [point for point in points if point.x <= x]
        if before and x < points[-1].x - 8:
            marks += _mark(style, x, before[-1].y)
    return marks


def _names(ends: "list[tuple[_Point, Curve]]", right: float, height: float) -> Markup:
    """The names of curves beside their ends, moved apart where they would overlap."""
    ordered = sorted(ends, key=lambda pair: pair[0].y)
    places: list[float] = []
    for point, _ in ordered:
        places.append(max(point.y, places[-1] + _GAP if places else _TOP - 6))
    limit = height - _BOTTOM - 2
    for index in reversed(range(len(places))):
        places[index] = min(places[index], limit)
        limit = places[index] - _GAP
    names = Markup()
    for (point, curve), place in zip(ordered, places, strict=True):
        label = _line(point.x, point.y, right + 9, place, "lead-line")
        names += _grouped(curve.style, label + _named(right + 12, place + 4, curve.label, "start"))
    return names


def _named(x: float, y: float, name: str, anchor: str) -> Markup:
    whole = Markup("<title>{}</title>").format(name) if short(name) != name else ""
    return Markup('<text x="{}" y="{}" class="{} name">{}{}</text>').format(
        _c(x), _c(y), anchor, whole, short(name)
    )


def _gutter(named: Sequence[Curve] | Sequence[Row]) -> float:
    """The width that names take beside a chart; letters are about as wide as those of a wide typeface."""
    return 12 + max([sum(map(_letter, short(one.label))) for one in named], default=0.0)


def _letter(letter: str) -> float:
    if ord(letter) >= 0x1100 and letter != "…":
        return 11.0
    return 9.3 if letter in "mwMW<>=+@%…" else 6.2


def _row(row: Row, scale: Axis, across: tuple[float, float], height: float) -> Markup:
    left, right = across
    body = _named(0, height + 4, row.label, "start")
    if math.isfinite(row.low) and math.isfinite(row.high):
        ends = (left + (right - left) * scale.share(end) for end in (row.low, row.high))
        body += Markup('<path class="whisker" d="M{} {}H{}"/>').format(
            _c(next(ends)), _c(height), _c(next(ends))
        )
    for other in row.others:
        if math.isfinite(other):
            place = left + (right - left) * scale.share(other)
            body += _line(place, height - 5, place, height + 5, "other")
    if math.isfinite(row.value):
        body += _mark(row.style, left + (right - left) * scale.share(row.value), height)
    return _grouped(row.style, body)


def _bracket(left: float, right: float, scale: Axis, critical: float) -> Markup:
    """The critical difference as a length of the axis, where it fits on it."""
    length = (right - left) * critical / (scale.high - scale.low)
    if not (0 < length <= right - left):
        return Markup()
    label = f"critical difference {number(critical)}"
    return _line(right - length, 18, right, 18, "bar") + _text(right, 11, label, "end")


def _svg(height: float, title: str, text: str, body: Markup) -> Markup:
    name = f"s{zlib.crc32(f'{title}|{text}'.encode('utf-8', 'backslashreplace')):08x}"
    return Markup(
        '<svg class="chart" viewBox="0 0 {} {}" role="img" aria-labelledby="{}t {}d">'
        '<title id="{}t">{}</title><desc id="{}d">{}</desc>{}</svg>'
    ).format(_c(_WIDTH), _c(height), name, name, name, title, name, text, body)
