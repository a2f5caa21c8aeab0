"""One (in)equality between parameters that is linear in their values or in the logarithms of these."""

import math
from collections.abc import Mapping
from dataclasses import dataclass, replace
from fractions import Fraction
from functools import reduce
from typing import Any

from bo_suite.errors import SpaceError
from bo_suite.space.constraint_text import Monomial, Relation, relations_in
from bo_suite.space.fixed import Fixed
from bo_suite.space.parameters import Choice, Float, Int, Parameter
from bo_suite.values.describe import described

TOLERANCE = 1e-9
"""Largest violation that counts as rounding, relative to the largest term of a comparison; absolute for
logarithms."""

_PART_OF_A_STEP = 0.25
"""Largest violation, in steps, of a comparison of values with steps, however large these are."""

Number = Float | Int


@dataclass(frozen=True)
class Comparison:
    """Σ coefficient · value <= bound, or == bound; of the logarithms of the values if `log`.

    Attributes:
        text: of the constraint that states it.
        coefficients: by name of a parameter; none is 0.
        bound: what the sum is compared with.
        equality: whether the sum equals the bound.
        log: whether logarithms are summed.
        scale: what violations are relative to: the largest term that the ranges allow, less where rounding
            would be more than a step; 1 for logarithms.
    """

    text: str
    coefficients: tuple[tuple[str, float], ...]
    bound: float
    equality: bool
    log: bool
    scale: float

    def excess(self, params: Mapping[str, Any]) -> float:
        """The sum minus the bound at a point."""
        values = [
            coefficient * (math.log(params[name]) if self.log else params[name])
            for name, coefficient in self.coefficients
        ]
        return math.fsum((*values, -self.bound))

    def is_met(self, params: Mapping[str, Any]) -> bool:
        """Whether a point meets it up to rounding."""
        excess = self.excess(params)
        return (abs(excess) if self.equality else excess) <= TOLERANCE * self.scale

    def violation(self, params: Mapping[str, Any]) -> str:
        """By how much a point misses it, in words."""
        excess = self.excess(params)
        return f"a factor of {math.exp(min(abs(excess), 700.0)):.6g}" if self.log else f"{abs(excess):.6g}"

    def with_values(self, values: Mapping[str, Any]) -> "Comparison | None":
        """The comparison of the other parameters; None if it has none left, and is met.

        Raises:
            SpaceError: no parameter is left, and it is not met.
        """
        known = {name: values[name] for name, _ in self.coefficients if name in values}
        rest = tuple((name, one) for name, one in self.coefficients if name not in values)
        if not rest:
            if self.is_met(known):
                return None
            raise SpaceError(
                f"the constraint {self.text!r} must hold, got {known}, off by {self.violation(known)}"
            )
        bound = -replace(
            self, coefficients=tuple((name, one) for name, one in self.coefficients if name in values)
        ).excess(known)
        return replace(self, coefficients=rest, bound=bound) if known else self


def comparisons_in(text: str, parameters: Mapping[str, Parameter | Fixed]) -> tuple[Comparison, ...]:
    """The comparisons that a text states about parameters.

    Raises:
        SpaceError: the text is not a constraint, has an unknown name or one of no number, or is neither
            linear in the values nor, on log scales, in their logarithms.
    """
    return tuple(_comparison(text, relation, parameters) for relation in relations_in(text))


def number_of_column(parameter: Parameter | Fixed) -> Parameter:
    """The parameter without its fixed value."""
    return parameter.parameter if isinstance(parameter, Fixed) else parameter


def _comparison(text: str, relation: Relation, parameters: Mapping[str, Parameter | Fixed]) -> Comparison:
    terms = dict(relation.polynomial)
    constant = terms.pop((), 0.0)
    numbers = {name: _number(text, name, parameters) for monomial in terms for name, _ in monomial}
    if not numbers:
        raise SpaceError(f"the constraint {described(text, 200)} must depend on a parameter, got none")
    linear = all(len(monomial) == 1 and monomial[0][1] == 1.0 for monomial in terms)
    if all(number.log for number in numbers.values()) and len(terms) <= 2:
        ratio = _ratio(terms, constant)
        if ratio is not None:
            powers, bound = ratio
            return Comparison(text, tuple(sorted(powers.items())), bound, relation.equality, True, 1.0)
    if not linear:
        raise SpaceError(f"the constraint {described(text, 200)} {_not_linear(terms, constant, numbers)}")
    coefficients = {monomial[0][0]: coefficient for monomial, coefficient in terms.items()}
    sizes = [abs(one) * _largest(numbers[name]) for name, one in coefficients.items()]
    scale = max(abs(constant), *sizes) or 1.0
    steps = [abs(one) * (numbers[name].step or 0.0) for name, one in coefficients.items()]
    if all(steps):
        scale = min(scale, _PART_OF_A_STEP / TOLERANCE * min(steps))
    return Comparison(text, tuple(coefficients.items()), 0.0 - constant, relation.equality, False, scale)


def _largest(number: Number) -> float:
    return max(abs(number.low), abs(number.high))


def _number(text: str, name: str, parameters: Mapping[str, Parameter | Fixed]) -> Number:
    """The parameter of a name in a constraint."""
    what = f"the constraint {described(text, 200)}"
    if name not in parameters:
        raise SpaceError(f"{what} must name parameters among {list(parameters)}, got unknown {name!r}")
    parameter = number_of_column(parameters[name])
    if isinstance(parameter, Choice):
        raise SpaceError(
            f"{what} must be about numbers, got {name!r}, a Choice; give a function of the parameters instead"
        )
    if parameter.fidelity:
        raise SpaceError(
            f"{what} must not involve a fidelity, as every point has to exist at its target too, got {name!r}"
        )
    return parameter


def _ratio(terms: Mapping[Monomial, float], constant: float) -> tuple[dict[str, float], float] | None:
    """Exponents and bound of a relation between two products; None if it is not one."""
    sides = [*terms.items(), *([((), constant)] if constant else [])]
    if len(sides) != 2 or sides[0][1] * sides[1][1] > 0.0:
        return None
    (smaller, factor), (larger, other) = sorted(sides, key=lambda side: -side[1])
    powers = dict(smaller)
    for name, exponent in larger:
        powers[name] = powers.get(name, 0.0) - exponent
    return {name: one for name, one in powers.items() if one}, math.log(-other) - math.log(factor)


def _not_linear(terms: Mapping[Monomial, float], constant: float, numbers: Mapping[str, Number]) -> str:
    """Why a relation is neither linear nor a relation between two products."""
    curved = {
        name
        for monomial in terms
        if len(monomial) > 1 or monomial[0][1] != 1.0
        for name, _ in monomial
        if not numbers[name].log
    }
    advice = "give a function of the parameters instead"
    if curved:
        law = "has a product or a power, for which all its parameters must be on a log scale"
        return f"{law}, got {sorted(curved)[0]!r} without log=True; {advice}"
    sides = [*terms.values(), *([constant] if constant else [])]
    if len(sides) == 2 or (len(sides) == 1):
        return f"must compare a product with one above 0, as all its parameters are above 0; {advice}"
    return f"must compare two products, got a sum of them; {advice}"


def has_no_integers(comparison: Comparison, parameters: Mapping[str, Parameter | Fixed]) -> bool:
    """Whether an equality of values with steps has no solution, by the common divisor of the steps.

    Σ a (low + step n) = b has one in whole numbers n if and only if b - Σ a low is a multiple of the greatest
    common divisor of the numbers a step; ranges are ignored.
    """
    if not comparison.equality or comparison.log:
        return False
    rest, steps = _fraction(comparison.bound), []
    for name, coefficient in comparison.coefficients:
        parameter = parameters[name]
        number = number_of_column(parameter)
        assert not isinstance(number, Choice), "a Choice is in no comparison"
        levels = parameter.levels
        if levels is None:
            return False
        low = parameter.value if isinstance(parameter, Fixed) else number.low
        rest -= _fraction(coefficient) * _fraction(low)
        if levels > 1:
            steps.append(abs(_fraction(coefficient) * _fraction(number.step)))
    divisor = reduce(_common_divisor, steps, Fraction(0))
    nearest = round(rest / divisor) * divisor if divisor else Fraction(0)
    return abs(float(rest - nearest)) > TOLERANCE * comparison.scale


def _fraction(number: Any) -> Fraction:
    """The shortest decimal that is read as a float, exactly."""
    return Fraction(repr(number))


def _common_divisor(first: Fraction, second: Fraction) -> Fraction:
    """The greatest number that both are multiples of."""
    denominator = math.lcm(first.denominator, second.denominator)
    return Fraction(math.gcd(int(first * denominator), int(second * denominator)), denominator)
