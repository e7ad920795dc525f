"""The folder format of OPPU: stage-1 users, test users and a gold file, as JSON or gzip'd JSON."""

from __future__ import annotations

import json
import os
import shutil
import tempfile
from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path

from perfit.data.conversation import MESSAGE, MESSAGES, REPLY, messages_of
from perfit.data.golds import read_golds
from perfit.data.jsonio import read_json, write_text_atomically
from perfit.data.lamp_names import TASK_LAMP_IDS, task_from_lamp_id
from perfit.data.records import OPPU, Place, UserList, parse_user
from perfit.data.schema import Dataset, Turn, User
from perfit.errors import DataError

OTHERS = "user_others"
TEST_STEMS = ("user_top_100_history", "user_more_100_history")


def find_json(folder: Path, stem: str) -> Path | None:
    """``stem.json`` in the folder, or ``stem.json.gz`` when only that is there."""
    return next((path for suffix in (".json", ".json.gz") if (path := folder / (stem + suffix)).is_file()), None)


def read_oppu(path: Path) -> Dataset:
    """Reads an OPPU folder, or one file of test users with the gold file beside it.

    Answers stand in the queries (``gold``) or in the gold file ``<test file>_label.json``; both may be there when they
    agree.

    Args:
        path: The folder, or a file of test users (which brings no stage-1 users).

    Raises:
        DataError: For missing or doubtful files, and for every fault of a record.
    """
    test_file = _only_test_file(path) if path.is_dir() else path
    others = find_json(path, OTHERS) if path.is_dir() else None
    users = read_oppu_users(test_file)
    task = None
    label_file = find_json(test_file.parent, test_file.name.split(".json")[0] + "_label")
    notes: tuple[str, ...] = ()
    if label_file is not None:
        lamp_id, golds = read_golds(label_file)
        users, notes = _with_golds(users, golds, label_file)
        fields = frozenset(name for user in users[:1] for item in user.history[:1] for name in item.fields)
        task = task_from_lamp_id(lamp_id, fields) if lamp_id else None
    folder_name = test_file.absolute().parent.name
    return Dataset(
        users=users,
        others=read_oppu_users(others) if others is not None else (),
        task=folder_name if folder_name in TASK_LAMP_IDS else task,
        source=str(path),
        notes=notes,
    )


def read_oppu_users(file: Path) -> tuple[User, ...]:
    """Reads one list of users.

    Raises:
        DataError: When the file is no list, has no user, or holds a faulty record.
    """
    raw = read_json(file)
    if not isinstance(raw, list):
        raise DataError("expected a list of users", file=str(file), remedy="is this the right file?")
    if not raw:
        raise DataError("there are no users in the file", file=str(file), remedy="is this the right file?")
    if isinstance(raw[0], dict) and "input" in raw[0] and "query" not in raw[0]:
        raise DataError(
            "these are questions in LaMP's own format, not users",
            file=str(file),
            remedy="name the file *_questions.json beside its *_outputs.json",
        )
    found = UserList()
    for index, record in enumerate(raw):
        place = Place(str(file), f"[{index}]")
        found.add(parse_user(record, OPPU, place), place)
    return tuple(found.users)


def write_oppu(dataset: Dataset, folder: str | os.PathLike[str]) -> None:
    """Writes a dataset as an OPPU folder: complete, or not at all.

    Args:
        dataset: What to write. Answers go both into the queries and into the gold file.
        folder: A new or empty folder.

    Raises:
        DataError: When the folder has content, the dataset has no test users, or a field is named "id" or "date".
    """
    target = Path(folder)
    if target.exists() and (not target.is_dir() or any(target.iterdir())):
        raise DataError("already exists and is not an empty folder", file=str(target), remedy="choose a new folder")
    if not dataset.users:
        raise DataError("there are no test users to write", file=str(target), remedy="is the dataset complete?")
    golds = [{"id": q.id, "output": q.gold} for user in dataset.users for q in user.queries if q.gold is not None]
    label = {"task": TASK_LAMP_IDS.get(dataset.task or "", dataset.task), "golds": golds}
    target.parent.mkdir(parents=True, exist_ok=True)
    staged = Path(tempfile.mkdtemp(prefix=f".{target.name}.", dir=target.parent))
    try:
        staged.chmod(0o755)
        if dataset.others:
            _dump(user_records(dataset.others), staged / f"{OTHERS}.json")
        _dump(user_records(dataset.users), staged / f"{TEST_STEMS[0]}.json")
        _dump(label, staged / f"{TEST_STEMS[0]}_label.json")
        if target.exists():
            target.rmdir()
        staged.rename(target)
    except BaseException:
        shutil.rmtree(staged, ignore_errors=True)
        raise


def user_records(
    users: Iterable[User], *, names: tuple[str, str, str] = (OPPU.user, OPPU.history, OPPU.queries)
) -> list[dict[str, object]]:
    """Users as JSON-ready records.

    Args:
        users: What to write.
        names: The record's names for the user's id, the history and the queries.

    Raises:
        DataError: When a field of an item is named "id" or "date", or an item has no field.
    """
    records: list[dict[str, object]] = []
    for user in users:
        history = []
        for index, item in enumerate(user.history):
            if not item.fields or not {"id", "date"}.isdisjoint(item.fields):
                raise DataError(
                    "an item needs fields, none of them named 'id' or 'date'",
                    record=f"[{len(records)}].history[{index}]",
                    remedy="rename the field",
                )
            texts = dict(item.fields)
            if item.turns:
                last = Turn("user", texts.pop(MESSAGE)), Turn("assistant", texts.pop(REPLY))
                texts[MESSAGES] = messages_of(item.turns, *last)  # type: ignore[assignment]
            history.append({"id": item.id, **texts} | ({} if item.date is None else {"date": item.date}))
        queries = [
            {"id": query.id}
            | (
                {MESSAGES: messages_of(query.turns, Turn("user", query.input))}
                if query.turns
                else {"input": query.input}
            )
            | ({} if query.gold is None else {"gold": query.gold})
            | ({} if query.date is None else {"date": query.date})
            for query in user.queries
        ]
        records.append({names[0]: user.id, names[1]: history, names[2]: queries})
    return records


def _only_test_file(folder: Path) -> Path:
    found = [path for stem in TEST_STEMS if (path := find_json(folder, stem)) is not None]
    if len(found) != 1:
        names = " or ".join(f"{stem}.json[.gz]" for stem in TEST_STEMS)
        message = f"needs {names}, found {'neither' if not found else 'both'}"
        raise DataError(message, file=str(folder), remedy="add it, or pass the file itself")
    return found[0]


def _with_golds(users: tuple[User, ...], golds: dict[str, str], file: Path) -> tuple[tuple[User, ...], tuple[str, ...]]:
    matched = 0
    result = []
    for place, user in enumerate(users):
        queries = []
        for index, query in enumerate(user.queries):
            gold = golds.get(query.id)
            matched += gold is not None
            if None not in (gold, query.gold) and gold != query.gold:
                raise DataError(
                    "the answer in the query and the one in the gold file differ",
                    file=str(file),
                    record=f"query at [{place}].query[{index}]",
                    remedy="is it the gold file of these users?",
                )
            queries.append(query if query.gold is not None else replace(query, gold=gold))
        result.append(replace(user, queries=tuple(queries)))
    if golds and not matched:
        raise DataError(
            "none of its answers belongs to a query", file=str(file), remedy="is it the gold file of these users?"
        )
    unused = len(golds) - matched
    return tuple(result), ((f"{file.name}: {unused} answers belong to no query and are left out",) if unused else ())


def _dump(value: object, path: Path) -> None:
    write_text_atomically(path, json.dumps(value, ensure_ascii=False))
