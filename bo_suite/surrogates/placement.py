"""The inducing variables and the covariance function of a sparse surrogate, from how it is configured."""

import jaxtyping as jt
from torch import Tensor

from bo_suite.data import Columns, Dataset, Seeds
from bo_suite.kernels import Kernel
from bo_suite.kernels.gpytorch_kernel import kernel_for
from bo_suite.surrogates.features.points import Points
from bo_suite.surrogates.features.variables import InducingFeatures, InducingVariables
from bo_suite.surrogates.inducing import InducingSelection, inducing_count


def kernel_with(inducing: int | InducingFeatures | None, kernel: object | None, columns: Columns) -> Kernel:
    """The given kernel; when None, that of the features, or `Matern52` for inducing inputs."""
    if kernel is None and isinstance(inducing, InducingFeatures):
        kernel = inducing.kernel
    return kernel_for(kernel, columns)


def limited(inducing: int | InducingFeatures | None, count: int) -> int | InducingFeatures:
    """The same with at most `count` inducing variables."""
    if isinstance(inducing, InducingFeatures):
        return inducing.limited(count)
    return count if inducing is None else min(count, inducing)


def placed(
    inducing: int | InducingFeatures | None,
    selection: InducingSelection,
    data: Dataset,
    kernel: Kernel,
    theta: jt.Float[Tensor, "*b p"],
    seeds: Seeds,
) -> InducingVariables:
    """The inducing variables for the data.

    Args:
        inducing: the features, or the number of inducing inputs; None for `inducing_count`.
        selection: how inducing inputs are chosen.
        data: observations.
        kernel: covariance function.
        theta: its parameters.
        seeds: of random choices.
    """
    if isinstance(inducing, InducingFeatures):
        return inducing.place(data, kernel, theta, seeds)
    count = inducing_count(data.x.shape[-2]) if inducing is None else inducing
    return Points(selection.select(data, kernel, theta, count, seeds))
