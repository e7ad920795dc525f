"""The options that several verbs have, each with its help: written down once."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

DATA = Annotated[Path, typer.Argument(help="Users' data: an OPPU folder, LaMP files, .jsonl, .csv or .parquet.")]
RUN = Annotated[Path, typer.Option("--run", help="Run directory.")]
OTHERS = Annotated[Path | None, typer.Option("--others", help="File of the other users (stage 1), if not in DATA.")]
USERS = Annotated[int | None, typer.Option("--users", help="Only the first so many users.")]
DATES = Annotated[
    str, typer.Option("--dates", help="us: 06/15/2019 is the 15th of June; iso: such dates are not read.")
]
TASK = Annotated[
    str | None, typer.Option("--task", help="Task name, LaMP id or YAML file; read from the data if not given.")
]
PRESET = Annotated[str, typer.Option("--preset", help="small: measured for small bases; paper: Table 9.")]
CONFIG = Annotated[Path | None, typer.Option("--config", help="YAML file of settings (docs/training.md).")]
JSON = Annotated[bool, typer.Option("--json", help="Print JSON on stdout, for scripts.")]
VERBOSE = Annotated[
    bool, typer.Option("--verbose", help="Also show what the engine measured and chose, and its peak of memory.")
]
MEMORY = Annotated[
    str | None, typer.Option("--memory", help="Memory the training may take, e.g. 8GiB; sets memory_gib.")
]
FROZEN_CACHE = Annotated[
    Path | None,
    typer.Option("--frozen-cache", help="Folder that keeps frozen parts for later trainings; holds users' states."),
]

# How a base is opened: every verb that opens one has all of these.
BASE = Annotated[str, typer.Option("--base", help="Base model: a path, a hub id, or pypi:<packaged>.")]
BASE_OF_RUN = Annotated[
    str | None, typer.Option("--base", help="Where the run's base lies now, if not where it lay in training.")
]
DEVICE = Annotated[str, typer.Option("--device", help="auto (cuda, else mps, else cpu), cpu, cuda, cuda:1, ...")]
REVISION = Annotated[
    str | None, typer.Option("--revision", help="Branch, tag or commit of a base on the hub; runs keep its commit.")
]
LAYERS_PATH = Annotated[
    str | None,
    typer.Option("--layers-path", help="Dotted path of the decoder layers, e.g. model.layers, if not found."),
]
TRUST_REMOTE_CODE = Annotated[
    bool, typer.Option("--trust-remote-code", help="Run code that comes with the base; only from a source you trust.")
]


def load_options(revision: str | None, trust_remote_code: bool) -> dict[str, Any]:
    """What the loader is told: what was given, and nothing else."""
    given = {"revision": revision, "trust_remote_code": trust_remote_code or None}
    return {name: value for name, value in given.items() if value is not None}


def words_again(device: str, trust_remote_code: bool) -> list[str]:
    """What the next command needs to open the same base the same way, and what no run keeps."""
    return [
        *(() if device == "auto" else ("--device", device)),
        *(("--trust-remote-code",) if trust_remote_code else ()),
    ]
