"""Messages to uncertain inputs: where they are, given what came of them."""

from dataclasses import dataclass, replace

import jaxtyping as jt
import torch
from torch import Tensor

from bo_suite.errors import ArgumentError
from bo_suite.surrogates.messages.expectations import weighted_expectations
from bo_suite.surrogates.messages.outputs import ScalarOutputs, VectorOutputs, separable_sums
from bo_suite.surrogates.messages.streaming import StreamingGP, check_data
from bo_suite.surrogates.normal_rule import normal_nodes

_ROUNDS = 500
"""Most rounds; about 50 are usual."""

_SMALLEST = 1e-30
"""Probabilities below count as zero in the divergence."""


@dataclass(frozen=True, eq=False)
class LocatedInputs:
    """A process with data whose inputs it has located.

    Attributes:
        process: with the messages of the data, q(x) as located.
        mean: E[x_n] under q(x).
        std: standard deviations under q(x).
    """

    process: StreamingGP
    mean: jt.Float[Tensor, "*b n d"]
    std: jt.Float[Tensor, "*b n d"]


def locate_inputs(
    process: StreamingGP,
    x: jt.Float[Tensor, "*b n d"],
    y: jt.Float[Tensor, "*outputs"],
    x_std: jt.Float[Tensor, "*b n d"],
    tolerance: float = 1e-7,
) -> LocatedInputs:
    """The process with data at x_n ~ N(x, x_std²), by coordinate ascent between q(v), q(W) and each q(x_n).

    q(x_n) has the nodes z of `normal_rule`, with prior probabilities w: given q(v) and q(W),
    q(x_n = z) ∝ w exp(-½ E[(y_n - f̃(z))ᵀ W (y_n - f̃(z))]). So outputs tell where inputs were, and f is not
    smeared by their deviations. The bound, which no step lowers, is that of a model whose inputs are at the
    nodes; keep deviations below about half of a lengthscale. Earlier data of the process stay as they are.

    Args:
        process: before these data.
        x: means of the inputs.
        y: outputs.
        x_std: standard deviations of the inputs, 0 where exact; 0 in columns that hold categories.
        tolerance: rise of the bound, relative to max(1, |bound|), below which a round is the last.

    Raises:
        ArgumentError: `OperatorOutputs`.
        DataError: as `StreamingGP.observed`.
    """
    outputs, basis, before = process.outputs, process.basis, process.sums
    if not isinstance(outputs, ScalarOutputs | VectorOutputs):
        raise ArgumentError("inputs of OperatorOutputs cannot be located; pass x_std to `observed` instead")
    stacked = outputs.stacked(y)
    check_data(x, stacked, process.prior.outputs, x_std)
    nodes, prior = normal_nodes(x, x_std)
    log_prior, weights = prior.log(), prior.expand(nodes.shape[:-1])
    process = process.observed(x, y, x_std).converged()
    bound, going = process.bound, torch.ones(x.shape[:-2], dtype=torch.bool, device=x.device)
    for _ in range(_ROUNDS):
        found = torch.softmax(log_prior - 0.5 * _misfits(process, nodes, stacked), -1)
        weights = torch.where(going[..., None, None], found, weights)
        expected = weighted_expectations(basis, nodes, weights)
        located = separable_sums(expected, outputs.residuals(stacked), outputs.root)
        divergence = (weights * (weights.clamp(min=_SMALLEST).log() - log_prior)).sum((-2, -1))
        sums = before.plus(replace(located, divergence=divergence))
        noise = process.prior.updated(sums.count, sums.optimum(process.noise.mean).scatter)
        noise = noise.where(going, process.noise)
        process = replace(process, sums=sums, noise=noise, precision_chol=sums.precision_chol(noise.mean))
        higher = process.bound
        going = going & (higher - bound > tolerance * higher.abs().clamp(min=1.0))
        bound = higher
        if not bool(going.any()):
            break
    mean = (weights[..., None] * nodes).sum(-2)
    spread = (weights[..., None] * (nodes - mean[..., None, :]).square()).sum(-2)
    return LocatedInputs(process, mean, spread.sqrt())


def _misfits(process: StreamingGP, nodes: Tensor, y: Tensor) -> Tensor:
    """E[(y_n - f̃(z))ᵀ W (y_n - f̃(z))] at each node z of each datum: (*b, n, k)."""
    mean, cov = process.predict(nodes.flatten(-3, -2))
    weight = process.noise.mean
    residuals = (y[..., :, None, :] - mean.unflatten(-2, nodes.shape[-3:-1])).flatten(-3, -2)
    squares = ((residuals @ weight) * residuals).sum(-1) + (weight[..., None, :, :] * cov).sum((-2, -1))
    misfits: Tensor = squares.unflatten(-1, nodes.shape[-3:-1])
    return misfits
