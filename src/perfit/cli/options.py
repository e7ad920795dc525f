"""The options that several verbs have, each with its help: written down once."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from functools import wraps
from pathlib import Path
from typing import Annotated, Any, get_type_hints

import typer

from perfit.how_to_open import USUAL, HowToOpen

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

BASE = Annotated[str, typer.Option("--base", help="Base model: a path, a hub id, or pypi:<packaged>.")]
BASE_OF_RUN = Annotated[
    str | None, typer.Option("--base", help="Where the run's base lies now, if not where it lay in training.")
]

_OF_OPENING = {
    "device": Annotated[str, typer.Option("--device", help="auto (cuda, else mps, else cpu), cpu, cuda, cuda:1, ...")],
    "dtype": Annotated[
        str | None,
        typer.Option(
            "--dtype", help="auto, bfloat16, float16 or float32; what the settings or the run say if not given."
        ),
    ],
    "revision": Annotated[
        str | None, typer.Option("--revision", help="Branch, tag or commit of a base on the hub; runs keep its commit.")
    ],
    "layers_path": Annotated[
        str | None,
        typer.Option("--layers-path", help="Dotted path of the decoder layers, e.g. model.layers, if not found."),
    ],
    "quantization": Annotated[
        str | None, typer.Option("--quantization", help="4bit or 8bit, by bitsandbytes; a run keeps it, and needs it.")
    ],
    "attention": Annotated[
        str | None,
        typer.Option("--attention", help="sdpa, eager or flash_attention_2; transformers' choice if not given."),
    ],
    "trust_remote_code": Annotated[
        bool,
        typer.Option("--trust-remote-code", help="Run code that comes with the base; only from a source you trust."),
    ],
}


def opens_a_base(verb: Callable[..., None]) -> Callable[..., None]:
    """Give a verb every option of opening a base; it gets them all as its parameter ``how``, a ``HowToOpen``."""

    @wraps(verb)
    def with_options(**given: Any) -> None:
        how = HowToOpen(**{name: given.pop(name) for name in _OF_OPENING})
        verb(**given, how=how)

    signature, hints = inspect.signature(verb), get_type_hints(verb, include_extras=True)
    shown: list[inspect.Parameter] = []
    for one in signature.parameters.values():
        if one.name == "how":
            shown += [
                one.replace(name=name, default=getattr(USUAL, name), annotation=annotation)
                for name, annotation in _OF_OPENING.items()
            ]
        else:
            shown.append(one.replace(annotation=hints[one.name]))
    with_options.__signature__ = signature.replace(parameters=shown)  # type: ignore[attr-defined]
    with_options.__annotations__ = {one.name: one.annotation for one in shown} | {"return": None}
    return with_options


def words_again(how: HowToOpen) -> list[str]:
    """What the next command needs to open the same base the same way, and what no run keeps."""
    return [
        *(() if how.device == USUAL.device else ("--device", how.device)),
        *(() if how.attention is None else ("--attention", how.attention)),
        *(("--trust-remote-code",) if how.trust_remote_code else ()),
    ]
