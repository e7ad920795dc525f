"""LaMP's answer files: ``{"task": "LaMP_2N", "golds": [{"id": ..., "output": ...}]}``, golds and predictions alike."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path

from perfit.data.jsonio import read_json
from perfit.data.records import Place, as_object, needed_text, optional_text
from perfit.durable.records import SEAL, NotAsWrittenError, opened, sealed
from perfit.errors import DamagedError, DataError

_FORM = 'the form is {"task": ..., "golds": [{"id": ..., "output": ...}]}'


def read_golds(file: Path) -> tuple[str | None, dict[str, str]]:
    """Reads an answer file, plain or gzip, as (task, answers by query id).

    Raises:
        DataError: When a part is missing or not text, or an id comes twice.
        DamagedError: Its checksum differs; only perfit's own files have one.
    """
    top = Place(str(file), "top level")
    raw = as_object(read_json(file), top)
    if SEAL in raw:
        _check_seal(raw, file)
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


def golds_text(record: Mapping[str, object]) -> bytes:
    """The content of such a file of ours: with its checksum, a key that the evaluator does not read."""
    return json.dumps(sealed(record), ensure_ascii=False, indent=1).encode()


def _check_seal(raw: Mapping[str, object], file: Path) -> None:
    try:
        opened(raw)
    except NotAsWrittenError as error:
        raise DamagedError(
            f"{file}: {error}; make it again, or remove its {SEAL!r} if you changed it yourself"
        ) from None
