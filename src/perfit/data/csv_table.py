"""Users as a table, one row an item or a query: CSV, also with semicolons or tabs.

``user`` is a must. A row with an ``input`` is a query (``gold`` is its answer, ``id`` and ``date`` as everywhere); any
other row is a history item, whose texts are all columns besides ``user``, ``id``, ``date``, ``split``, ``input`` and
``gold``. An empty cell is an absent value. ``split`` may stand in any of a user's rows. A user's rows need not stand
together; their order is the history's.
"""

from __future__ import annotations

import csv
import io
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from perfit.data.jsonio import read_bytes
from perfit.data.records import MAX_ITEM_BYTES, OWN, Place, UserList, optional_text, parse_item, parse_query
from perfit.data.saying import shown_name
from perfit.data.schema import Dataset, HistoryItem, Query, User
from perfit.errors import DataError

_OF_QUERIES = ("input", "gold")
ROW_NUMBERS = ("", "Unnamed: 0", "__index_level_0__")
"""Names that programs give to a column of row numbers."""


@dataclass
class _Gathered:
    """A user's rows so far."""

    user: str
    place: Place
    history: list[HistoryItem] = field(default_factory=list)
    queries: list[Query] = field(default_factory=list)
    split: str | None = None
    items: dict[str, str] = field(default_factory=dict)


def read_csv(path: Path) -> Dataset:
    """Reads a ``.csv`` or ``.tsv`` file, plain or gzip.

    Raises:
        DataError: For a file that is not UTF-8, a row with more or fewer cells than the first line has names, and every
            fault of a record.
    """
    users, others = users_of_rows(_rows(path))
    if not users and not others:
        raise DataError("there are no users in the file", file=str(path), remedy="write a row for every item")
    return Dataset(users, others, source=str(path))


def users_of_rows(rows: Iterable[tuple[Place, Mapping[str, object]]]) -> tuple[tuple[User, ...], tuple[User, ...]]:
    """Gathers rows of this layout into (test users, stage-1 users); an empty cell is an absent value.

    Raises:
        DataError: For every fault of a record.
    """
    people: dict[str, _Gathered] = {}
    for place, cells in rows:
        row = {name: cell for name, cell in cells.items() if cell != "" and name not in ROW_NUMBERS}
        user_id = optional_text(row, "user", place)
        if user_id is None:
            raise place.error("the field 'user' is missing", "name the user in every row")
        del row["user"]
        _add(people.setdefault(user_id, _Gathered(user_id, place)), row, place)
    groups = {"test": UserList(), "other": UserList()}
    for user_id, found in people.items():
        user = User(user_id, tuple(found.history), tuple(found.queries))
        groups[found.split or "test"].add(user, found.place)
    return tuple(groups["test"].users), tuple(groups["other"].users)


def _add(found: _Gathered, row: dict[str, object], place: Place) -> None:
    split = optional_text(row, "split", place)
    row.pop("split", None)
    if split not in (None, "test", "other"):
        raise place.error("the field 'split' has an unknown value", 'write "test" or "other"')
    if split is not None and found.split not in (None, split):
        raise place.error("the field 'split' differs from that of an earlier row of this user", "keep one of the two")
    found.split = split or found.split
    if not row.keys().isdisjoint(_OF_QUERIES):
        others = [name for name in row if name not in (*_OF_QUERIES, "id", "date")]
        if others:
            raise place.error(
                f"the row has 'input' or 'gold', and also the field {shown_name(others[0])}",
                "a row is a query (input, gold) or a past item (other columns); write two rows",
            )
        found.queries.append(parse_query(row, place, OWN, default_id=f"{found.user}/q{len(found.queries)}"))
        return
    item = parse_item(row, place, default_id=str(len(found.history)))
    first = found.items.setdefault(item.id, place.record)
    if first != place.record:
        raise place.error(f"the item id was used before, at {first}", "give every item of a user an id of its own")
    found.history.append(item)


def _rows(path: Path) -> Iterator[tuple[Place, dict[str, str]]]:
    """(place, cells by name) of every row after the first."""
    # The library's limit of 131,072 characters a cell is one for all of the process; it is only raised.
    csv.field_size_limit(max(csv.field_size_limit(), MAX_ITEM_BYTES))
    text = _text(path)
    names, separator = _header(text, path)
    reader = csv.reader(io.StringIO(text, newline=""), delimiter=separator, strict=True)
    line = 0
    try:
        for number, row in enumerate(reader):
            place, line = Place(str(path), f"line {line + 1}"), reader.line_num
            if number == 0 or not any(cell.strip() for cell in row):
                continue
            if len(row) != len(names):
                raise place.error(
                    f"the row has {len(row)} cells, the first line names {len(names)}",
                    f"put texts that hold {_shown(separator)} or line ends in double quotes",
                )
            cells = {}
            for index, (name, cell) in enumerate(zip(names, row, strict=True)):
                if not name and cell and index > 0:
                    raise place.error(
                        f"cell {index + 1} stands in a column without a name", "name it in the first line"
                    )
                cells[name] = cell
            yield place, cells
    except csv.Error:
        raise DataError(
            "not valid CSV",
            file=str(path),
            record=f"line {line + 1} or after",
            remedy="a quote is not closed or stands inside an unquoted text; double it",
        ) from None


def _text(path: Path) -> str:
    content = read_bytes(path)
    if content.lstrip()[:1] == b"<":
        raise DataError("this is a web page (HTML), not CSV", file=str(path), remedy="fetch the file again")
    try:
        return content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise DataError(
            f"not UTF-8 at byte {error.start}", file=str(path), remedy="save the file as CSV UTF-8"
        ) from None


def _header(text: str, path: Path) -> tuple[list[str], str]:
    """The first line's names and the separator with which they hold "user"."""
    place = Place(str(path), "line 1")
    if not text.strip():
        raise DataError("the file is empty", file=str(path), remedy="write a first line with names, then a row an item")
    for separator in (",", ";", "\t"):
        try:
            names = [
                name.strip()
                for name in next(csv.reader(io.StringIO(text, newline=""), delimiter=separator, strict=True))
            ]
        except csv.Error:
            continue
        if "user" in names:
            break
    else:
        raise place.error("no column is named 'user'", "begin with a line of names, such as: user,text,label")
    for index, name in enumerate(names):
        if name in names[:index] and name not in ROW_NUMBERS:
            raise place.error(f"the column {shown_name(name)} is named twice", "give every column a name of its own")
    return names, separator


def _shown(separator: str) -> str:
    return "tabs" if separator == "\t" else repr(separator)
