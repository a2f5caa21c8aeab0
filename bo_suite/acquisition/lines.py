"""Expected gain from learning which of several straight lines is highest."""

import logging
import math
from collections.abc import Callable
from functools import cache

import jaxtyping as jt
import torch
from torch import Tensor

from bo_suite.acquisition.improvement import log_h
from bo_suite.errors import DataError

logger = logging.getLogger("bo_suite")


def log_discrete_knowledge_gradient(
    intercepts: jt.Float[Tensor, "*b j"], slopes: jt.Float[Tensor, "*b j"]
) -> jt.Float[Tensor, "*b"]:
    """log(E[max_i (a_i + b_i Z)] - max_i a_i), Z ~ N(0, 1), exact even if the gain underflows.

    The lines on the upper envelope in order of slope meet at z = c_1 < c_2 < ..., and the gain is
    sum_k (b_{k+1} - b_k) h(-|c_k|) with h(u) = φ(u) + u Φ(u) (Frazier, Powell and Dayanik 2009, equation
    14), summed in log space. The envelope is walked from the smallest slope to the largest, for all batch
    elements at once: O(j) an edge. Differentiable once. The lines of the envelope count as fixed: a line
    contributes nothing where it enters or leaves.

    Args:
        intercepts: a, posterior means of the alternatives, larger is better.
        slopes: b, their change per standard deviation of the observation.

    Returns:
        Log of the gain; -inf if all slopes are equal.

    Raises:
        DataError: there is no line, or the shapes differ.
    """
    if intercepts.shape != slopes.shape or not intercepts.shape[-1]:
        raise DataError(
            "intercepts and slopes must be (*b, j) alike with j >= 1, got "
            f"{tuple(intercepts.shape)} and {tuple(slopes.shape)}"
        )
    with torch.no_grad():
        chain = upper_envelope(intercepts, slopes)
    a, b = intercepts.gather(-1, chain), slopes.gather(-1, chain)
    rise, fall = b.diff(dim=-1), -a.diff(dim=-1)
    # A batch element with fewer edges than another repeats its last line. Edges at |z| > 1e19 (float32) or
    # 1e153 (float64) are dropped: the log of their gain would overflow and make other gradients NaN.
    with torch.no_grad():
        distance = fall.abs() / rise
        far = 0.5 * math.sqrt(torch.finfo(a.dtype).max)
        edge = (rise > 0) & (distance < far) & torch.isfinite(distance / rise)
    rise = torch.where(edge, rise, 1.0)
    crossing = torch.where(edge, fall, 0.0) / rise
    terms = torch.where(edge, rise.log() + log_h(-crossing.abs()), -torch.inf)
    has_edge = edge.any(-1)
    total = torch.logsumexp(torch.where(has_edge[..., None], terms, 0.0), -1)
    return torch.where(has_edge, total, -torch.inf)


def discrete_knowledge_gradient(
    intercepts: jt.Float[Tensor, "*b j"], slopes: jt.Float[Tensor, "*b j"]
) -> jt.Float[Tensor, "*b"]:
    """E[max_i (a_i + b_i Z)] - max_i a_i, Z ~ N(0, 1): never negative (Frazier et al. 2009, equation 14).

    Raises:
        DataError: there is no line, or the shapes differ.
    """
    return log_discrete_knowledge_gradient(intercepts, slopes).exp()


def upper_envelope(
    intercepts: jt.Float[Tensor, "*b j"], slopes: jt.Float[Tensor, "*b j"]
) -> jt.Int64[Tensor, "*b k"]:
    """Indices of the lines of max_i (a_i + b_i z) from left to right; the last is repeated to equal lengths.

    The next line is, of those with larger slope, the one that crosses the current line first; the steepest if
    several cross there.
    """
    compiled = _compiled() if intercepts.device.type == "cpu" else None
    if compiled is not None:
        flat = compiled(intercepts.reshape(-1, intercepts.shape[-1]), slopes.reshape(-1, slopes.shape[-1]))
        return flat.reshape(*slopes.shape[:-1], flat.shape[-1])
    return _walk(intercepts, slopes)


def _walk(intercepts: Tensor, slopes: Tensor) -> Tensor:
    """The upper envelopes of all batch elements, one edge of each at a time."""
    lowest = slopes.amin(-1, keepdim=True)
    current = torch.where(slopes == lowest, intercepts, -torch.inf).argmax(-1, keepdim=True)
    steepest = slopes.amax(-1, keepdim=True)
    chain = [current]
    for _ in range(slopes.shape[-1]):
        intercept, slope = intercepts.gather(-1, current), slopes.gather(-1, current)
        rise = slopes - slope
        if not bool((slope < steepest).any()):
            break
        crossing = torch.where(rise > 0, (intercept - intercepts) / rise, torch.inf)
        first = crossing.amin(-1, keepdim=True)
        following = torch.where(crossing <= first, rise, -torch.inf).argmax(-1, keepdim=True)
        current = torch.where(slope < steepest, following, current)
        chain.append(current)
    return torch.cat(chain, -1)


@cache
def _compiled() -> Callable[[Tensor, Tensor], Tensor] | None:
    """The walk compiled by numba, one batch element after another; None if numba cannot be used."""
    try:
        from bo_suite.acquisition import compiled
    except ImportError:
        return None
    except RuntimeError as error:  # numba found no folder for its cache
        logger.warning("numba is not used for the knowledge gradient: %s", error)
        return None
    return compiled.upper_envelope
