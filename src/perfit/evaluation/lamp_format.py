"""The LaMP evaluator's files: ``{"task": "LaMP_2N", "golds": [{"id": ..., "output": ...}]}``."""

from __future__ import annotations

import gzip
import json
import zlib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from perfit.errors import DataError
from perfit.evaluation.score import Scores, score
from perfit.files import write_atomically
from perfit.tasks import LAMP_TASKS, Task

_AMBIGUOUS = ("LaMP_2", "LaMP_8")
"""Ids found in published files for either LaMP_2N or LaMP_2M; only the labels tell which."""


@dataclass(frozen=True)
class LampFile:
    """What such a file holds: the task's id as written, and outputs by query id."""

    task: str
    outputs: Mapping[str, str]


def read_lamp(path: str | Path) -> LampFile:
    """Read a gold or prediction file, gzipped (``.gz``) or not.

    Raises:
        DataError: It cannot be read or has another form; the message names the file and the record.
    """
    path = Path(path)
    try:
        raw = path.read_bytes()
        record = json.loads(gzip.decompress(raw) if path.suffix == ".gz" else raw)
    except OSError as error:
        raise DataError(f"cannot be read ({error.strerror or 'not gzip'})", file=str(path)) from error
    except (EOFError, ValueError, zlib.error) as error:
        raise DataError("is not JSON", file=str(path), remedy="a failed download is often a web page") from error
    if not isinstance(record, dict) or not isinstance(record.get("task"), str):
        raise DataError('has no "task"', file=str(path), remedy='use {"task": ..., "golds": [...]}')
    golds = record.get("golds")
    if not isinstance(golds, list):
        raise DataError('has no list "golds"', file=str(path), remedy='use {"task": ..., "golds": [...]}')
    outputs: dict[str, str] = {}
    for index, gold in enumerate(golds):
        query, output = _entry(gold, str(path), f"golds[{index}]")
        if query in outputs:
            raise DataError(f"the id {query} comes twice", file=str(path), record=f"golds[{index}]")
        outputs[query] = output
    return LampFile(record["task"], outputs)


def write_lamp(path: str | Path, task: Task, outputs: Mapping[str, str], *, model: str | None = None) -> None:
    """Write a gold or prediction file the LaMP evaluator reads; an existing file is replaced as a whole.

    Args:
        path: Where; gzipped when it ends in ``.gz``.
        task: Its LaMP id is written, or its name when it has none.
        outputs: Texts by query id.
        model: Name of the method, in prediction files.
    """
    path = Path(path)
    record: dict[str, Any] = {
        "task": task.lamp_id or task.name,
        "golds": [{"id": query, "output": output} for query, output in outputs.items()],
    }
    if model is not None:
        record["model"] = model
    raw = json.dumps(record, ensure_ascii=False, indent=1).encode()
    write_atomically(path, gzip.compress(raw, mtime=0) if path.suffix == ".gz" else raw)


def score_lamp_files(predictions: str | Path, golds: str | Path, *, task: Task | None = None) -> Scores:
    """Score a prediction file against a gold file.

    Args:
        predictions: The prediction file.
        golds: The gold file.
        task: The task, for tasks of one's own; None takes the gold file's. The ids "LaMP_2" and "LaMP_8", which
            published files carry for news categories and film tags alike, are resolved by the gold labels.

    Raises:
        DataError: A file is unusable or names an unknown task, or the two disagree on task or ids.
    """
    wanted, found = read_lamp(golds), read_lamp(predictions)
    if task is None:
        task = _task_of(wanted, str(golds))
    names = {task.name, task.lamp_id, wanted.task}
    if task.lamp_id in ("LaMP_2N", "LaMP_2M"):
        names.update(_AMBIGUOUS)
    if found.task not in names:
        raise DataError(
            f"the task is {found.task!r}, but the golds are of {wanted.task!r}",
            file=str(predictions),
            remedy="take the two files of one task",
        )
    return score(task, found.outputs, wanted.outputs)


def _task_of(golds: LampFile, file: str) -> Task:
    for task in LAMP_TASKS:
        if golds.task in (task.lamp_id, task.name):
            return task
    if golds.task not in _AMBIGUOUS:
        known = ", ".join(str(task.lamp_id) for task in LAMP_TASKS)
        raise DataError(f"the task {golds.task!r} is none of {known}", file=file, remedy="name the task yourself")
    given = {output.strip() for output in golds.outputs.values()}
    for task in LAMP_TASKS:
        if task.kind == "label" and given <= set(task.labels):
            return task
    raise DataError(
        f"{golds.task!r} can be LaMP_2N or LaMP_2M, but the labels are of neither", file=file, remedy="name the task"
    )


def _entry(gold: object, file: str, record: str) -> tuple[str, str]:
    if not isinstance(gold, dict):
        raise DataError("is no object", file=file, record=record, remedy='use {"id": ..., "output": ...}')
    for key in ("id", "output"):
        if not isinstance(gold.get(key), str):
            raise DataError(f'"{key}" is missing or no text', file=file, record=record, remedy="put it in quotes")
    return gold["id"], gold["output"]
