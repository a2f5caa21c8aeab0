"""Parts of a whole: parameters that sum to a total."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from types import MappingProxyType

from bo_suite.errors import SpaceError
from bo_suite.space.constraint_text import quoted_name
from bo_suite.space.forms import finite
from bo_suite.space.parameters import Float
from bo_suite.values.describe import described

Bounds = Mapping[str, tuple[float, float]]


@dataclass(frozen=True)
class Mixture:
    """Parts that sum to a total, such as the ingredients of a formulation.

    It is a shorthand for one Float a part and the constraint that they sum to the total:
    `Space({**mixture.parameters, "heat": Float(20, 90)}, constraints=[mixture])`. Bounds of a part that lie
    beyond what the others leave are moved there, and so are those of a part that is given none.

    Attributes:
        parts: names of at least two parts.
        total: their sum, above 0.
        bounds: (low, high) by name; a part without bounds may have any share.

    Raises:
        SpaceError: fewer than two parts, a name twice, a total that is not above 0, bounds of no part or
            below 0, or no mixture within the bounds.
    """

    parts: Sequence[str]
    total: float = 1.0
    bounds: Bounds = field(default_factory=dict)

    def __post_init__(self) -> None:
        parts: object = self.parts
        if isinstance(parts, str) or not isinstance(parts, Sequence) or len(parts) < 2:
            raise SpaceError(f"a Mixture needs a list of at least two names, got {described(parts)}")
        for name in parts:
            if not isinstance(name, str) or not name or "`" in name:
                raise SpaceError(f"a part must have a name without backticks, got {described(name)}")
        if len(set(parts)) < len(parts):
            raise SpaceError(f"the parts of a Mixture must differ, got {described(list(parts))}")
        total = finite("total", self.total)
        if total <= 0.0:
            raise SpaceError(f"`total > 0` must hold for a Mixture, got {total}")
        given: object = self.bounds
        if not isinstance(given, Mapping):
            law = "the bounds of a Mixture must be (low, high) by name of a part"
            raise SpaceError(f"{law}, got {described(given)}")
        if unknown := [name for name in self.bounds if name not in parts]:
            raise SpaceError(f"bounds must be of parts among {list(parts)}, got some of {described(unknown)}")
        bounds = {name: _ends(name, self.bounds[name], total) for name in parts if name in self.bounds}
        object.__setattr__(self, "parts", tuple(parts))
        object.__setattr__(self, "total", total)
        object.__setattr__(self, "bounds", MappingProxyType(bounds))
        if not self._least <= total * (1.0 + 1e-12) or not self._most >= total * (1.0 - 1e-12):
            raise SpaceError(
                f"the parts of a Mixture must be able to sum to {total:g}, got bounds that allow sums from "
                f"{self._least:g} to {self._most:g}"
            )

    def __hash__(self) -> int:
        return hash((self.parts, self.total, tuple(self.bounds.items())))

    @cached_property
    def parameters(self) -> dict[str, Float]:
        """A Float for each part, with the bounds that the total leaves it."""
        made = {}
        for name in self.parts:
            low, high = self._bounds_of(name)
            other_low, other_high = self._least - low, self._most - high
            first, last = max(low, self.total - other_high), min(high, self.total - other_low)
            first = last if last - first <= 1e-11 * self.total else first
            made[name] = Float(_rounded(first), _rounded(last))
        return made

    @property
    def text(self) -> str:
        """The constraint as text."""
        return f"{' + '.join(map(quoted_name, self.parts))} == {self.total:.17g}"

    @property
    def _least(self) -> float:
        return sum(self._bounds_of(name)[0] for name in self.parts)

    @property
    def _most(self) -> float:
        return sum(self._bounds_of(name)[1] for name in self.parts)

    def _bounds_of(self, name: str) -> tuple[float, float]:
        return self.bounds.get(name, (0.0, self.total))


def _ends(name: str, ends: object, total: float) -> tuple[float, float]:
    """The bounds of a part; raises a SpaceError if they are none."""
    law = f"the bounds of the part {name!r} must be (low, high) with 0 <= low <= high <= {total:g}"
    if isinstance(ends, str) or not isinstance(ends, Sequence) or len(ends) != 2:
        raise SpaceError(f"{law}, got {described(ends)}")
    low, high = finite(law, ends[0]), finite(law, ends[1])
    if not 0.0 <= low <= high <= total:
        raise SpaceError(f"{law}, got {described(ends)}")
    return low, high


def _rounded(number: float) -> float:
    """A bound without the rounding errors of sums."""
    return float(f"{number:.12g}")
