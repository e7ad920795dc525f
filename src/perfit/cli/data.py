"""``perfit data``: audit, convert, download, demo."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal, cast

import typer

from perfit.cli.ending import LEAK
from perfit.cli.given import form_of_dates, load_data
from perfit.cli.options import DATA, DATES, JSON, TASK
from perfit.cli.show import Screen, as_json, say
from perfit.errors import ConfigError, DataError

app = typer.Typer(help="Audit, convert and download users' data, or make demo users.", no_args_is_help=True)


@app.command(epilog="Example: perfit data audit demo.jsonl --task news_categorize")
def audit(
    data: DATA,
    task: TASK = None,
    others: Annotated[Path | None, typer.Option(help="File of the other users (stage 1).")] = None,
    dates: DATES = "iso",
    json: JSON = False,
) -> None:
    """Look for answers in the training data; exit code 3 when there are leaks."""
    dataset = load_data(data, others, task, None, dates)
    from dataclasses import asdict

    from perfit.data import audit as run_audit
    from perfit.tasks import get_task
    from perfit.tasks.leaks import audit_arguments

    report = run_audit(dataset, **audit_arguments(get_task(dataset.task or "")))
    if json:
        as_json({"leaks": len(report.leaks), "findings": [asdict(f) for f in report.findings], "notes": report.notes})
    else:
        for line in (*dataset.notes, *report.lines()):
            say(line)
    if report.leaks:
        raise typer.Exit(LEAK)


@app.command(epilog="Example: perfit data convert LaMP_2/new/ movies/ --test-users 100")
def convert(
    source: Annotated[Path, typer.Argument(help="LaMP questions file, or the folder that holds it.")],
    folder: Annotated[Path, typer.Argument(help="Folder to write OPPU files to; new or empty.")],
    test_users: Annotated[int | None, typer.Option(help="Most active users that become test users (100).")] = None,
    dates: DATES = "iso",
) -> None:
    """Turn raw LaMP files into the OPPU setting; the rule and its numbers are printed."""
    from perfit.data import convert_lamp, write_oppu

    if not source.exists():
        raise DataError("no such file or folder", file=str(source), remedy="check the path")
    dataset = convert_lamp(source, n_test=test_users, dates=form_of_dates(dates))
    write_oppu(dataset, folder)
    for note in dataset.notes:
        say(note)
    say(f"{len(dataset.users)} test users and {len(dataset.others)} others -> {folder}")


@app.command(epilog="Example: perfit data download movie_tagging dev data/movies")
def download(
    task: Annotated[str, typer.Argument(help="Task name or LaMP id.")],
    split: Annotated[str, typer.Argument(help="train, dev or test.")],
    folder: Annotated[Path, typer.Argument(help="Folder to download to.")],
    time_ordered: Annotated[bool, typer.Option(help="The time-ordered variant, as OPPU uses it.")] = True,
) -> None:
    """Download LaMP's own files of one task and split; repeat the command to resume."""
    from perfit.data import download_lamp

    if split not in ("train", "dev", "test"):
        raise ConfigError(f"split: {split!r} is unknown; choose train, dev or test")

    screen = Screen()
    with screen.counting(f"{task} {split}", 0, "bytes") as advance:
        seen: dict[str, int] = {}
        totals: dict[str, int] = {}

        def progress(name: str, received: int, total: int | None) -> None:
            if total is not None and totals.get(name) != total:
                totals[name] = total
                screen.expect(sum(totals.values()))
            if name in seen:
                advance(max(received - seen[name], 0), name)
            else:
                screen.already(received)  # a resumed file's first piece comes with all that was there
            seen[name] = max(received, seen.get(name, 0))

        paths = download_lamp(
            task, cast(Literal["train", "dev", "test"], split), folder, time_ordered=time_ordered, progress=progress
        )
    for path in paths:
        say(path)


@app.command(epilog="Example: perfit data demo demo.jsonl")
def demo(
    file: Annotated[Path, typer.Argument(help="JSON Lines file to write.")],
    task: Annotated[str, typer.Option(help="news_categorize or news_headline.")] = "news_categorize",
    users: Annotated[int, typer.Option(help="Test users.")] = 8,
    others: Annotated[int, typer.Option(help="Users of stage 1.")] = 24,
    history: Annotated[int, typer.Option(help="Past items of each user.")] = 40,
    queries: Annotated[int, typer.Option(help="Queries of each user.")] = 10,
    seed: Annotated[int, typer.Option(help="Seed.")] = 0,
) -> None:
    """Write demo users with known tastes; no real person's text."""
    from perfit.data import demo_dataset, write_jsonl

    if task not in ("news_categorize", "news_headline"):
        raise ConfigError(f"--task: {task!r} has no demo users; choose news_categorize or news_headline")
    dataset = demo_dataset(users=users, others=others, history=history, queries=queries, seed=seed, task=task)  # type: ignore[arg-type]
    write_jsonl(dataset, file)
    say(f"{users} users and {others} others -> {file}")
    say(f"next: perfit train {file} --task {task} --run runs/demo")
