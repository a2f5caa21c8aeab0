"""Reprs of objects: lines of at most 79 characters in a console, a small HTML table in a notebook."""

from collections.abc import Iterable, Mapping, Sequence
from html import escape
from textwrap import fill

from bo_suite.values.describe import described, visible

_WIDTH = 79
"""Characters of a line, so that it fits a console of 80."""

_LINES, _VALUE = 12, 60
"""Maximum number of lines or rows, and of characters of a value; an ellipsis marks what is left out."""


def shown_text(text: str) -> str:
    """The text wrapped to lines; all but the first are indented."""
    return fill(
        visible(text),
        _WIDTH,
        subsequent_indent="    ",
        max_lines=_LINES,
        placeholder=" ...",
        break_on_hyphens=False,
    )


def shown_line(text: str) -> str:
    """The text on one line, cut at the end if it is too long."""
    line = visible(text)
    return line if len(line) <= _WIDTH else f"{line[: _WIDTH - 3]}..."


def shown_value(value: object) -> str:
    """A value as text; a float has six significant digits."""
    return f"{value:.6g}" if isinstance(value, float) else visible(described(value, _VALUE))


def shown_point(params: Mapping[str, object]) -> str:
    """Names and values of a point as text."""
    return ", ".join(f"{name}={shown_value(value)}" for name, value in params.items())


def shown_list(items: Sequence[str]) -> list[str]:
    """The first items, and the number of items left out."""
    return [*items] if len(items) <= _LINES else [*items[: _LINES - 1], f"... {len(items) - _LINES + 1} more"]


def html_table(caption: str, headings: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """An HTML table of the first rows and columns; all text is escaped."""
    head = f"<thead>{_row('th', headings)}</thead>" if headings else ""
    body = "".join(_row("td", row) for row in rows[:_LINES])
    more = f"; {_LINES} of {len(rows)} are shown" if len(rows) > _LINES else ""
    return f"<table><caption>{_text(caption + more)}</caption>{head}<tbody>{body}</tbody></table>"


def _row(tag: str, cells: Iterable[str]) -> str:
    return f"<tr>{''.join(f'<{tag}>{_text(cell)}</{tag}>' for cell in shown_list([*cells]))}</tr>"


def _text(text: str) -> str:
    return escape(visible(text))
