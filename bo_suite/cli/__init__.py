"""The command line, `bo-suite`.

Commands import what they need when they run, so that `bo-suite --help` does not load torch.
"""

from typing import Annotated, Any

import typer
from typer.core import TyperGroup

from bo_suite import __version__
from bo_suite.cli import bench, edits, insight, report, run, runs, status, tables, trials, worker
from bo_suite.cli.console import write_any_character
from bo_suite.storage.paths import without_passwords

__all__ = ["app", "main"]


def _examples(*lines: str) -> str:
    return "\n\n".join(("**Examples**", *(f"`{line}`" for line in lines)))


_CODES = (
    "**Exit codes**\n\n0 done; 1 refused or failed; 2 wrong usage; 3 every point of the space has been "
    "suggested; 130 interrupted; 143 ended by SIGTERM. Any code but 0 comes with one sentence on stderr."
)


_UsageError: Any = typer.BadParameter.__base__  # of the click that typer has, or imports


class _Commands(TyperGroup):
    """The commands; what they say of wrong arguments repeats no password."""

    def invoke(self, ctx: Any) -> Any:
        try:
            return super().invoke(ctx)
        except _UsageError as error:
            error.message = without_passwords(error.message)
            raise


app = typer.Typer(
    name="bo-suite",
    cls=_Commands,
    help="Optimise expensive functions in few evaluations, compare optimisers, and lose no result.",
    epilog=_examples(
        "bo-suite minimize branin --budget 12 --storage run.db --plot run.png",
        "bo-suite trials run.db --top 5",
        "bo-suite trials run.db --why",
    )
    + f"\n\n{_CODES}",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode="markdown",
)


@app.callback(invoke_without_command=True)
def _options(version: Annotated[bool, typer.Option("--version", help="Print the version.")] = False) -> None:
    if version:
        typer.echo(__version__)
        raise typer.Exit


app.command(
    epilog=_examples(
        "bo-suite minimize svm_digits --budget 12 --plot svm.png",
        "bo-suite minimize tune:objective --space space.toml --budget 12 --storage run.db",
        "bo-suite minimize tune:objective --space space.toml --budget 4 --direction maximize",
        "bo-suite minimize hartmann6 --budget 8 --acquisition upper-confidence-bound --json",
    )
)(run.minimize)
app.command(
    epilog=_examples(
        "bo-suite worker shared.db tune:objective --space space.toml --budget 8",
        "bo-suite worker shared.db tune:objective --space space.toml --until 2030-01-31T18:00",
        "bo-suite worker shared.db tune:objective --space space.toml --budget 9 --grace 25 --json",
    )
)(worker.worker)
app.command(
    epilog=_examples(
        "bo-suite ask run.db --space space.toml --seed 0",
        "bo-suite ask run.db --json",
        "bo-suite ask run.db --count 4 --json",
        "bo-suite ask run.db --fixed depth=3",
        "bo-suite ask small.db --space space.toml --direction error=minimize --constraint 'memory<=8'",
        "id=$(bo-suite ask run.db --json | jq .id)",
    )
)(trials.ask)
app.command(
    epilog=_examples("bo-suite tell run.db 0 0.31", "bo-suite tell run.db 1 -0.5 --std 0.02"),
    # An unknown option is passed on as an argument, and so is -0.5.
    context_settings={"ignore_unknown_options": True},
)(trials.tell)
app.command(
    epilog=_examples(
        'bo-suite fail run.db 2 "out of memory"', 'bo-suite fail run.db 1 "connection lost" --transient'
    )
)(trials.fail)
app.command(epilog=_examples("bo-suite withdraw run.db 2"))(trials.withdraw)
app.command(epilog=_examples("bo-suite hand-back run.db 3"))(trials.hand_back)
app.command(epilog=_examples("bo-suite best run.db", "bo-suite best run.db --json"))(trials.best)
app.command(
    epilog=_examples(
        "bo-suite trials run.db",
        "bo-suite trials run.db --top 5",
        "bo-suite trials run.db --why",
        "bo-suite trials run.db --state running --json",
    )
)(trials.trials)
app.command(epilog=_examples("bo-suite why run.db", "bo-suite why run.db 1 --json"))(trials.why)
app.command(
    epilog=_examples("bo-suite plot run.db", "bo-suite plot run.db --out run.svg --minimum 0.397887")
)(trials.plot)
app.command(
    epilog=_examples(
        "bo-suite enqueue run.db lr=0.001 depth=3",
        "bo-suite enqueue run.db --params '{\"lr\": 0.01}' --params '{\"depth\": 5}'",
        "bo-suite enqueue run.db --list",
        "bo-suite enqueue run.db --clear --json",
    )
)(edits.enqueue)
app.command(
    epilog=_examples("bo-suite amend run.db 0 0.29", "bo-suite amend run.db 1 -0.5 --std 0.02"),
    context_settings={"ignore_unknown_options": True},
)(edits.amend)
app.command(epilog=_examples("bo-suite forget run.db 0", 'bo-suite forget run.db 1 "the sensor was broken"'))(
    edits.forget
)
app.command(
    epilog=_examples(
        "bo-suite space run.db",
        "bo-suite space run.db --edit wider.toml --yes",
        "bo-suite space run.db --edit deeper.toml --values dropout=0 --yes --json",
    )
)(edits.space)
app.command(epilog=_examples("bo-suite history run.db", "bo-suite history run.db --json"))(edits.history)
app.command(
    "import",
    epilog=_examples(
        "bo-suite import run.db past.csv",
        "bo-suite import new.db yields.csv --space space.toml --column lr='learning rate' --value yield "
        "--direction maximize",
    ),
)(tables.import_trials)
app.command(epilog=_examples("bo-suite export run.db", "bo-suite export run.db --out trials.csv --json"))(
    tables.export
)
app.command(
    epilog=_examples(
        "bo-suite recommend run.db",
        "bo-suite recommend run.db --fixed depth=3 --json",
        "bo-suite recommend run.db --robust lr=0.001",
    )
)(insight.recommend)
app.command(
    epilog=_examples(
        "bo-suite predict run.db lr=0.001 depth=3", "bo-suite predict run.db --points points.csv"
    )
)(insight.predict)
app.command(epilog=_examples("bo-suite importance run.db", "bo-suite importance run.db --json"))(
    insight.importance
)
app.command(
    epilog=_examples(
        "bo-suite bench smoke --methods bo_suite,random --seeds 0:2 --budget 8 --out first",
        "bo-suite bench branin,noisy_branin --methods sobol,lfbo:mlp --budget 8 --out second --json",
    )
)(bench.bench)
app.command(
    epilog=_examples(
        "bo-suite report run.db",
        "bo-suite report run.db --out page.html --json",
        "bo-suite report first",
        "bo-suite report first --plot first.png",
    )
)(report.report)
app.command(epilog=_examples("bo-suite dashboard run.db", "bo-suite dashboard run.db --port 8081"))(
    report.dashboard
)
app.command(epilog=_examples("bo-suite status run.db", "bo-suite status run.db --json"))(status.status)
app.command(
    epilog=_examples(
        "bo-suite runs postgresql://me@db.lab/bo",
        "bo-suite runs postgresql://me@db.lab/bo --remove svm --yes",
    )
)(runs.runs)
app.command(epilog=_examples("bo-suite problems", "bo-suite problems --json"))(run.problems)


def main() -> None:
    """Runs `bo-suite`."""
    write_any_character()
    app()
