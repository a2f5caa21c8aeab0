"""The error for a broken rule."""


def require(holds: bool, law: str) -> None:
    """Raises AssertionError with the law unless it holds; `assert` would be removed by `python -O`."""
    if not holds:
        raise AssertionError(law)
