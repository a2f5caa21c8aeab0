"""Observations of several outputs, and their hyperparameters with and without a leading dimension."""

from dataclasses import dataclass

import jaxtyping as jt
import torch
from torch import Tensor

from bo_suite.data import MISSING, Dataset
from bo_suite.errors import DataError
from bo_suite.kernels import Coregional


@dataclass(frozen=True, eq=False)
class OutputData:
    """Outcomes of p outputs at the same n rows.

    Attributes:
        x: the rows.
        y: outcomes; numbers without meaning where they are missing.
        noise: known observation variances, NaN where unknown.
        measured: which outcomes are not missing.
    """

    x: jt.Float[Tensor, "*b n d"]
    y: jt.Float[Tensor, "*b p n"]
    noise: jt.Float[Tensor, "*b p n"]
    measured: jt.Bool[Tensor, "*b p n"]

    @staticmethod
    def of(data: Dataset) -> "OutputData":
        """The outcomes of data whose first dimension is that of the outputs.

        Raises:
            DataError: there is no such dimension, or the outputs have different rows.
        """
        if not data.batch_shape:
            raise DataError(
                "several outputs must be the first dimension of the data: y (p, *b, n) and x (p, *b, n, d), "
                f"got y {tuple(data.y.shape)}"
            )
        x = data.x[0]
        if not bool((data.x == x).all()):
            raise DataError("all outputs must have the same rows; a missing outcome has a noise of `MISSING`")
        y = data.y.movedim(0, -2)
        noise = torch.full_like(y, torch.nan) if data.noise is None else data.noise.movedim(0, -2)
        return OutputData(x, y, noise, ~(noise >= MISSING))

    @property
    def complete(self) -> bool:
        """Whether all outcomes were measured, with noise of unknown variance."""
        return bool(self.measured.all()) and bool(self.noise.isnan().all())

    def of_replicates(self, index: Tensor) -> "OutputData":
        """Some replicates, by their indices among the flattened ones; they may repeat."""

        def chosen(tensor: Tensor, trailing: int) -> Tensor:
            return tensor.reshape(-1, *tensor.shape[tensor.ndim - trailing :])[index]

        return OutputData(chosen(self.x, 2), *(chosen(one, 2) for one in (self.y, self.noise, self.measured)))


@dataclass(frozen=True, eq=False)
class Entries:
    """The outcomes that some replicate has measured, as a vector.

    Attributes:
        x: their rows, with the code of the output as the last column.
        y: the outcomes.
        noise: known variances, NaN where unknown, and `MISSING` where another replicate alone has it.
        row: index of the row of each.
        output: index of its output.
        of_output: 1 in the column of its output, else 0.
    """

    x: jt.Float[Tensor, "*b e d"]
    y: jt.Float[Tensor, "*b e"]
    noise: jt.Float[Tensor, "*b e"]
    row: jt.Int64[Tensor, " e"]
    output: jt.Int64[Tensor, " e"]
    of_output: jt.Float[Tensor, "e p"]

    @staticmethod
    def of(data: OutputData) -> "Entries":
        """The entries of outcomes, row by row."""
        p, n = data.y.shape[-2:]
        some = data.measured.reshape(-1, p, n).any(0)
        row, output = some.mT.nonzero().unbind(-1)
        y, noise, measured = (one[..., output, row] for one in (data.y, data.noise, data.measured))
        noise = torch.where(measured, noise, MISSING)
        of_output = torch.nn.functional.one_hot(output, p).to(y)
        return Entries(
            with_code(data.x[..., row, :], output / max(p - 1, 1)), y, noise, row, output, of_output
        )

    def index(self, n: int) -> jt.Int64[Tensor, "n p"]:
        """The index of the entry of each row and output; that after the last one if there is none."""
        p = self.of_output.shape[-1]
        index = torch.full((n, p), len(self.row), device=self.row.device)
        index[self.row, self.output] = torch.arange(len(self.row), device=self.row.device)
        return index


def with_code(x: jt.Float[Tensor, "*b n d"], code: jt.Float[Tensor, " n"]) -> jt.Float[Tensor, "*b n e"]:
    """Rows with codes of outputs as the last column."""
    return torch.cat((x, code.to(x).expand(x.shape[:-1])[..., None]), -1)


def stacked_rows(x: jt.Float[Tensor, "p *b m d"]) -> jt.Float[Tensor, "*b q e"]:
    """The rows of all outputs with their codes, the outputs one after the other."""
    p, m = x.shape[0], x.shape[-2]
    code = torch.arange(p, device=x.device).repeat_interleave(m) / max(p - 1, 1)
    return with_code(x.movedim(0, -3).flatten(-3, -2), code)


def outputs_first(values: jt.Float[Tensor, "*sb q"], count: int, outputs: int) -> Tensor:
    """Values of all outputs one after the other as (*s, p, *b, m), given the number of dimensions *b."""
    values = values.unflatten(-1, (outputs, -1))
    return values.movedim(-2, values.ndim - 2 - count)


def outputs_last(values: Tensor, count: int) -> Tensor:
    """Values (*s, p, *b, m) as those of all outputs one after the other, (*s, *b, p m)."""
    return values.movedim(values.ndim - 2 - count, -2).flatten(-2)


def as_hyperparameters(
    kernel: Coregional, theta: jt.Float[Tensor, "*b t"], log_noise: jt.Float[Tensor, "*b p"]
) -> jt.Float[Tensor, "p *b h"]:
    """A vector for each output: for each term what all share, a row of W and log κ; then log noise."""
    shared = []
    for inner, weights, log_own in kernel.split(theta):
        repeated = inner[..., None, :-1].expand(*weights.shape[:-1], inner.shape[-1] - 1)
        shared.append(torch.cat((repeated, weights, log_own[..., None]), -1))
    return torch.cat((*shared, log_noise[..., None]), -1).movedim(-2, 0)


def of_hyperparameters(
    kernel: Coregional, hyperparameters: jt.Float[Tensor, "p *b h"]
) -> tuple[jt.Float[Tensor, "*b t"], jt.Float[Tensor, "*b p"]]:
    """Theta of the kernel and log noise, the inverse of `as_hyperparameters`."""
    rows = hyperparameters.movedim(0, -2)
    parts = []
    for part in rows[..., :-1].split((rows.shape[-1] - 1) // kernel.terms, -1):
        inner, weights = part[..., 0, : -kernel.rank - 1], part[..., -kernel.rank - 1 : -1]
        parts += [inner, weights.flatten(-2), part[..., -1]]
    return torch.cat(parts, -1), rows[..., -1]
