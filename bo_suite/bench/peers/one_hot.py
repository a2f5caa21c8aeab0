"""Points of a space as rows of the unit cube, with unordered options one-hot, for models of real numbers."""

import torch
from torch import Tensor

from bo_suite.space.parameters import Choice
from bo_suite.space.space import Params, Space


class OneHotRows:
    """The rows of the points of a space: ordered columns in [0, 1], a column for each unordered option."""

    def __init__(self, space: Space) -> None:
        self._space = space
        self._widths = [
            parameter.levels if isinstance(parameter, Choice) and not parameter.ordered else 1
            for _, parameter in space
        ]
        self.dim = sum(self._widths)

    @property
    def bounds(self) -> Tensor:
        """Lower and upper bounds, (2, dim)."""
        return torch.tensor([[0.0] * self.dim, [1.0] * self.dim], dtype=torch.float64)

    def design(self, count: int, seed: int) -> list[Params]:
        """Points of a scrambled Sobol sequence."""
        from botorch.utils.sampling import draw_sobol_samples

        dim = self._space.dim
        unit = torch.tensor([[0.0] * dim, [1.0] * dim], dtype=torch.float64)
        sobol = draw_sobol_samples(unit, n=count, q=1, seed=seed).squeeze(1)
        return self._space.decode(self._space.encoding.sample_from_unit(sobol))

    def uniform(self) -> Params:
        """A point from the global generator of PyTorch."""
        unit = torch.rand(1, self._space.dim, dtype=torch.float64)
        return self._space.decode(self._space.encoding.sample_from_unit(unit))[0]

    def encode(self, params: Params) -> Tensor:
        """The row of a point."""
        row = self._space.encode([params])[0]
        columns = []
        for unit, width, (name, parameter) in zip(row, self._widths, self._space, strict=True):
            if isinstance(parameter, Choice) and not parameter.ordered:
                columns.append(torch.eye(width, dtype=row.dtype)[parameter.options.index(params[name])])
            else:
                columns.append(unit.reshape(1))
        return torch.cat(columns)

    def decode(self, row: Tensor) -> Params:
        """The point of a row, which may lie between options and levels: the nearest."""
        params: Params = {}
        for columns, (name, parameter) in zip(row.split(self._widths), self._space, strict=True):
            if isinstance(parameter, Choice) and not parameter.ordered:
                params[name] = parameter.options[int(columns.argmax())]
            else:
                params[name] = parameter.decode(float(columns))
        return params
