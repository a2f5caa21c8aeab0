"""Commands on a history: `ask`, `tell`, `fail`, `withdraw`, `best`, `trials`, `why`, `plot`."""

from contextlib import closing
from pathlib import Path
from typing import Annotated

import typer

from bo_suite.cli.console import (
    FAILURE,
    USAGE,
    json_objects,
    print_failures,
    print_json,
    print_lines,
    print_trial,
    print_trials,
    sentences,
    stop,
)
from bo_suite.cli.goals import (
    ConstraintOption,
    DirectionOption,
    GradientOption,
    OutcomeArgument,
    ParamsStdOption,
    StdOption,
    chosen_goals,
    noise_of,
    outcome_of,
)
from bo_suite.cli.options import (
    AcquisitionOption,
    AttemptOption,
    FixedOption,
    IdArgument,
    JsonOption,
    SeedOption,
    SpaceOption,
    State,
    StorageArgument,
    chosen_seed,
    draw_convergence,
    draw_curves,
    existing,
    fixed_values,
    named_acquisition,
    picture_path,
    stored_header,
)

_PAGE, _WHY_PAGE = 200, 20
"""Trials of one page, without and with their tracebacks."""


@sentences()
def ask(
    storage: StorageArgument,
    space: SpaceOption = None,
    seed: SeedOption = None,
    direction: DirectionOption = None,
    constraint: ConstraintOption = None,
    acquisition: AcquisitionOption = None,
    count: Annotated[
        int | None, typer.Option(min=1, help="Number of points; the JSON is then a list.", show_default="1")
    ] = None,
    fixed: FixedOption = None,
    as_json: JsonOption = False,
) -> None:
    """Suggest a point, and store it as a running trial until `tell` or `fail`.

    The first ask needs --space and creates the history; later ones need its file or address alone. If the
    worker of a point is lost, its trial stays running: evaluate it again (`bo-suite trials run.db --state
    running`) or fail it. In a database it is held for you, and no worker takes it over: `bo-suite hand-back`
    gives it to the others.
    """
    from bo_suite.space.space import Space
    from bo_suite.storage.trial import record
    from bo_suite.study.optimizer import Optimizer

    header = stored_header(storage)
    searched = Space.from_file(space) if space is not None else None if header is None else header.space
    if searched is None:
        stop(f"the first ask of a history needs --space FILE, got {storage}, which does not exist", USAGE)
    values = fixed_values(searched, fixed)  # before a file is created
    goals = chosen_goals(direction, constraint, header)
    optimizer = Optimizer(
        searched,
        named_acquisition(acquisition, header),
        chosen_seed(seed, header),
        direction=goals.direction,
        budget=header.budget if header else None,
        storage=storage,
        constraints=goals.limits,
    )
    with closing(optimizer):
        trials = optimizer.ask(count or 1, fixed=values)
        if as_json:
            records = [record(trial) for trial in trials]
            print_json(records[0] if count is None else records)
        else:
            print_trials(trials, searched, goals)
        if not isinstance(storage, Path):
            optimizer.hold()


@sentences()
def tell(
    storage: StorageArgument,
    trial: IdArgument,
    outcome: OutcomeArgument,
    std: StdOption = None,
    gradient: GradientOption = None,
    params_std: ParamsStdOption = None,
    attempt: AttemptOption = None,
    as_json: JsonOption = False,
) -> None:
    """Store the outcome of a running trial; after exit code 0 it survives any crash.

    An outcome by name that is left out was not measured.
    """
    with existing(storage) as history:
        goals = history.header.goals
        told = outcome_of(goals, outcome), noise_of(goals, std), attempt
        stored = history.tell(trial, *told, *json_objects(gradient, params_std))
        print_trial(stored, history.header, as_json=as_json)


@sentences()
def fail(
    storage: StorageArgument,
    trial: IdArgument,
    reason: Annotated[str, typer.Argument(metavar="REASON", help="Why there is no value.")],
    transient: Annotated[
        bool, typer.Option("--transient", help="The cause is unrelated to the point.")
    ] = False,
    attempt: AttemptOption = None,
    as_json: JsonOption = False,
) -> None:
    """Store that a running trial has no value; later suggestions stay away from where trials fail."""
    with existing(storage) as history:
        failed = history.fail(trial, reason, attempt, transient=transient)
        print_trial(failed, history.header, as_json=as_json)


@sentences()
def withdraw(
    storage: StorageArgument,
    trial: IdArgument,
    attempt: AttemptOption = None,
    as_json: JsonOption = False,
) -> None:
    """Store that a running trial will not be evaluated; nothing is learnt from it."""
    with existing(storage) as history:
        print_trial(history.withdraw(trial, attempt=attempt), history.header, as_json=as_json)


@sentences()
def hand_back(
    storage: StorageArgument,
    trial: IdArgument,
    attempt: AttemptOption = None,
    as_json: JsonOption = False,
) -> None:
    """Withdraw a running trial and queue its point, which the next `ask` or worker gets."""
    with existing(storage) as history:
        print_trial(
            history.withdraw(trial, "handed back", attempt, requeue=True), history.header, as_json=as_json
        )


@sentences()
def best(storage: StorageArgument, as_json: JsonOption = False) -> None:
    """Show the best feasible trial, at the target fidelity if the space has fidelities.

    With several objectives it shows the Pareto front, by the first objective; the JSON is then a list.
    """
    from bo_suite.storage.trial import record
    from bo_suite.study.summary import best_trial, pareto_trials

    with existing(storage) as history:
        trials, header = history.trials(), history.header
    if not header.goals.several:
        print_trial(best_trial(trials, header.goals, header.space), header, as_json=as_json)
        return
    front = pareto_trials(trials, header.goals, header.space)
    if as_json:
        print_json([record(trial) for trial in front])
    elif front:
        print_trials(front, header.space, header.goals)
    else:
        print_lines("the Pareto front is empty: no trial is feasible with all objectives measured")


@sentences()
def trials(
    storage: StorageArgument,
    top: Annotated[
        int | None,
        typer.Option(min=1, help="Number of trials to show, the best first.", show_default="all, by id"),
    ] = None,
    state: Annotated[State | None, typer.Option(help="Show only trials in this state.")] = None,
    page: Annotated[
        int | None,
        typer.Option(
            min=1,
            help=f"Page to show, of {_PAGE} trials ({_WHY_PAGE} with --why); not with --json.",
            show_default="the last",
        ),
    ] = None,
    why: Annotated[
        bool, typer.Option("--why", help="Show only failed trials, with reason and traceback.")
    ] = False,
    as_json: JsonOption = False,
) -> None:
    """List the trials, one page of them."""
    from bo_suite.storage.trial import record
    from bo_suite.study.summary import ranked

    if why and (top is not None or state not in (None, State.failed)):
        stop("--why shows failed trials, so it excludes --top and another --state", USAGE)
    state = State.failed if why else state
    with existing(storage) as history:
        listed, header = history.trials(), history.header
    if state is not None:
        listed = [trial for trial in listed if trial.state == state]
    if top is not None:
        listed = ranked(listed, header.goals, header.space)[:top]
    if as_json:
        print_json([record(trial) for trial in listed])
        return
    size = _WHY_PAGE if why else _PAGE
    pages = max(-(-len(listed) // size), 1)
    shown = pages if page is None and top is None else min(page or 1, pages)
    page_of_trials = listed[(shown - 1) * size : shown * size]
    if why:
        print_failures(page_of_trials)
    else:
        print_trials(page_of_trials, header.space, header.goals)
    if pages > 1:
        print_lines(f"page {shown} of {pages} (--page), {len(listed)} trials")


@sentences()
def why(
    storage: StorageArgument,
    trial: Annotated[
        int | None, typer.Argument(metavar="[ID]", help="The trial's id.", show_default="the last trial")
    ] = None,
    as_json: JsonOption = False,
) -> None:
    """Say how the point of a trial was chosen: by what, from how many observations, on which scale."""
    from bo_suite.study.summary import explanation

    with existing(storage) as history:
        listed = history.trials()
        chosen = listed[-1] if listed and trial is None else None
        if trial is not None:
            chosen = next((one for one in listed if one.id == trial), None)
        if chosen is None:
            missing = "has no trials yet" if trial is None else f"has no trial with id {trial}"
            stop(f"{storage} {missing}", FAILURE)
    if as_json:
        print_json({"id": chosen.id} | dict(chosen.provenance))
    else:
        print_lines(f"trial {chosen.id}: {explanation(chosen.provenance)}")


@sentences()
def plot(
    storage: StorageArgument,
    out: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE", help="A .png, .pdf or .svg.", show_default="RUN.png, beside RUN.db or here"
        ),
    ] = None,
    minimum: Annotated[float | None, typer.Option(help="The minimum, to plot the distance to it.")] = None,
    curves: Annotated[bool, typer.Option("--curves", help="Plot the learning curves instead.")] = False,
    trial: Annotated[
        int | None, typer.Option(metavar="ID", help="Plot what is expected of the learning curve of a trial.")
    ] = None,
    as_json: JsonOption = False,
) -> None:
    """Save the convergence plot, of trials at the target fidelity if the space has fidelities.

    With several objectives it shows the hypervolume of the Pareto front. With `--curves` or `--trial` the
    plot is that of the learning curves of trials that have reported.
    """
    from bo_suite.run.minimize import Result
    from bo_suite.storage.paths import output_of

    of_curves = curves or trial is not None
    if of_curves and minimum is not None:
        stop("--minimum is for the convergence plot, got it with --curves or --trial", USAGE)
    with existing(storage) as history:
        listed, header = history.trials(), history.header
    picture = picture_path(out or output_of(storage, ".curves.png" if of_curves else ".png"))
    run = Result(tuple(listed), header.direction, None, header.space, header.constraints)
    if of_curves:
        draw_curves(storage, trial, picture)
    else:
        draw_convergence(run, minimum, picture)
    if as_json:
        print_json({"plot": str(picture)})
    else:
        print_lines(f"{'curves' if of_curves else 'convergence'}: {picture}")
