"""``perfit report``."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from perfit.cli.options import JSON
from perfit.cli.show import Screen, as_json, say
from perfit.errors import ConfigError, StoreError

if TYPE_CHECKING:
    from perfit.report.content import Content


def report(
    run: Annotated[Path, typer.Argument(help="Folder of compare or reproduce, or run that evaluate has scored.")],
    against: Annotated[
        str | None, typer.Option(help="Method that gains refer to, if not the comparison's own.")
    ] = None,
    data: Annotated[Path | None, typer.Option(help="For a run: the evaluated users, to show texts.")] = None,
    texts: Annotated[bool, typer.Option("--texts/--no-texts", help="Show users' texts and the answers.")] = True,
    page: Annotated[Path | None, typer.Option(help="File of the page; report.html in the folder if not given.")] = None,
    json: JSON = False,
) -> None:
    """Write one self-contained HTML page with tables, figures and texts, and the figures as PNG and SVG."""
    from perfit.comparison.folder import ComparisonFolder
    from perfit.elsewhere import Elsewhere
    from perfit.report.page import write_report
    from perfit.run import RunDirectory

    screen = Screen(quiet=json)
    if ComparisonFolder(run).exists():
        if data is not None:
            raise ConfigError(f"--data: {run} is a comparison and has its texts; leave --data out")
        content = _compared(run, against, texts, screen)
    elif RunDirectory(run).exists():
        if against is not None:
            raise ConfigError(f"--against: {run} is a run, whose gains are over its collective shift; leave it out")
        content = _evaluated(run, data, texts)
    else:
        _reproduced(run, page, json, given=data is not None or against is not None)
        return
    if page is not None:
        Elsewhere(run).note("page", page)
    written = write_report(content, run, page=page)
    if json:
        as_json({"page": str(written), "figures": str(run / "figures")})
    else:
        say(f"page: {written}; figures: {run / 'figures'}")


def _compared(run: Path, against: str | None, texts: bool, screen: Screen) -> Content:
    from perfit.comparison.folder import ComparisonFolder
    from perfit.comparison.results import load_results
    from perfit.comparison.table import make_table
    from perfit.report.from_comparison import from_comparison

    with screen.counting("scoring", 0, "trials") as advance:
        results = load_results(ComparisonFolder(run), lambda method: advance(1, method))
    return from_comparison(results, make_table(results, against), texts=texts)


def _evaluated(run: Path, data: Path | None, texts: bool) -> Content:
    from perfit.data import read_dataset
    from perfit.report.from_run import from_run
    from perfit.run import RunDirectory

    return from_run(RunDirectory(run), read_dataset(data) if data is not None else None, texts=texts)


def _reproduced(folder: Path, page: Path | None, json: bool, *, given: bool) -> None:
    from perfit.experiments.report import found_in, write_report

    found = found_in(folder)
    if not found:
        raise StoreError(
            f"{folder}: holds neither a comparison (plan.json) nor a run (manifest.json), nor results of perfit reproduce"
        )
    if given:
        raise ConfigError(f"--data, --against: {folder} has its numbers from perfit reproduce; leave both out")
    written = write_report(found, folder, page=page)
    if json:
        as_json({"page": str(written), "figures": str(found[0][0] / "figures")})
    else:
        say(f"page: {written}")
