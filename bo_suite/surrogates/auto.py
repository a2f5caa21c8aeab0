"""Exact regression that hands over to sparse regression as observations grow."""

from dataclasses import dataclass, field, replace

import torch
from torch import Tensor

from bo_suite.data import Dataset, Seeds
from bo_suite.errors import DataError
from bo_suite.surrogates.exact import ExactGP
from bo_suite.surrogates.process import Process, WarmStart
from bo_suite.surrogates.search import has_grown, thinned
from bo_suite.surrogates.sgpr import SGPR

_PART = 500
"""Observations whose exact evidence sets the hyperparameters after the handover."""


@dataclass(frozen=True)
class AutoGP:
    """`exact` up to `handover` observations, then `sparse` with hyperparameters found as before.

    After the handover hyperparameters maximise the exact posterior density of 500 observations, evenly
    spaced, and not the collapsed bound, whose optimum takes for noise what the inducing values can not
    express; they are found anew when the data have grown by a fifth. All observations enter the posterior,
    through inducing inputs that are denser where outcomes are good. The measurements behind this are in
    benchmarks/README.md (Sparse surrogates).

    Attributes:
        exact: the model, and what is fitted to few observations.
        sparse: what stands for it beyond, with the kernel of `exact`.
        handover: observations up to which the exact process is used.
    """

    exact: ExactGP = field(default_factory=ExactGP)
    sparse: SGPR = field(default_factory=lambda: SGPR(inducing=512))
    handover: int = 1000

    def __post_init__(self) -> None:
        if self.handover < 1:
            raise DataError(f"`handover >= 1` must hold, got {self.handover}")
        if self.sparse.kernel is not None:
            raise DataError("the sparse part has the kernel of the exact one; give the kernel to that alone")

    def fit(self, data: Dataset, seeds: Seeds, start: WarmStart | None = None) -> Process:
        """An `ExactProcess` or a `SparseProcess`.

        Raises:
            FitError: no observation, or no hyperparameters with a finite posterior density.
            NumericalError: the best covariance does not factorise, jitter included.
        """
        n = data.x.shape[-2]
        if n <= self.handover:
            return self.exact.fit(data, seeds, start)
        eta = self._hyperparameters(data, seeds, start)
        sparse = replace(self.sparse, kernel=self.exact.kernel)
        return sparse.process(data, eta, sparse.select(data, eta, seeds))

    def _hyperparameters(self, data: Dataset, seeds: Seeds, start: WarmStart | None) -> Tensor:
        size = len(self.exact.start(data))
        if start is not None and start.hyperparameters.shape[-1] == size:
            if not has_grown(start.observations, data.x.shape[-2]):
                return start.hyperparameters.to(data.x).expand(*data.batch_shape, -1)
            start = WarmStart(start.hyperparameters, 1)
        with torch.no_grad():
            return self.exact.fit(thinned(data, _PART), seeds, start).hyperparameters
