"""Derivatives of values by their positions."""

import math

import pytest

from bo_suite import Float, Int

PARAMETERS = [
    (Float(-2.0, 3.0), 1.0),
    (Float(1e-5, 1e-1, log=True), 1e-3),
    (Float(1.0, 4.0, step=0.5), 2.5),
    (Float(1.0, 4.0, log=True, step=0.5), 2.5),
    (Float(1e-300, 1e300, log=True), 1e200),
    (Float(0.0, 1e300), 1e299),
    (Float(0.0, 1e-300), 1e-301),
    (Float(0.5, 2.0, log=True), 8.0),
    (Int(1, 12), 3),
    (Int(1, 4096, log=True), 64),
    (Int(2, 10, step=4), 6),
]


@pytest.mark.parametrize(("parameter", "value"), PARAMETERS, ids=repr)
def test_the_slope_is_the_inverse_of_that_of_the_encoding(parameter: Float | Int, value: float) -> None:
    """By central differences of the position as a function of the value, between levels too."""

    def position(one: float) -> float:
        if parameter.log:
            return (math.log(one) - math.log(parameter.low)) / (
                math.log(parameter.high) - math.log(parameter.low)
            )
        return (one - parameter.low) / (parameter.high - parameter.low)

    assert parameter.encode(value) == pytest.approx(position(value), abs=1e-12)  # type: ignore[arg-type]
    step = 1e-5 * value
    expected = 2 * step / (position(value + step) - position(value - step))
    assert parameter.slope(value) == pytest.approx(expected, rel=1e-5)  # type: ignore[arg-type]
