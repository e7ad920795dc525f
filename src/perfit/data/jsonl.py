"""JSON Lines of one's own: one user a line.

``{"user": ..., "history": [{"id"?, "date"?, <fields>}], "queries": [{"id"?, "input", "gold"?, "date"?}], "split"?}``
where ``split`` is "test" (a user to personalise for, the default) or "other" (a user of the stage-1 pool).
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterable
from pathlib import Path

from perfit.data.jsonio import read_json_lines, write_text_atomically
from perfit.data.oppu import user_records
from perfit.data.records import OWN, Place, UserList, as_object, optional_text, parse_user
from perfit.data.schema import Dataset, User
from perfit.errors import DataError

OWN_NAMES = (OWN.user, OWN.history, OWN.queries)


def read_jsonl(path: Path) -> Dataset:
    """Reads a ``.jsonl`` or ``.jsonl.gz`` file.

    Raises:
        DataError: For every fault of a line, and for a file without users.
    """
    rows = ((Place(str(path), f"line {number}"), raw) for number, raw in read_json_lines(path))
    users, others = split_users(rows)
    if not users and not others:
        raise DataError("there are no users in the file", file=str(path), remedy="write one user per line")
    return Dataset(users, others, source=str(path))


def split_users(rows: Iterable[tuple[Place, object]]) -> tuple[tuple[User, ...], tuple[User, ...]]:
    """Parses rows in this layout into (test users, stage-1 users).

    Raises:
        DataError: For every fault of a row.
    """
    groups = {"test": UserList(), "other": UserList()}
    for place, raw in rows:
        split = optional_text(as_object(raw, place), "split", place) or "test"
        if split not in groups:
            raise place.error("the field 'split' has an unknown value", 'write "test" or "other"')
        groups[split].add(parse_user(raw, OWN, place), place)
    return tuple(groups["test"].users), tuple(groups["other"].users)


def own_records(dataset: Dataset) -> list[dict[str, object]]:
    """A dataset's users as records of this layout, test users first.

    Raises:
        DataError: When a field of an item is named "id" or "date", or an item has no field.
    """
    return [
        record | {"split": split}
        for split, users in (("test", dataset.users), ("other", dataset.others))
        for record in user_records(users, names=OWN_NAMES)
    ]


def write_jsonl(dataset: Dataset, path: str | os.PathLike[str]) -> None:
    """Writes a dataset as JSON Lines, replacing the file in one step.

    Raises:
        DataError: When a field of an item is named "id" or "date", or an item has no field.
    """
    lines = (json.dumps(record, ensure_ascii=False) + "\n" for record in own_records(dataset))
    write_text_atomically(Path(path), "".join(lines))
