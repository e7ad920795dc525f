"""Scoring and writing the LaMP evaluator's files: ``{"task": "LaMP_2N", "golds": [{"id": ..., "output": ...}]}``."""

from __future__ import annotations

import gzip
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from perfit.data.golds import golds_text, read_golds
from perfit.data.opening import is_gzip
from perfit.durable.files import write_atomically
from perfit.errors import DataError
from perfit.evaluation.score import Scores, score
from perfit.shown import shown
from perfit.tasks import LAMP_TASKS, Task
from perfit.tasks.expected import Expected

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
    task, outputs = read_golds(Path(path))
    if task is None:
        raise DataError("the field 'task' is missing", file=str(path), remedy='write "task": "LaMP_2N" or the like')
    return LampFile(task, outputs)


def write_lamp(path: str | Path, task: Task, outputs: Mapping[str, str], *, model: str | None = None) -> None:
    """Write a gold or prediction file the LaMP evaluator reads, with a checksum; an existing file is replaced as a whole.

    Args:
        path: Where; gzipped when it ends in ``.gz``.
        task: Its LaMP id is written, or its name when it has none.
        outputs: Texts by query id; of an expected rating the median is written, for the evaluator reads one number.
        model: Name of the method, in prediction files.
    """
    path = Path(path)
    record: dict[str, Any] = {
        "task": task.lamp_id or task.name,
        "golds": [{"id": query, "output": _number(output)} for query, output in outputs.items()],
    }
    if model is not None:
        record["model"] = model
    raw = golds_text(record)
    write_atomically(path, gzip.compress(raw, mtime=0) if is_gzip(path) else raw)


def _number(output: str) -> str:
    expected = Expected.read(output)
    return output if expected is None else f"{expected.median:g}"


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
            f"the task is {shown(repr(found.task))}, but the golds are of {shown(repr(wanted.task))}",
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
        raise DataError(
            f"the task {shown(repr(golds.task))} is none of {known}", file=file, remedy="name the task yourself"
        )
    given = {output.strip() for output in golds.outputs.values()}
    for task in LAMP_TASKS:
        if task.kind == "label" and given <= set(task.labels):
            return task
    raise DataError(
        f"{golds.task!r} can be LaMP_2N or LaMP_2M, but the labels are of neither", file=file, remedy="name the task"
    )
