"""LaMP's answer files: ``{"task": "LaMP_2N", "golds": [{"id": ..., "output": ...}]}``, golds and predictions alike."""

from __future__ import annotations

from pathlib import Path

from perfit.data.jsonio import read_json
from perfit.data.records import Place, as_object, needed_text, optional_text
from perfit.errors import DataError

_FORM = 'the form is {"task": ..., "golds": [{"id": ..., "output": ...}]}'


def read_golds(file: Path) -> tuple[str | None, dict[str, str]]:
    """Reads an answer file, plain or gzip, as (task, answers by query id).

    Raises:
        DataError: When a part is missing or not text, or an id comes twice.
    """
    top = Place(str(file), "top level")
    raw = as_object(read_json(file), top)
    entries, task = raw.get("golds"), optional_text(raw, "task", top)
    if not isinstance(entries, list):
        raise DataError("the list 'golds' is missing", file=str(file), remedy=f"is this a gold file? {_FORM}")
    golds: dict[str, str] = {}
    for index, entry in enumerate(entries):
        place = Place(str(file), f"golds[{index}]")
        record = as_object(entry, place)
        query_id = needed_text(record, "id", place)
        if query_id in golds:
            raise place.error("the query id was used before", "keep one answer for each query")
        golds[query_id] = needed_text(record, "output", place, may_be_empty=True)
    return task, golds
