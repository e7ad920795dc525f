"""Users from dicts, DataFrames and ``datasets.Dataset``: what the readers of files would have read, and their refusals."""

from __future__ import annotations

import json
from collections.abc import Iterator
from datetime import UTC, date, datetime
from decimal import Decimal
from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from small_base import dataset

from perfit.data import read_dataset, write_jsonl
from perfit.data.in_memory import is_frame, read_frame, read_records
from perfit.data.jsonl import own_records
from perfit.errors import ConfigError, DataError
from perfit.inputs import checked_dataset

SECRET = "a secret text"
DATA = dataset(("anna", "ben"))
RECORDS = own_records(DATA)
TABLE: dict[str, list[Any]] = {
    "user": ["ann", "ann", "bob", "ann"],
    "date": ["2020-01-05", "2020-01-02", None, "2020-02-01"],
    "text": ["budget, second draft", "pack the boots", "a nap", None],
    "label": ["work", "travel", "home", None],
    "input": [None, None, None, "book a hotel"],
    "gold": [None, None, None, "travel"],
}


class Column(list):  # type: ignore[type-arg]
    def tolist(self) -> list[Any]:
        return list(self)


class Frame:
    """As much of a DataFrame as is used, so that no test needs pandas."""

    iloc = to_dict = None

    def __init__(self, columns: dict[Any, list[Any]], names: list[Any] | None = None):
        self.data, self.columns = columns, names if names is not None else list(columns)

    def __getitem__(self, name: Any) -> Column:
        return Column(self.data[name])


class Rows:
    """As much of a ``datasets.Dataset``."""

    features = None

    def __init__(self, columns: dict[str, list[Any]]):
        self.column_names, self.data = list(columns), columns

    def __iter__(self) -> Iterator[dict[str, Any]]:
        for row in zip(*self.data.values(), strict=True):
            yield dict(zip(self.column_names, row, strict=True))


def of_pandas(columns: dict[str, list[Any]]) -> Any:
    return import_module("pandas").DataFrame(columns)


def of_datasets(columns: dict[str, list[Any]]) -> Any:
    return import_module("datasets").Dataset.from_dict(columns)


tables = pytest.mark.parametrize("table", [Frame, Rows, of_pandas, of_datasets])


def columns_of(records: list[dict[str, Any]]) -> dict[str, list[Any]]:
    return {name: [record.get(name) for record in records] for name in records[0]}


def test_records_are_what_the_file_of_them_is(tmp_path: Path) -> None:
    write_jsonl(DATA, tmp_path / "data.jsonl")
    read = checked_dataset(RECORDS)
    assert read.fingerprint() == read_dataset(tmp_path / "data.jsonl").fingerprint() == DATA.fingerprint()
    assert (len(read.users), len(read.others)) == (2, 3)
    assert checked_dataset(record for record in RECORDS).fingerprint() == DATA.fingerprint()
    assert checked_dataset([]).users == ()


@tables
def test_a_row_a_user_is_what_the_file_is(table: Any) -> None:
    made = table({"__index_level_0__": list(range(len(RECORDS))), **columns_of(RECORDS)})
    assert is_frame(made)
    assert checked_dataset(made).fingerprint() == DATA.fingerprint()


@tables
def test_a_row_an_item_is_what_the_csv_is(table: Any, tmp_path: Path) -> None:
    lines = [",".join(TABLE)]
    lines += [",".join(f'"{cell or ""}"' for cell in row) for row in zip(*TABLE.values(), strict=True)]
    (tmp_path / "data.csv").write_text("\n".join(lines))
    read = checked_dataset(table(TABLE))
    assert read.fingerprint() == read_dataset(tmp_path / "data.csv").fingerprint()
    assert [item.fields["text"] for item in read.users[0].history] == ["pack the boots", "budget, second draft"]
    assert "1 histories were not in order of time" in read.notes[0]


def test_values_of_numpy_and_pandas_are_what_they_say() -> None:
    item = {
        "text": np.str_("a note"),
        "rating": np.float64(4.0),
        "score": np.float64(4.3),
        "part": np.float32(0.5),
        "count": np.int64(7),
        "price": Decimal("1E+2"),
        "cents": Decimal("0.10"),
        "flag": np.bool_(True),
        "stars": torch.tensor(5),
        "tags": np.array(["x", "y"]),
        "date": datetime(2020, 1, 2, tzinfo=UTC),
    }
    later = {"text": "b", "date": np.datetime64("2020-02-01T00:00:00.000000000")}
    first = {"text": "c", "date": date(2019, 12, 31)}
    record = {"user": np.int64(17), "history": np.array([item, later, first], dtype=object), "queries": ()}
    (user,) = read_records([record]).users
    assert user.id == "17"
    assert [entry.fields["text"] for entry in user.history] == ["c", "a note", "b"]
    assert [entry.date for entry in user.history] == ["2019-12-31", "2020-01-02T00:00:00+00:00", "2020-02-01T00:00:00"]
    fields = dict(user.history[1].fields)
    assert fields == {
        "text": "a note",
        "rating": "4",
        "score": "4.3",
        "part": "0.5",
        "count": "7",
        "price": "100",
        "cents": "0.1",
        "stars": "5",
    }
    assert all(type(text) is str for text in fields.values())
    assert dict(user.history[1].unread) == {"flag": "true/false", "tags": "a list"}


@pytest.mark.parametrize("zone", [None, "Europe/Vienna"])
def test_dates_of_a_real_frame_are_dates(zone: str | None) -> None:
    pandas: Any = import_module("pandas")
    dates = pandas.Series(pandas.to_datetime(["2020-02-01", None, "2020-01-02"])).dt.tz_localize(zone)
    frame = pandas.DataFrame({"user": pandas.Categorical(["u", "u", "u"]), "text": ["b", "x", "a"], "date": dates})
    frame["stars"] = pandas.array([1, None, 3], dtype="Int64")
    (user,) = read_frame(frame).users
    assert [(item.date or "")[:10] for item in user.history] == ["2020-02-01", "", "2020-01-02"]
    assert [item.fields.get("stars") for item in user.history] == ["1", None, "3"]
    (user,) = read_records([{"user": "u", "history": [{"text": "a", "when": frame["date"]}]}]).users
    assert dict(user.history[0].unread) == {"when": "a list"}


@pytest.mark.parametrize("absent", [None, float("nan"), type("NAType", (), {})(), type("NaTType", (), {})(), ""])
def test_an_absent_cell_is_an_absent_value(absent: Any) -> None:
    columns = {"Unnamed: 0": [0, 1], "user": [1.0, 1.0], "text": ["a", "b"], "label": ["x", absent]}
    (user,) = read_frame(Frame(columns)).users
    assert user.id == "1"
    assert [dict(item.fields) for item in user.history] == [{"text": "a", "label": "x"}, {"text": "b"}]


def test_a_value_without_end_is_cut_off() -> None:
    endless: list[Any] = []
    endless.append(endless)
    (user,) = read_records([{"user": "u", "history": [{"text": "a", "more": endless}]}]).users
    assert dict(user.history[0].unread) == {"more": "a list"}


@pytest.mark.parametrize(
    ("records", "said"),
    [
        (
            [{"id": "u", "history": []}],
            "dataset, [0]: the field 'id' is unknown; known here: history, queries, split, user",
        ),
        ([{"history": []}], "dataset, [0]: the field 'user' is missing"),
        ([{"user": "u"}], "dataset, [0]: the field 'history' is missing"),
        ([{"user": "u", "history": SECRET}], "dataset, [0]: the field 'history' is text, not a list"),
        ([{"user": "u", "history": [SECRET]}], "dataset, [0].history[0]: expected an object, found text"),
        (
            [{"user": "u", "history": [{"text": {SECRET}}]}],
            "dataset, [0].history[0]: the item has no text field; it has a set",
        ),
        ([{"user": [SECRET], "history": []}], "dataset, [0]: the field 'user' is a list, not text"),
        ([{"user": "u", "history": [{7: SECRET}]}], "dataset, [0]: the name of a field is no text"),
        ([{"user": "u", "history": [], SECRET: 1}], "dataset, [0]: the field with an unusual name is unknown"),
        ([{"user": "u", "history": []}] * 2, "dataset, [1]: the user id was used before, at [0]"),
        (
            [{"user": "u", "history": [], "queries": [{"gold": SECRET}]}],
            "dataset, [0].queries[0]: the field 'input' is",
        ),
        ([{"user": "u", "history": [], "split": SECRET}], "dataset, [0]: the field 'split' has an unknown value"),
        (
            [{"user": "u", "history": [{"text": "x", "n": 10**5000}]}],
            "dataset, [0].history[0]: the field 'n' is a number",
        ),
        (
            [{"user": "u", "history": [{"text": "\ud800" + SECRET}]}],
            "dataset, [0].history[0]: the field 'text' has half",
        ),
    ],
)
def test_what_is_wrong_in_a_record_is_one_line_without_its_text(records: list[Any], said: str) -> None:
    with pytest.raises(DataError) as refused:
        checked_dataset(records)
    assert str(refused.value).startswith(said), str(refused.value)
    assert "\n" not in str(refused.value)
    assert SECRET not in str(refused.value)


@pytest.mark.parametrize(
    ("frame", "said"),
    [
        (
            Frame({"text": [SECRET]}),
            "dataset: no column is named 'user'; give columns user, history, queries (a row a user)",
        ),
        (Frame({"user": ["u"]}, ["user", "user"]), "dataset: the column 'user' is named twice"),
        (Frame({"user": ["u"], 0: ["a"]}), "dataset: column 1 has no text as its name"),
        (Frame({"user": [], "text": []}), "dataset: there are no users in the table"),
        (Frame({"user": [None], "text": [SECRET]}), "dataset, row 0: the field 'user' is missing"),
        (Frame({"user": ["u"], "text": [None]}), "dataset, row 0: the item has no text field"),
        (
            Frame({"user": ["u"], "text": [SECRET], "input": [SECRET]}),
            "dataset, row 0: the row has 'input' or 'gold', and",
        ),
        (Frame({"user": ["u"], "history": [SECRET]}), "dataset, row 0: the field 'history' is text, not a list"),
        (
            Frame({"user": ["u"], "text": ["a"], "split": [SECRET]}),
            "dataset, row 0: the field 'split' has an unknown value",
        ),
        (Frame({"user": ["u"], "text": ["a"], "split": [7]}), "dataset, row 0: the field 'split' has an unknown value"),
    ],
)
def test_what_is_wrong_in_a_table_is_one_line_without_its_text(frame: Frame, said: str) -> None:
    with pytest.raises(DataError) as refused:
        checked_dataset(frame)
    assert str(refused.value).startswith(said), str(refused.value)
    assert "\n" not in str(refused.value)
    assert SECRET not in str(refused.value)


def test_what_is_neither_one_form_nor_the_other_is_refused() -> None:
    with pytest.raises(
        ConfigError, match=r"dataset: holds several splits; give one of them, such as dataset\['train'\]"
    ):
        checked_dataset({"train": Rows({"user": ["u"]})})  # type: ignore[arg-type]
    with pytest.raises(ConfigError, match=r"dataset\[1\]: an object of type User is no user beside records"):
        checked_dataset([RECORDS[0], DATA.users[0]])  # type: ignore[list-item]
    with pytest.raises(ConfigError, match=r"dataset\[1\]: a dict is no user; give what"):
        checked_dataset([DATA.users[0], RECORDS[0]])  # type: ignore[list-item]


def test_records_survive_a_round_through_json() -> None:
    assert read_records(json.loads(json.dumps(RECORDS))).fingerprint() == DATA.fingerprint()
