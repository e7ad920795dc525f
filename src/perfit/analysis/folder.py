"""The folder of an analysis: δ-vectors per task and group, and the report on all of them."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from pathlib import Path

from perfit.analysis.deltas import DELTAS, DeltaVectors
from perfit.analysis.excerpts import read_texts
from perfit.analysis.figures import figures
from perfit.analysis.page import write_page
from perfit.analysis.runs import tables_of_run
from perfit.analysis.tables import Tables, check_together, focus_layer, tables_of, write_tables
from perfit.durable.files import write_atomically
from perfit.durable.folder import Folder
from perfit.errors import ConfigError

_README = """# An analysis of δ-vectors

| file | what it holds |
|---|---|
| `<task>/<group>/deltas.safetensors` | `means` [users, kinds, 2, layers, d] fp32: mean state at the last prompt token over even and odd queries; `counts` [users, kinds, 2] |
| `<task>/<group>/recipe.json` | kinds, users, layers, settings, base, versions, what had to be shortened |
| `<task>/<group>/texts.json` | excerpts of what users wrote, for the page; absent with `--no-texts` |
| `<task>/<group>/parts/` | a measurement that is not finished; gone when it is |
| `tables/*.parquet` | everything derived, as tidy tables |
| `figures/*.svg`, `*.png` | figures |
| `index.html` | the interactive page; holds the excerpts too, and loads nothing from anywhere |
| `.lock` | keeps a second analysis, or an erasure, out while one runs |

Groups: `test` are the users to personalise for, `stage1` the others. The same `perfit analyze` goes on after a stop.
`perfit analyze --out <this folder>` alone writes the report again.
"""


def alone_in(out: Path) -> AbstractContextManager[None]:
    """Keep other processes from analysing in a folder, which is made where there is none.

    Raises:
        StoreError: One does already, or the folder cannot be made.
    """
    return Folder(out, DELTAS).locked()


def task_folder(out: Path, task: str, group: str) -> Path:
    """Folder of one task's δ-vectors, inside ``out`` whatever the task is called."""
    return out / re.sub(r"[^\w-]+", "_", task) / group


def measured(out: Path) -> list[DeltaVectors]:
    """All finished δ-vectors of a folder, test users first.

    Raises:
        StoreError: One of them is damaged.
    """
    found = [DeltaVectors.load(path.parent) for path in sorted(out.glob("*/*/recipe.json"))]
    return sorted(found, key=lambda one: (one.group != "test", one.task))


def write_report(
    out: Path,
    *,
    runs: Sequence[Path] = (),
    layer: int | None = None,
    start: Callable[[int], None] = lambda layers: None,
    done: Callable[[int], None] = lambda layers: None,
) -> tuple[Tables, int]:
    """Derive tables, figures and the page from all δ-vectors of a folder.

    Args:
        out: The folder.
        runs: Trained runs to compare with.
        layer: What figures of one layer show; the base's middle when not given.
        start, done: Called with the number of layers to come, and with those finished.

    Returns:
        The tables, and the layer shown.

    Raises:
        ConfigError: Nothing was measured, what was does not belong together, or there is no such layer.
        MissingExtraError: jinja2, matplotlib, plotly or pyarrow is not installed.
    """
    many = measured(out)
    check_together(many)
    shown = focus_layer(many[0]) if layer is None else layer
    if shown not in many[0].recipe.layers:
        raise ConfigError(f"layer: {shown} was not measured; there are {list(many[0].recipe.layers)}")
    start(sum(len(one.recipe.layers) for one in many))
    tables = tables_of(many, done)
    for run in runs:
        for name, rows in tables_of_run(run, many).items():
            tables.setdefault(name, []).extend(rows)
    write_tables(tables, out / "tables")
    drawn = figures(many, tables, shown)
    for one in drawn:
        one.save(out / "figures")
    texts = {(one.task, one.group): read_texts(task_folder(out, one.task, one.group)) for one in many}
    write_page(many, tables, texts, shown, out / "index.html", drawn)
    write_atomically(out / "README.md", _README.encode())
    return tables, shown
