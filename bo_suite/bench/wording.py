"""Numbers, intervals and p-values in words."""

import json
import math
import re

_LETTERS = 200  # of a reason in a sentence


def number(value: float | None) -> str:
    """The value to three significant digits, with a power of ten below 0.001 and from 100,000."""
    if value is None or math.isnan(value):
        return "–"
    sign = "−" if value < 0 else ""
    if math.isinf(value):
        return f"{sign}∞"
    mantissa, power = f"{abs(value):.2e}".split("e")
    exponent = int(power)
    if value == 0 or -4 < exponent < 5:
        return sign + (f"{float(f'{mantissa}e{power}'):.{max(0, 2 - exponent)}f}" if value else "0")
    return f"{sign}{mantissa}×10{raised(exponent)}"


def raised(exponent: int) -> str:
    """The exponent, in small raised digits."""
    return str(exponent).translate(str.maketrans("-0123456789", "⁻⁰¹²³⁴⁵⁶⁷⁸⁹"))


def counted(count: int, thing: str) -> str:
    return f"{count:,} {thing}" if count == 1 else f"{count:,} {thing}s"


def listed(names: list[str]) -> str:
    return names[0] if len(names) == 1 else f"{', '.join(names[:-1])} and {names[-1]}"


def last_line(reason: str) -> str:
    """The last line of a reason that says anything, for the middle of a sentence."""
    lines = [" ".join(line.split()) for line in reason.splitlines() if line.strip()]
    return lines[-1][:_LETTERS].rstrip(".") if lines else "no reason given"


def missing(value: float | None) -> bool:
    return value is None or math.isnan(value)


def interval(low: float | None, high: float | None) -> str:
    return "–" if missing(low) or missing(high) else f"{number(low)} to {number(high)}"


def percent(share: float | None) -> str:
    return "–" if share is None or math.isnan(share) else f"{100 * share:.1f}%"


def chance(p: float) -> str:
    """The p-value in one or two digits: "p = 0.012", "p = 3e-05" or "p < 1e-99"."""
    if p < 1e-99:
        return "p < 1e-99"
    if p < 0.001:
        mantissa, exponent = f"{p:.0e}".split("e")
        return f"p = {mantissa}e{int(exponent)}"
    return f"p = {p:.3f}" if p < 0.1 else f"p = {p:.2f}"


def typeset(sentence: str) -> str:
    """The sentence with its p-values unbroken, and with powers of ten written out."""

    def value(match: re.Match[str]) -> str:
        sign, digits, power = match.groups()
        found = f"{digits}×10{raised(int(power))}" if power else digits
        return f"p\N{NO-BREAK SPACE}{sign}\N{NO-BREAK SPACE}{found}"

    return re.sub(r"\bp ([=<]) ([\d.]+)(?:e(-?\d+))?", value, sentence)


def told(value: object) -> str:
    return "not recorded" if value is None or value != value or value == "" else str(value)


def versions(text: object) -> str:
    """Of a JSON object; the text itself where it is none."""
    try:
        found = json.loads(str(text))
    except ValueError:
        return told(text)
    return (
        ", ".join(f"{name} {version}" for name, version in found.items())
        if isinstance(found, dict)
        else str(text)
    )
