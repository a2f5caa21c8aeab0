"""The random numbers of a step."""

import hashlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import lru_cache

import jaxtyping as jt
import torch
from torch import Tensor
from torch.quasirandom import SobolEngine

from bo_suite.data.doubles import CPU_DOUBLES


@lru_cache(maxsize=64)
def _sobol(count: int, dim: int) -> Tensor:
    with torch.device("cpu"):
        return SobolEngine(dim, scramble=False).draw(count, dtype=torch.float64)


@dataclass(frozen=True)
class Seeds:
    """Keys of the random numbers of one step, one per replicate. Equal keys give equal numbers.

    Numbers are drawn on the CPU and moved, so they are equal on every device.
    """

    keys: tuple[int, ...]
    batch_shape: tuple[int, ...] = ()

    @staticmethod
    def of(seed: int, trial: int) -> "Seeds":
        """The key of trial `trial` in a run with seed `seed`."""
        return Seeds((_hash(seed, trial),))

    @staticmethod
    def of_each(seeds: Sequence[int], trial: int) -> "Seeds":
        """The keys of trial `trial` in several runs, as one replicate dimension."""
        return Seeds(tuple(_hash(seed, trial) for seed in seeds), (len(seeds),))

    def split(self, purpose: str) -> "Seeds":
        """Independent keys for a named purpose within the step."""
        return Seeds(tuple(_hash(key, purpose) for key in self.keys), self.batch_shape)

    def sobol(self, count: int, like: jt.Float[Tensor, "*b n d"]) -> jt.Float[Tensor, "*b count d"]:
        """Sobol points in [0, 1)^d, shifted modulo one by a uniform vector drawn from each key."""
        return self._shifted_sobol(count, like.shape[-1]).to(like)

    def normal(self, shape: tuple[int, ...], like: Tensor) -> Tensor:
        """Standard normal draws of shape (*b, *shape)."""
        return self._stack(lambda g: torch.randn(shape, generator=g, **CPU_DOUBLES)).to(like)

    def uniform(self, shape: tuple[int, ...], like: Tensor) -> Tensor:
        """Uniform draws on [0, 1) of shape (*b, *shape)."""
        return self._stack(lambda g: torch.rand(shape, generator=g, **CPU_DOUBLES)).to(like)

    def quasi_normal(self, count: int, dim: int, like: Tensor) -> Tensor:
        """Normal quantiles of randomly shifted Sobol points: shape (*b, count, dim)."""
        points = self._shifted_sobol(count, dim)
        quantiles: Tensor = torch.special.ndtri(points.clamp(1e-12, 1 - 1e-12))
        return quantiles.to(like)

    def _shifted_sobol(self, count: int, dim: int) -> Tensor:
        shift = self._stack(lambda generator: torch.rand(1, dim, generator=generator, **CPU_DOUBLES))
        return torch.remainder(_sobol(count, dim) + shift, 1.0)

    def _stack(self, draw: Callable[[torch.Generator], Tensor]) -> Tensor:
        draws = [draw(torch.Generator("cpu").manual_seed(key)) for key in self.keys]
        return torch.stack(draws).reshape(*self.batch_shape, *draws[0].shape)


def _hash(*parts: object) -> int:
    """A 63-bit integer that depends on every part."""
    text = "/".join(map(str, parts)).encode("utf-8", "surrogatepass")
    return int.from_bytes(hashlib.blake2b(text, digest_size=8).digest(), "big") >> 1
