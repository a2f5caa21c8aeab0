"""Which parameters a search is over."""

from collections.abc import Mapping

from bo_suite.space.checks import is_chosen
from bo_suite.space.conditions import varies
from bo_suite.space.constraints import Constraints
from bo_suite.space.fixed import Fixed
from bo_suite.space.parameters import Parameter


def columns_that_vary(
    parameters: Mapping[str, Parameter | Fixed], constraints: Constraints
) -> tuple[int, ...]:
    """Columns of the parameters with more than one value, now or before.

    If fidelities and contexts alone would remain, the first other parameter stays.
    """
    told = bool(constraints.predicates)  # functions see which parameters are active
    listed = list(parameters.values())
    columns = [column for column, p in enumerate(listed) if varies(p) or (told and p.when is not None)]
    chosen = [column for column, parameter in enumerate(listed) if is_chosen(parameter)]
    if not set(columns) & set(chosen):
        columns.append(chosen[0])
    return tuple(sorted(columns))
