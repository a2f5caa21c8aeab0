"""Where to search: parameters, the space that they span, and rows of it."""

from bo_suite.space.parameters import Choice, Float, Int
from bo_suite.space.space import Space

__all__ = ["Choice", "Float", "Int", "Space"]
