"""Search spaces: parameters, the space that they span, and its rows."""

from bo_suite.space.mixture import Mixture
from bo_suite.space.parameters import Choice, Float, Int
from bo_suite.space.space import Space

__all__ = ["Choice", "Float", "Int", "Mixture", "Space"]
