"""Constraints as text: what they mean, and what is said about wrong ones."""

import random

import pytest

from bo_suite.errors import SpaceError
from bo_suite.space.constraint_text import Polynomial, quoted_name, relations_in


def value(polynomial: Polynomial, params: dict[str, float]) -> float:
    """The value of a polynomial at a point."""
    total = 0.0
    for monomial, coefficient in polynomial.items():
        for name, exponent in monomial:
            coefficient *= params[name] ** exponent
        total += coefficient
    return total


@pytest.mark.parametrize(
    ("text", "equality", "terms"),
    [
        ("a + b <= 1", False, {"a": 1.0, "b": 1.0, "": -1.0}),
        ("1 >= a+b", False, {"a": 1.0, "b": 1.0, "": -1.0}),
        ("2*x <= y", False, {"x": 2.0, "y": -1.0}),
        ("-(x - 3) / 2 == .5e1*y - -1", True, {"x": -0.5, "y": -5.0, "": 0.5}),
        ("x - 2 <= -2 + y", False, {"x": 1.0, "y": -1.0}),
        ("2 ** 3 * x == 4 ** 0.5", True, {"x": 8.0, "": -2.0}),
        ("+x + x - 3*x <= - - 4", False, {"x": -1.0, "": -4.0}),
        ("`part A` + größe == 1", True, {"part A": 1.0, "größe": 1.0, "": -1.0}),
    ],
)
def test_a_linear_text_has_these_terms(text: str, equality: bool, terms: dict[str, float]) -> None:
    (relation,) = relations_in(text)
    assert relation.equality == equality
    expected = {((name, 1.0),) if name else (): number for name, number in terms.items()}
    assert relation.polynomial == pytest.approx(expected)


def test_a_chain_is_one_relation_for_each_sign() -> None:
    first, second = relations_in("0 <= a - b <= 2")
    assert first.polynomial == {(("a", 1.0),): -1.0, (("b", 1.0),): 1.0}
    assert second.polynomial == {(("a", 1.0),): 1.0, (("b", 1.0),): -1.0, (): -2.0}
    first, second = relations_in("x == y >= 3")
    assert (first.equality, second.equality) == (True, False)


def test_powers_and_products_are_monomials() -> None:
    (relation,) = relations_in("x**2 / y * 3 == z ** -0.5 * x")
    assert relation.polynomial == {(("x", 2.0), ("y", -1.0)): 3.0, (("x", 1.0), ("z", -0.5)): -1.0}
    assert relations_in("(x * y)**2 / x**2 <= 1")[0].polynomial == {(("y", 2.0),): 1.0, (): -1.0}


def random_expression(draw: random.Random, depth: int) -> str:
    """An expression that both this language and Python's have."""
    kind = draw.randrange(3 if depth == 0 else 7)
    if kind == 0:
        return f"{draw.uniform(0.1, 9.0):.3g}"
    if kind in (1, 2):
        return draw.choice("xyz")
    inner = random_expression(draw, depth - 1)
    if kind == 3:
        return f"-({inner})"
    if kind == 4:
        return f"({inner}) * {draw.choice('xyz')} / {draw.uniform(1.0, 3.0):.2f}"
    return f"{inner} {draw.choice('+-')} {random_expression(draw, depth - 1)}"


def test_texts_mean_what_python_computes() -> None:
    draw = random.Random(0)
    for _ in range(200):
        left, right = random_expression(draw, 3), random_expression(draw, 3)
        params = {name: draw.uniform(0.5, 2.0) for name in "xyz"}
        expected = eval(f"({left}) - ({right})", {}, params)
        assert value(relations_in(f"{left} <= {right}")[0].polynomial, params) == pytest.approx(
            expected, rel=1e-9, abs=1e-9
        )


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "but it ends too early"),
        ("a + b", "but it ends too early"),
        ("a + <= 1", "got '<=' at character 5"),
        ("a < b", "got '<' at character 3; write <=, as a real number may come as close"),
        ("a > b", "write >="),
        ("a = 1", "got '=' at character 3; write =="),
        ("a != 1", "write a function of the parameters instead"),
        ("a ^ 2 <= 1", "got '^' at character 3; write ** for a power"),
        ("2a <= 1", "got 'a' at character 2"),
        ("a <= 1 b", "got 'b' at character 8"),
        ("(a + b <= 1", "must close its parentheses, got '<=' at character 8"),
        ("a + b) <= 1", "got ')' at character 6"),
        ("a / 0 <= 1", "must not divide by 0"),
        ("1 / (a + b) <= 1", "must not divide by a sum"),
        ("(a + b) * (a - b) <= 1", "must not multiply two sums"),
        ("(a + b) ** 2 <= 1", "must not have a power of a sum"),
        ("a ** b <= 1", "must have numbers as exponents"),
        ("(-a) ** 0.5 <= 1", "must not have a broken power of a negative number"),
        ("1e999 * a <= 1", "must have finite numbers"),
        ("1e200 * a * 1e200 <= 1", "must have finite numbers"),
        ("0 ** -1 * a <= 1", "must have finite numbers"),
        ("a <= 1; b", "got ';' at character 7"),
        ("__import__('os') <= 1", "at character 12"),
        ("a.b <= 1", "got '.' at character 2"),
        ("a[0] <= 1", "got '[' at character 2"),
        ("`a <= 1", "got '`' at character 1"),
        ("(" * 60 + "a" + ")" * 60 + " <= 1", "must not be nested deeper than 50"),
        ("-" * 60 + "a <= 1", "must not be nested deeper than 50"),
        ("a + " * 5000 + "a <= 1", "at most 10000 characters"),
    ],
)
def test_a_wrong_text_is_refused_in_one_sentence(text: str, message: str) -> None:
    with pytest.raises(SpaceError) as caught:
        relations_in(text)
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("name", ["a", "größe_2", "part A", "2nd", "a-b", "a*b", "`"])
def test_a_quoted_name_is_read_as_itself(name: str) -> None:
    if name == "`":
        with pytest.raises(SpaceError):
            relations_in(f"{quoted_name(name)} <= 1")
        return
    (relation,) = relations_in(f"2 * {quoted_name(name)} <= 1")
    assert relation.polynomial[((name, 1.0),)] == 2.0
