"""One door for every data format: looks at the path, picks the reader."""

from __future__ import annotations

import os
import zlib
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Literal, get_args

from perfit.data.convert import convert_lamp
from perfit.data.csv_table import read_csv
from perfit.data.jsonio import read_json_lines
from perfit.data.jsonl import read_jsonl
from perfit.data.lamp import question_files
from perfit.data.opening import open_unpacked
from perfit.data.oppu import OTHERS, TEST_STEMS, find_json, read_oppu, read_oppu_users
from perfit.data.parquet import read_parquet
from perfit.data.records import OWN
from perfit.data.schema import Dataset, User
from perfit.data.timeline import Dates, in_order_of_time
from perfit.errors import ConfigError, DataError, PerfitError

Format = Literal["oppu", "lamp", "jsonl", "csv", "parquet"]

_ONE_FILE: Mapping[Format, Callable[[Path], Dataset]] = {
    "jsonl": read_jsonl,
    "csv": read_csv,
    "parquet": read_parquet,
}
"""Readers of formats that are one file with test users and others."""


def read_dataset(
    path: str | os.PathLike[str],
    *,
    others: str | os.PathLike[str] | None = None,
    format: Format | None = None,
    task: str | None = None,
    dates: Dates = "iso",
) -> Dataset:
    """Reads users from a folder or a file.

    Formats: an OPPU folder or file ("oppu"), LaMP's own files ("lamp", converted; see ``convert_lamp``), JSON Lines
    ("jsonl"), a table ("csv") and Parquet ("parquet"), all but Parquet also gzip'd.

    Args:
        path: Folder or file.
        others: File of stage-1 users (any format but LaMP's own; every user in it counts as stage 1); takes the
            place of those that ``path`` brings.
        format: Format of ``path``; None finds out from the names of the files.
        task: Name of the task; None takes what the source says.
        dates: "us" reads 06/15/2019 as month/day/year; "iso" takes such a date for none, because nobody can tell.

    Returns:
        The dataset, histories oldest first where their dates tell; ``notes`` says what was decided while reading.

    Raises:
        DataError: When the format is not recognised or a record is unusable.
        ConfigError: For an unknown format, or ``others`` together with LaMP's own files.
        MissingExtraError: For Parquet without pyarrow.
    """
    source = Path(path)
    if dates not in get_args(Dates):
        raise ConfigError(f"dates={dates!r} is unknown; take one of {', '.join(get_args(Dates))}")
    if format is not None and format not in get_args(Format):
        raise ConfigError(f"format={format!r} is unknown; take one of {', '.join(get_args(Format))}")
    if not source.exists():
        raise DataError("no such file or folder", file=str(source), remedy="check the path")
    found = format or detect_format(source)
    if source.is_dir() and found in _ONE_FILE:
        raise DataError(f"a folder cannot be read as {found}", file=str(source), remedy="pass the file inside it")
    if found == "lamp":
        if others is not None:
            raise ConfigError(
                "others= does not go with LaMP's own files: the conversion makes the stage-1 users itself"
            )
        dataset = convert_lamp(source, dates=dates)
    elif found == "oppu":
        dataset = read_oppu(source)
    else:
        dataset = _ONE_FILE[found](source)
    if others is not None:
        dataset = _with_others(dataset, Path(others))
    if found != "lamp":  # whose conversion has done it
        dataset = in_order_of_time(dataset, dates)
    return replace(dataset, task=task) if task is not None else dataset


def detect_format(path: Path) -> Format:
    """The format of a folder or file, by names.

    Raises:
        DataError: When nothing known is there, or two formats are.
    """
    if path.is_dir():
        oppu = any(find_json(path, stem) for stem in (OTHERS, *TEST_STEMS))
        lamp = bool(question_files(path))
        if oppu == lamp:
            content = "both OPPU and LaMP files" if oppu else "neither OPPU nor LaMP files"
            remedy = (
                "pass one of the files"
                if oppu
                else "pass a folder with user_*_history.json or *_questions.json, or a file"
            )
            raise DataError(f"found {content} in the folder", file=str(path), remedy=remedy)
        return "oppu" if oppu else "lamp"
    name = path.name.lower().removesuffix(".gz")
    if name.endswith((".jsonl", ".ndjson")):
        return "jsonl"
    if name.endswith((".csv", ".tsv")):
        return "csv"
    if name.endswith(".parquet"):
        return "parquet"
    if name.endswith("_questions.json"):
        return "lamp"
    if name.endswith(".json"):
        return "jsonl" if _holds_own_lines(path) else "oppu"
    raise DataError(
        "the format is not clear from the name",
        file=str(path),
        remedy="name it .json, .jsonl, .csv or .parquet, as its content is",
    )


def _holds_own_lines(path: Path) -> bool:
    """Whether a ``.json`` file is JSON Lines of one's own: its first line is an object with a user."""
    try:
        with open_unpacked(path) as stream:
            if stream.read(64).removeprefix(b"\xef\xbb\xbf").lstrip()[:1] != b"{":
                return False
        first = next((record for _, record in read_json_lines(path)), None)
    except (PerfitError, OSError, EOFError, zlib.error):
        return False  # the reader of the whole file says what is wrong
    return isinstance(first, dict) and OWN.user in first


def _with_others(dataset: Dataset, path: Path) -> Dataset:
    note = f"stage-1 users from {path.name}"
    if dataset.others:
        note += f", in place of {len(dataset.others)} that came with the test users"
    return replace(dataset, others=_read_others(path), notes=(*dataset.notes, note))


def _read_others(path: Path) -> tuple[User, ...]:
    if not path.is_file():
        raise DataError("no such file of stage-1 users", file=str(path), remedy="check the path")
    found = detect_format(path)
    if found == "lamp":
        raise DataError("LaMP questions cannot serve as stage-1 users", file=str(path), remedy="convert them first")
    if found == "oppu":
        return read_oppu_users(path)
    dataset = _ONE_FILE[found](path)
    seen = {user.id for user in dataset.users}
    if any(user.id in seen for user in dataset.others):
        raise DataError("a user id comes twice, as test and as other", file=str(path), remedy="keep one of the two")
    return dataset.users + dataset.others
