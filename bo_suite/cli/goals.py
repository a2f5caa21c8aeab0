"""Objectives, constraints and outcomes as texts of a command."""

import re
from collections.abc import Sequence
from typing import TYPE_CHECKING, Annotated, Any, NoReturn, TypeVar

import typer

from bo_suite.cli.console import USAGE, stop

if TYPE_CHECKING:  # each command imports what it needs when it runs
    from bo_suite.storage.goals import Constraints, Direction, Goals
    from bo_suite.storage.trial import Header

DirectionOption = Annotated[
    list[str] | None,
    typer.Option(
        "--direction",
        metavar="minimize|maximize|NAME=...",
        help="Which values are better, or which ones of an objective by name; may be repeated.",
        show_default="minimize, or that of the history",
    ),
]
ConstraintOption = Annotated[
    list[str] | None,
    typer.Option(
        "--constraint",
        metavar="LIMIT",
        help="An outcome that must lie in an interval ('memory<=8', '0.9<=ratio<=1.1') or be true (works); "
        "may be repeated.",
        show_default="none, or those of the history",
    ),
]
OutcomeArgument = Annotated[
    list[str],
    typer.Argument(
        metavar="VALUE|NAME=VALUE ...",
        help="The outcome, a finite number, or outcomes by name; nan if a measurement failed; true or false.",
    ),
]
StdOption = Annotated[
    list[str] | None,
    typer.Option(
        "--std",
        metavar="STD|NAME=STD",
        help="Standard deviation of the noise of the outcome, or of one by name; may be repeated.",
    ),
]

GradientOption = Annotated[
    str | None,
    typer.Option(
        "--gradient",
        metavar="JSON",
        help="Derivatives of the objective by real parameters, as a JSON object such as '{\"lr\": -2.0}'.",
    ),
]
ParamsStdOption = Annotated[
    str | None,
    typer.Option(
        "--params-std",
        metavar="JSON",
        help="Standard deviations of what was really set, by name of a number, as a JSON object.",
    ),
]

Value = TypeVar("Value")

_WORDS = {"true": 1.0, "false": 0.0}


def chosen_goals(
    directions: Sequence[str] | None, limits: Sequence[str] | None, header: "Header | None"
) -> "Goals":
    """The goals of the options, else those of the history, else to minimise one objective."""
    from bo_suite.storage.goals import Goals

    direction: Direction = "minimize" if header is None else header.direction
    constraints: Constraints | None = None if header is None else header.constraints
    return Goals.of(
        _direction(directions) if directions else direction, _constraints(limits) if limits else constraints
    )


def outcome_of(goals: "Goals", texts: Sequence[str]) -> "float | dict[str, float]":
    """The outcome of texts VALUE or NAME=VALUE."""
    return _numbers("an outcome", goals, texts)


def noise_of(goals: "Goals", texts: Sequence[str] | None) -> "float | dict[str, float] | None":
    """The noise of texts STD or NAME=STD; None without any."""
    return _numbers("--std", goals, texts) if texts else None


def outcome_headings(goals: "Goals", texts: Sequence[str] | None) -> str | dict[str, str] | None:
    """The headings of texts HEADING or NAME=HEADING; None without any."""
    if not texts:
        return None
    named = [next((name for name in goals.names if text.startswith(f"{name}=")), None) for text in texts]
    if goals.named and None not in named:
        pairs = [(str(name), text[len(str(name)) + 1 :]) for name, text in zip(named, texts, strict=True)]
        return _by_name("--value", pairs)
    if len(texts) > 1 or goals.several:
        stop(f"--value must be NAME=HEADING, NAME one of {list(goals.names)}, got {list(texts)}", USAGE)
    return texts[0]


def _direction(texts: Sequence[str]) -> "Direction":
    from bo_suite.storage.goals import DIRECTIONS

    if len(texts) == 1 and texts[0] in DIRECTIONS:
        return texts[0]
    pairs = [text.rpartition("=") for text in texts]
    if not all(name and one in DIRECTIONS for name, _, one in pairs):
        law = "--direction must be minimize or maximize, or NAME=minimize or NAME=maximize of each objective"
        stop(f"{law}, got {list(texts)}", USAGE)
    return _by_name("--direction", [(name, one) for name, _, one in pairs])


def _constraints(texts: Sequence[str]) -> "Constraints":
    """The intervals of texts LOW<=NAME<=HIGH, of which an end may be missing, or NAME alone."""
    return _by_name("--constraint", [_constraint(text) for text in texts])


def _constraint(text: str) -> tuple[str, Any]:
    parts = [part.strip() for part in re.split(r"(<=|>=)", text)]
    operators, operands = parts[1::2], parts[::2]
    if set(operators) == {">="}:
        operands = operands[::-1]
    numbers = [_number(operand) for operand in operands]
    match [number is None for number in numbers], len(set(operators)):
        case [True], _:
            if operands[0] and not re.search("[<>=]", text):
                return operands[0], True
        case [True, False], 1:
            return operands[0], (None, numbers[1])
        case [False, True], 1:
            return operands[1], (numbers[0], None)
        case [False, True, False], 1:
            return operands[1], (numbers[0], numbers[2])
    forms = "such as 'memory<=8', '0.9<=ratio<=1.1', or a name alone for an outcome that must be true"
    return stop(f"--constraint must be {forms}, got {text!r}", USAGE)


def _numbers(what: str, goals: "Goals", texts: Sequence[str]) -> "float | dict[str, float]":
    """The number of a text, or those of texts NAME=VALUE."""
    if len(texts) == 1 and (number := _number(texts[0])) is not None:
        if goals.several:
            names = " ".join(f"{name}=..." for name in goals.names)
            stop(f"{what} must be given by name ({names}), got {texts[0]!r}", USAGE)
        return number
    pairs = []
    for text in texts:
        name, _, value = text.rpartition("=")
        number = _number(value)
        if not name or number is None:
            _refuse(what, texts)
        pairs.append((name, number))
    return _by_name(what, pairs)


def _refuse(what: str, texts: Sequence[str]) -> NoReturn:
    stop(f"{what} must be a number, or NAME=NUMBER of each outcome, got {' '.join(texts)!r}", USAGE)


def _number(text: str) -> float | None:
    """The number that a text is, `nan` included, and 1 or 0 for a label; None if it is none."""
    try:
        return _WORDS[text.lower()] if text.lower() in _WORDS else float(text)
    except ValueError:
        return None


def _by_name(what: str, pairs: Sequence[tuple[str, Value]]) -> dict[str, Value]:
    values = dict(pairs)
    if len(values) < len(pairs):
        stop(f"{what} must be given once for a name, got {[name for name, _ in pairs]}", USAGE)
    return values
