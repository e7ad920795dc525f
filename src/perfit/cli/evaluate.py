"""``perfit evaluate``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from perfit.cli.given import first_users, form_of_dates
from perfit.cli.options import BASE_OF_RUN, DATES, JSON, TASK, USERS, opens_a_base
from perfit.cli.show import Screen, as_json, no_loading_bars, say, table
from perfit.errors import ConfigError
from perfit.events import Warned
from perfit.how_to_open import USUAL, HowToOpen


@opens_a_base
def evaluate(
    data: Annotated[
        Path | None, typer.Argument(help="Users with queries: OPPU folder, LaMP files, .jsonl, .csv, .parquet.")
    ] = None,
    run: Annotated[Path | None, typer.Option("--run", help="Run directory of perfit train.")] = None,
    task: TASK = None,
    dates: DATES = "iso",
    methods: Annotated[str, typer.Option(help="Which to compare, separated by commas.")] = "base,collective,personal",
    sample: Annotated[
        bool, typer.Option(help="The paper's sampling (T 0.1, top-k 10, top-p 0.9) instead of greedy.")
    ] = False,
    answers: Annotated[
        str,
        typer.Option(
            "--answers",
            "--labels",
            help="free: generated; trie: the most probable label, exactly; expected: the ratings' median and mean.",
        ),
    ] = "free",
    seed: Annotated[int, typer.Option(help="Seed of sampling.")] = 0,
    floors: Annotated[
        bool, typer.Option("--floors/--no-floors", help="Also score what any personal model must beat.")
    ] = True,
    nll: Annotated[
        bool, typer.Option("--nll/--no-nll", help="Also say how probable each method finds the known answers.")
    ] = True,
    metric: Annotated[
        list[str], typer.Option("--metric", help="A metric of your own beside the task's: package.module:function.")
    ] = [],  # noqa: B006
    memory: Annotated[
        bool,
        typer.Option("--memory", help="Also mix the personal label scores with a memory of everybody's history."),
    ] = False,
    others: Annotated[
        Path | None, typer.Option(help="File of the other users, whom floors learn from too, if not in DATA.")
    ] = None,
    users: USERS = None,
    base: BASE_OF_RUN = None,
    how: HowToOpen = USUAL,
    lamp: Annotated[
        tuple[Path, Path] | None, typer.Option(help="Score a predictions file against a gold file of LaMP's format.")
    ] = None,
    json: JSON = False,
) -> None:
    """Score base, collective and personal answers, and the floors any personal model must beat."""
    if lamp is not None:
        from perfit.evaluation.lamp_format import score_lamp_files
        from perfit.tasks import get_task

        scores = score_lamp_files(lamp[0], lamp[1], task=get_task(task) if task else None)
        if json:
            as_json(scores.as_dict())
        else:
            table(["metric", "value"], [[name, f"{value:.4f}"] for name, value in scores.metrics.items()])
            say(f"format failures {scores.format_failure_rate:.1%} of {scores.n}")
        return
    if data is None or run is None:
        raise ConfigError("evaluate: give the users' data and --run, or --lamp PREDICTIONS GOLDS")
    from perfit.data import read_dataset
    from perfit.evaluation.evaluate import check_methods
    from perfit.evaluation.evaluate import evaluate as run_evaluation
    from perfit.evaluation.own_metrics import metrics_of
    from perfit.inference.decoding import Decoding
    from perfit.personalizer import PerFit
    from perfit.run import RunDirectory

    directory = RunDirectory(run)
    manifest = directory.manifest()
    if task is not None:
        _check_task(task, manifest["task"], run)
    dataset = read_dataset(data, others=others, dates=form_of_dates(dates))
    people = first_users(dataset.users, users)
    chosen = [name.strip() for name in methods.split(",") if name.strip()]
    check_methods(chosen)
    own = metrics_of(metric)
    no_loading_bars()
    perfit = PerFit.from_pretrained(run, base_at=base, **how.given())
    screen = Screen(quiet=json)
    for note in dataset.notes:
        screen(Warned(note))
    queries = sum(len(user.queries) for user in people)
    with screen.counting(
        "answering", queries * len(chosen) * (2 if nll and answers == "free" else 1), "queries"
    ) as advance:

        def done(method: str, rows: int) -> None:
            advance(rows, method)

        result = run_evaluation(
            perfit,
            people,
            others=dataset.others,
            methods=chosen,
            decoding=Decoding(sample=sample, seed=seed),
            answers=answers,
            with_floors=floors,
            with_nll=nll,
            with_memory=memory,
            metrics=own,
            run=directory,
            done=done,
            listener=screen,
        )
    if json:
        as_json(result.as_dict())
        return
    show_evaluation(result)
    screen.say(f"predictions and scores: {run}")


def _check_task(wanted: str, trained: dict[str, Any], run: Path) -> None:
    """Refuse a task that is not the run's: its prompts and answers are what the shifts were trained on."""
    from perfit.belonging import task_record
    from perfit.tasks import get_task

    record = task_record(get_task(wanted))
    differing = [part for part in record if part in trained and record[part] != trained[part]]
    differing += ["stop"] if ("stop" in record) != ("stop" in trained) else []
    if differing:
        raise ConfigError(
            f"--task: {wanted} is not the task of {run} (they differ in {', '.join(differing)}); leave --task out"
        )


def show_evaluation(result: Any) -> None:
    """Print an evaluation's table and what it does not say."""
    header, rows = result.rows()
    table(header, rows, title=f"{result.task.name}")
    for line in result.summary():
        say(line)
