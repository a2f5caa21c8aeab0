"""Cells of tables that spreadsheets open: no text is a formula there."""

_FORMULA = ("=", "+", "-", "@", "\t", "\r", "\n", "＝", "＋", "－", "＠")
"""Characters with which a spreadsheet begins a formula, the last four as East Asian wide letters."""


def inert(text: str) -> str:
    """The text with an apostrophe before it, if a spreadsheet would compute it."""
    return f"'{text}" if text.lstrip("'").startswith(_FORMULA) else text


def live(text: str) -> str:
    """The text that `inert` made another one of; any other text unchanged."""
    return text[1:] if text.startswith("'") and inert(text) != text else text
