"""How a broken rule is reported."""


def require(holds: bool, law: str) -> None:
    """Raises AssertionError with the law unless it holds; `assert` would vanish from an optimised Python."""
    if not holds:
        raise AssertionError(law)
