"""The kinds of the columns of the rows of a space."""

from typing import TYPE_CHECKING

from bo_suite.data import Columns
from bo_suite.space.descriptors import Numbers, scaled
from bo_suite.space.parameters import Choice

if TYPE_CHECKING:
    from bo_suite.space.fixed import Fixed
    from bo_suite.space.parameters import Parameter
    from bo_suite.space.space import Space


def kinds_of(space: "Space", columns: "tuple[Parameter | Fixed, ...]") -> Columns:
    """The kinds of columns of a space, given the parameter that each encodes.

    Of candidates a real column has as many levels as these have values there: no gradient is followed.
    """
    choices = [(column, one) for column, one in enumerate(columns) if isinstance(one, Choice)]
    table, levels = space.candidates, space.levels
    if table is not None:
        counts = [len(set(table.columns[name])) for name in space.names]
        levels = tuple(own or count for own, count in zip(levels, counts, strict=True))
    return Columns(
        unordered=space.unordered,
        levels=levels,
        fidelities=space.fidelities,
        between=tuple(column for column, choice in choices if choice.ordered and choice.retired),
        conditions=space.conditions.columns(),
        descriptors=tuple(
            (column, choice.levels, scaled(choice.descriptors))
            for column, choice in choices
            if isinstance(choice.descriptors, Numbers) and choice.descriptors
        ),
    )
