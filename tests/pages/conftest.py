"""Every kind of page, made once of stubs and a tiny run, and a Chromium to open them in."""

from __future__ import annotations

import shutil
import sys
from dataclasses import replace
from pathlib import Path

import pytest

for room in ("comparison", "analysis"):
    sys.path.insert(0, str(Path(__file__).parents[1] / room))


@pytest.fixture(scope="session")
def pages(tmp_path_factory: pytest.TempPathFactory, scored: Path) -> dict[str, Path]:
    """A comparison with long names, texts and answers; a run that was evaluated; an analysis with a trained run."""
    folder = tmp_path_factory.mktemp("pages")
    made = {"comparison": _comparison(folder), "run": _run(folder, scored), "analysis": _analysis(folder)}
    return made | {"reproduction": _reproduction(folder / "reproduced")}


def _comparison(folder: Path) -> Path:
    import stubs

    from perfit.comparison import runner
    from perfit.comparison.folder import ComparisonFolder
    from perfit.comparison.plan import Plan
    from perfit.comparison.results import load_results
    from perfit.comparison.table import make_table
    from perfit.data.schema import Query
    from perfit.report.from_comparison import from_comparison
    from perfit.report.page import write_report

    bench = stubs.bench()
    first, *others = bench.data.users
    loud = replace(first, queries=(Query("e", "nobreak" * 90, "work"), *first.queries[1:]))
    cut = [replace(user, history=user.history[:n]) for n, user in enumerate(others)]
    bench = replace(bench, data=replace(bench.data, users=(loud, *cut)))
    golds = {query.id: query.gold or "" for user in bench.data.users for query in user.queries}
    options = {"perfit": {"answers": golds}, "cos": {"answers": golds | {"e": "never said " * 60}}}
    methods = (
        "oppu",
        "base",
        "floor-majority",
        "lora-c-partial+perfit-p",
        "perfit",
        "cos",
        "style-vector",
        "lofit",
        "pag",
    )
    plan = Plan((*methods, "floor-linear"), options=options, against="oppu")
    runner.run(bench, plan, folder / "comparison", maker=stubs.make)
    results = load_results(ComparisonFolder(folder / "comparison"))
    return write_report(from_comparison(results, make_table(results, resamples=100)), folder / "comparison")


def _run(folder: Path, scored: Path) -> Path:
    from small_base import dataset

    from perfit.report.from_run import from_run
    from perfit.report.page import write_report
    from perfit.run import RunDirectory

    shutil.copytree(scored / "run", folder / "run")
    return write_report(from_run(RunDirectory(folder / "run"), dataset()), folder / "run")


def _analysis(folder: Path) -> Path:
    from made import deltas_of
    from planted import direction, noise

    from perfit.analysis.figures import figures
    from perfit.analysis.page import write_page
    from perfit.analysis.tables import tables_of

    layers = {n: {"history": noise(n + 1, 12) + n * direction()} for n in range(2)}
    many = [
        deltas_of(layers),
        deltas_of({n: {"history": noise(n + 9, 8)} for n in range(2)}, task="a_task_of_a_long_name_without_blanks"),
        deltas_of({n: {"history": noise(n + 5, 8)} for n in range(2)}, group="stage1", variants=("history",)),
    ]
    tables = tables_of(many)
    overlap = {"task": "folders", "layer": 1, "users": 8, "collective_cosine": 0.4, "personal_cosine": -0.1}
    energies = {"first_energy": 0.2, "second_energy": 0.1, "first_chance": 0.1, "second_chance": 0.1}
    tables["overlaps"] = [overlap | energies | {"personal_chance": 0.0}]
    tables["gains"] = [{"task": "folders", "size": 1.0 + n, "gain": 0.2 - 0.1 * n} for n in range(4)]
    texts = {("folders", "test"): {user: ["a past item " * 12, "nobreak" * 20] for user in many[0].users}}
    write_page(many, tables, texts, 1, folder / "index.html", figures(many, tables, 1))
    return folder / "index.html"


def _reproduction(folder: Path) -> Path:
    """A figure of four panels and a table beside it, of made-up numbers, with a name that does not break."""
    from perfit.experiments.outcome import Outcome, OutcomeRow, Value
    from perfit.experiments.paper.registry import entry_of
    from perfit.experiments.report import found_in, write_report

    columns = ("movie_tagging.accuracy", "movie_tagging.macro_f1", "news_headline.rouge1", "news_headline.rougeL")
    for name in ("figure6", "table4"):
        entry = entry_of(name)
        rows = [
            OutcomeRow(row.label, {column: Value(0.5, 0.4 + n / 40, 0.1) for column in columns}, row.extra)
            for n, row in enumerate(entry.rows)
        ]
        told = {"says": "more is better", "line": 9, "verdict": "seen", "details": ["nobreak" * 40]}
        order = {"column": columns[0], "tau": 0.4, "low": 0.1, "high": 0.6, "rows": 4}
        Outcome(
            entry=name,
            title=entry.title,
            scale="small",
            command=f"perfit reproduce {name}",
            base={"llama-2-7b": "tiny"},
            data={},
            users={"movie_tagging": 12},
            queries={},
            columns=columns,
            rows=tuple(rows),
            orderings=(order,),
            claims=(told,),
            done=3,
            cells=4,
            missing={"<b>not run yet</b>": 1},
        ).save(folder / "results" / "small")
    return write_report(found_in(folder), folder)
