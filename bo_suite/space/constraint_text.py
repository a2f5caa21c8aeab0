"""Constraints among parameters as text, such as `a + b <= 1`, `0 <= x - 2*y <= 3` or `a * b == 10`.

A text has two or more expressions with <=, >= or == between them. An expression has numbers, names, + - * /,
parentheses, and ** with a number as the exponent. A name that is no word stands between backticks, as in
`` `part A` ``. Texts may come from files that anybody wrote: they are parsed here, and nothing is ever run.
"""

import math
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from bo_suite.errors import SpaceError
from bo_suite.values.describe import described

_LONGEST, _DEEPEST = 10_000, 50
"""Most characters of a text, and most parentheses and signs around an expression."""

_TOKEN = re.compile(
    r"""(?P<number> (?: [0-9]+\.?[0-9]* | \.[0-9]+ ) (?: [eE][+-]?[0-9]+ )? )
    | (?P<name> [^\W\d]\w* | `[^`]+` )
    | (?P<symbol> \*\* | <= | >= | == | != | [-+*/()<>=] )
    | (?P<space> \s+ )""",
    re.VERBOSE,
)

_ADVICE = {
    "<": "write <=, as a real number may come as close to the other side as it likes",
    ">": "write >=, as a real number may come as close to the other side as it likes",
    "=": "write ==",
    "!=": "write a function of the parameters instead",
    "^": "write ** for a power",
}
"""What to write instead of a symbol."""

Monomial = tuple[tuple[str, float], ...]
"""A product of powers: names in order, each with its exponent; () is the number 1."""

Polynomial = Mapping[Monomial, float]
"""A sum of monomials, each with its coefficient, which is not 0."""


@dataclass(frozen=True)
class Relation:
    """`polynomial <= 0`, or `polynomial == 0` if it is an equality."""

    polynomial: Polynomial
    equality: bool


def relations_in(text: str) -> tuple[Relation, ...]:
    """The relations that a text states: one for each <=, >= or ==.

    Raises:
        SpaceError: the text is not a constraint; the message says where.
    """
    if len(text) > _LONGEST:
        raise SpaceError(f"a constraint has at most {_LONGEST} characters, got {len(text)}")
    return _Parser(text, tuple(_tokens(text))).relations()


def quoted_name(name: str) -> str:
    """A name as a text has it: between backticks unless it is a word."""
    match = _TOKEN.fullmatch(name)
    return name if match is not None and match["name"] is not None and "`" not in name else f"`{name}`"


@dataclass(frozen=True)
class _Token:
    kind: str
    text: str
    position: int


def _tokens(text: str) -> Iterator[_Token]:
    position = 0
    while position < len(text):
        match = _TOKEN.match(text, position)
        if match is None:
            raise _refused(text, text[position], position)
        if match.lastgroup != "space":
            yield _Token(str(match.lastgroup), match[0], position)
        position = match.end()
    yield _Token("end", "", len(text))


def _refused(text: str, got: str, position: int, law: str = "") -> SpaceError:
    """The error for a part of a text."""
    requirement = law or (
        "must be expressions of numbers, names, + - * / ** and parentheses, with <=, >= or == between them"
    )
    where = f"got {got!r} at character {position + 1}" if got else "but it ends too early"
    advice = f"; {_ADVICE[got]}" if not law and got in _ADVICE else ""
    return SpaceError(f"the constraint {described(text, 200)} {requirement}, {where}{advice}")


class _Parser:
    """Recursive descent over the tokens of a text.

    Args:
        text: for messages.
        tokens: of the text; the last one marks its end.
    """

    def __init__(self, text: str, tokens: tuple[_Token, ...]) -> None:
        self._text, self._tokens = text, tokens
        self._index, self._depth = 0, 0

    def relations(self) -> tuple[Relation, ...]:
        """The relations of the whole text."""
        left = self._sum()
        relations = []
        while (symbol := self._taken("<=", ">=", "==")) is not None:
            right = self._sum()
            first, second = (right, left) if symbol.text == ">=" else (left, right)
            relations.append(Relation(_added(first, second, -1.0), symbol.text == "=="))
            left = right
        if self._next.kind != "end" or not relations:
            raise self._error(self._next)
        return tuple(relations)

    @property
    def _next(self) -> _Token:
        return self._tokens[self._index]

    def _taken(self, *symbols: str) -> _Token | None:
        """The next token, which is passed, if it is one of the symbols."""
        token = self._next
        if token.kind != "symbol" or token.text not in symbols:
            return None
        self._index += 1
        return token

    def _error(self, token: _Token, law: str = "") -> SpaceError:
        return _refused(self._text, token.text, token.position, law)

    def _finite(self, polynomial: dict[Monomial, float], token: _Token) -> dict[Monomial, float]:
        if not all(map(math.isfinite, polynomial.values())):
            raise self._error(token, "must have finite numbers")
        return polynomial

    def _sum(self) -> dict[Monomial, float]:
        total = self._product()
        while (symbol := self._taken("+", "-")) is not None:
            total = _added(total, self._product(), 1.0 if symbol.text == "+" else -1.0)
            self._finite(total, symbol)
        return total

    def _product(self) -> dict[Monomial, float]:
        product = self._signed()
        while (symbol := self._taken("*", "/")) is not None:
            factor = self._signed()
            if symbol.text == "/":
                if len(factor) != 1:
                    law = "must not divide by 0" if not factor else "must not divide by a sum of parameters"
                    raise self._error(symbol, law)
                factor = self._power(factor, -1.0, symbol)
            if len(product) > 1 and len(factor) > 1:
                raise self._error(symbol, "must not multiply two sums of parameters")
            terms: dict[Monomial, float] = {}
            for first, one in product.items():
                for second, other in factor.items():
                    terms = _added(terms, {_multiplied(first, second): one * other}, 1.0)
            product = self._finite(terms, symbol)
        return product

    def _signed(self) -> dict[Monomial, float]:
        token = self._next
        self._depth += 1
        if self._depth > _DEEPEST:
            raise self._error(token, f"must not be nested deeper than {_DEEPEST}")
        if (symbol := self._taken("+", "-")) is not None:
            inner = self._signed()
            result = inner if symbol.text == "+" else _added({}, inner, -1.0)
        else:
            result = self._atom()
            if (symbol := self._taken("**")) is not None:
                exponent = self._signed()
                if set(exponent) - {()}:
                    raise self._error(symbol, "must have numbers as exponents")
                if len(result) > 1:
                    raise self._error(symbol, "must not have a power of a sum of parameters")
                result = self._power(result, exponent.get((), 0.0), symbol)
        self._depth -= 1
        return result

    def _power(self, base: dict[Monomial, float], exponent: float, token: _Token) -> dict[Monomial, float]:
        """A power of one term."""
        monomial, coefficient = next(iter(base.items()), ((), 0.0))
        try:
            number = coefficient**exponent
        except (ArithmeticError, ValueError):
            number = math.inf
        if isinstance(number, complex):
            raise self._error(token, "must not have a broken power of a negative number")
        powers = ((name, one * exponent) for name, one in monomial)
        raised = tuple((name, one) for name, one in powers if one != 0.0)
        return self._finite({raised: number} if number != 0.0 else {}, token)

    def _atom(self) -> dict[Monomial, float]:
        token = self._next
        self._index += 1
        if token.kind == "number":
            number = float(token.text)
            return self._finite({(): number} if number != 0.0 else {}, token)
        if token.kind == "name":
            return {((token.text.strip("`"), 1.0),): 1.0}
        if token.kind == "symbol" and token.text == "(":
            inner = self._sum()
            if self._taken(")") is None:
                raise self._error(self._next, "must close its parentheses")
            return inner
        raise self._error(token)


def _added(first: Polynomial, second: Polynomial, factor: float) -> dict[Monomial, float]:
    """first + factor * second, without terms that are 0."""
    total = dict(first)
    for monomial, coefficient in second.items():
        total[monomial] = total.get(monomial, 0.0) + factor * coefficient
    return {monomial: coefficient for monomial, coefficient in total.items() if coefficient != 0.0}


def _multiplied(first: Monomial, second: Monomial) -> Monomial:
    powers = dict(first)
    for name, exponent in second:
        powers[name] = powers.get(name, 0.0) + exponent
    return tuple(sorted((name, exponent) for name, exponent in powers.items() if exponent != 0.0))
