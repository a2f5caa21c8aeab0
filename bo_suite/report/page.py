"""The page of a run, as one file that needs no network."""

from collections.abc import Sequence
from contextlib import closing, suppress
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from bo_suite.errors import FitError, NumericalError, StorageError, TrialError
from bo_suite.pages.drawing import plotly_script
from bo_suite.pages.words import seen, templates
from bo_suite.report.facts import Models, RunRecord, run_facts
from bo_suite.space.space import Params
from bo_suite.storage.addresses import Address, Location
from bo_suite.storage.history import History
from bo_suite.storage.paths import output_of, storage_place
from bo_suite.storage.trial import Trial
from bo_suite.study.model import Suggesters

if TYPE_CHECKING:
    from jinja2 import Environment  # belongs to an extra

    from bo_suite.study.belief import Belief

_SCRIPT = "<!-- the script that draws the figures -->"
"""Where the script goes; no text of a user contains it, since `<` is escaped in all of them."""


def report_run(storage: Location, out: str | Path | None = None, functions: Sequence[Any] = ()) -> Path:
    """Writes the page of a history: what it found, what its model believes, how each point was chosen.

    The page is one file of about 5 MB, most of which is the script that draws its figures.

    Args:
        storage: the file of the history, or the address of a run in a database.
        out: where to write the page; by default RUN.html, beside RUN.db or, for a database, here.
        functions: the constraint functions of the space, if it has any; without them the page has no figures
            of the model.

    Returns:
        The path of the page.

    Raises:
        StorageError: the file is no history, or the page cannot be written or would replace the history.
        ImportError: plotly or jinja2 is not installed.
    """
    script = plotly_script()
    place = storage_place(storage)
    place = place if isinstance(place, Address) else Path(str(storage))  # as it was given
    path = output_of(place, ".html") if out is None else Path(out)
    if isinstance(place, Path) and path.exists() and place.exists() and path.samefile(place):
        raise StorageError(f"the page must be another file than the history, got {str(path)!r} for both")
    with closing(History.open(place, None, functions)) as history:
        page = render(history, place)
    try:
        path.write_text(page.replace(_SCRIPT, f"<script>{script}</script>", 1), encoding="utf-8")
    except OSError as error:
        raise StorageError(f"the page {str(path)!r} cannot be written: {error}") from error
    return path


def render(history: History, place: Path | Address) -> str:
    """The page of a run without the script that draws its figures.

    Args:
        history: of the run.
        place: where it is, for the page.

    Raises:
        StorageError: the acquisition of the history has parts from outside the package.
    """
    trials = history.trials()
    run = RunRecord(place, history.header, trials, history.changes())
    facts = run_facts(run, _models(history, trials))
    facts |= {"undrawn": "The figure is drawn by JavaScript.", "script": _SCRIPT}
    return seen(_environment().get_template("run.html.j2").render(facts))


def _models(history: History, trials: Sequence[Trial]) -> Models:
    """The model of each outcome, and the points that these recommend."""
    from bo_suite.study.beliefs import belief_about
    from bo_suite.study.recommend_front import recommended

    goals, missing = history.header.goals, history.header.space.constraints.missing
    if missing:
        reason = f"files hold no functions: give its constraints, report_run(path, functions=[{missing[0]}])"
        return Models({}, dict.fromkeys(goals.names, reason), ())
    suggester = Suggesters(history, None, "cpu").latest
    beliefs: dict[str, Belief] = {}
    reasons: dict[str, str] = {}
    for name in goals.names:
        try:
            beliefs[name] = belief_about(suggester, trials, name)
        except (FitError, NumericalError, TrialError) as error:
            reasons[name] = str(error)
    points: Sequence[Params] = ()
    if goals.named and all(objective.name in beliefs for objective in goals.objectives):
        contexts = next(iter(beliefs.values())).latest_contexts()
        with suppress(FitError, NumericalError, TrialError):
            found = recommended(suggester, trials, contexts)
            points = found if isinstance(found, list) else [found]
    return Models(beliefs, reasons, points)


@cache
def _environment() -> "Environment":
    return templates("bo_suite.report")
