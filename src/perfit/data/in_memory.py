"""Users that a Python caller holds: records as dicts, a pandas DataFrame, a ``datasets.Dataset``.

Nothing is imported for it: a table is known by how it is used. Records are checked by the reader of JSON Lines, tables of
one row an item or a query by that of CSV; numbers, dates and arrays of numpy and pandas become what those readers know.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from datetime import date
from decimal import Decimal
from typing import Any, Protocol

from perfit.data.arrow_values import plain_decimal
from perfit.data.csv_table import ROW_NUMBERS, users_of_rows
from perfit.data.jsonl import split_users
from perfit.data.records import OWN, Place
from perfit.data.saying import shown_name
from perfit.data.schema import Dataset
from perfit.data.timeline import in_order_of_time
from perfit.errors import DataError

_DEEPEST = 5  # a user's history's item's messages, each a record: what lies deeper is no text of anybody
_EMPTY = ("NAType", "NaTType")


class Frame(Protocol):
    """A DataFrame of pandas, as far as it is known here."""

    @property
    def columns(self) -> Any:
        """The columns' names."""

    @property
    def iloc(self) -> Any:
        """Rows by number."""


def is_frame(given: object) -> bool:
    """Whether this is a DataFrame of pandas or a ``datasets.Dataset``, by what it has."""
    return _is_pandas(given) or (isinstance(getattr(given, "column_names", None), list) and hasattr(given, "features"))


def read_records(records: Iterable[object]) -> Dataset:
    """Users from records of the JSON Lines layout (``data.jsonl``), histories oldest first.

    Raises:
        DataError: For every fault that the reader of the file would find in one; it never says what a field holds.
    """
    rows = ((Place("dataset", f"[{number}]"), raw) for number, raw in enumerate(records))
    users, others = split_users((place, _plain(raw, place)) for place, raw in rows)
    return in_order_of_time(Dataset(users, others))


def read_frame(frame: Any) -> Dataset:
    """Users from a table: one row a user where it has a column "history", else one row an item or a query, as in CSV.

    Raises:
        DataError: There is no user in it, a column is missing or named twice, and for every fault of a row.
    """
    names = list(frame.columns) if _is_pandas(frame) else list(frame.column_names)
    _check_columns(names)
    names = [name for name in names if name not in ROW_NUMBERS]
    # An absent value of a table is None, NaN, NaT or NA.
    rows = ((place, {name: v for name, v in row.items() if not _is_missing(v)}) for place, row in _rows(frame, names))
    users, others = split_users(rows) if OWN.history in names else users_of_rows(rows)
    if not users and not others:
        raise DataError("there are no users in the table", file="dataset", remedy="give at least one row")
    return in_order_of_time(Dataset(users, others))


def _is_pandas(given: object) -> bool:
    return all(hasattr(given, name) for name in ("columns", "iloc", "to_dict"))


def _check_columns(names: list[Any]) -> None:
    for index, name in enumerate(names):
        if not isinstance(name, str):
            raise DataError(f"column {index} has no text as its name", file="dataset", remedy="name columns with texts")
        if name in names[:index]:
            raise DataError(
                f"the column {shown_name(name)} is named twice", file="dataset", remedy="give every column its own name"
            )
    if OWN.user not in names:
        raise DataError(
            "no column is named 'user'",
            file="dataset",
            remedy="give columns user, history, queries (a row a user), or user and the texts (a row an item)",
        )


def _rows(frame: Any, names: list[str]) -> Iterator[tuple[Place, dict[str, Any]]]:
    if _is_pandas(frame):
        rows: Iterable[Any] = zip(*(frame[name].tolist() for name in names), strict=True)
    else:
        rows = ([row[name] for name in names] for row in frame)
    for number, row in enumerate(rows):
        place = Place("dataset", f"row {number}")
        yield place, _plain(dict(zip(names, row, strict=True)), place)


def _is_missing(value: object) -> bool:
    return value is None or (isinstance(value, float) and value != value)


def _plain(value: Any, place: Place, depth: int = 0) -> Any:
    """A value as a JSON file would hold it; what no file could hold stays, for the reader to refuse by its kind."""
    if value is None or type(value).__name__ in _EMPTY:
        return None
    if isinstance(value, bool):
        return value
    # Of numpy or an enum, too, whose own kinds print otherwise.
    if isinstance(value, str):
        return str.__str__(value)
    if isinstance(value, int | float):
        return float(value) if isinstance(value, float) else int(value)
    if isinstance(value, date):  # a datetime is one, too
        return value.isoformat()
    if isinstance(value, Decimal):
        return plain_decimal(value) if value.is_finite() else float(value)
    if isinstance(value, Mapping | list | tuple) and depth == _DEEPEST:
        return {} if isinstance(value, Mapping) else []
    if isinstance(value, Mapping):
        for name in value:
            if not isinstance(name, str):
                raise place.error("the name of a field is no text", "name fields with texts")
        return {name: _plain(inner, place, depth + 1) for name, inner in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(inner, place, depth + 1) for inner in value]
    if hasattr(value, "dtype") and hasattr(value, "tolist"):  # an array or number of numpy, pandas or torch
        if type(value).__module__ == "numpy" and value.dtype.kind == "M":
            value = value.astype("datetime64[us]")  # nanoseconds would become a bare number
        return _plain(value.tolist(), place, depth)
    return value
