"""Histories are oldest first where their dates tell, and what cannot be told is counted."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from perfit.data import Dataset, audit, read_dataset
from perfit.data.jsonl import split_users
from perfit.data.records import Place
from perfit.data.timeline import in_order_of_time
from perfit.errors import ConfigError


def user(name: str, *dates: Any, split: str = "test", query: Any = None) -> dict[str, Any]:
    history = [{"id": f"i{n}", "text": "Zanzibar"} | ({} if d is None else {"date": d}) for n, d in enumerate(dates)]
    return {"user": name, "history": history, "split": split, "queries": [{"input": "x", "date": query}]}


def dataset(*records: dict[str, Any]) -> Dataset:
    users, others = split_users([(Place("f", str(number)), record) for number, record in enumerate(records)])
    return Dataset(users, others)


def ids(data: Dataset) -> list[str]:
    return [" ".join(item.id for item in u.history) for u in (*data.users, *data.others)]


def test_newest_first_is_sorted_and_said() -> None:
    given = dataset(
        user("a", "2020-01-20", "2020-01-19", "2020-01-18"),
        user("b", "2020-01-18", "2020-01-19", "2020-01-18T01:00:00"),
        user("c", "2020-01-18", "2020-01-19"),
        user("d", "Thu Mar 01 12:30:00 +0000 2018", 1519908000000, "2018/02/01", split="other"),
    )
    data = in_order_of_time(given)
    assert ids(data) == ["i2 i1 i0", "i0 i2 i1", "i0 i1", "i2 i0 i1"]
    assert data.notes == ("3 histories were not in order of time and were sorted by date, oldest first",)
    assert in_order_of_time(data).notes == data.notes, "sorted, they are sorted"


def test_items_that_may_be_in_order_stay() -> None:
    data = in_order_of_time(
        dataset(user("a", "2020-05", "2020", "2020-05-03"), user("b", "2020-05", "2020", "2020-01"))
    )
    assert ids(data) == ["i0 i1 i2", "i1 i2 i0"]


def test_dates_that_cannot_be_read_are_counted() -> None:
    data = in_order_of_time(
        dataset(
            user("a", "2020-01-20", "2020-01-19", None),
            user("b", "2020-01-20", "06/15/2019", query="long ago"),
            user("c", None, None),
            user("d", "never", split="other"),
        )
    )
    assert ids(data) == ["i0 i1 i2", "i0 i1", "i0 i1", "i0"]
    partly, unread = data.notes
    assert partly.startswith("2 histories keep the order of the file")
    assert unread.startswith("3 of 6 dates cannot be read (the first at users[1].history[1]) and count as missing")
    report = audit(data, answer_field=None, text_fields=["text"], free_text=False)
    assert "the dates of 1 queries and 1 items cannot be read" in report.notes[-1]


def test_us_dates_only_when_stated(tmp_path: Path) -> None:
    path = tmp_path / "u.jsonl"
    path.write_text(json.dumps(user("a", "06/15/2019", "02/03/2019", query="3/1/2020")))
    assert [item.date for item in read_dataset(path).users[0].history] == ["06/15/2019", "02/03/2019"]
    assert "3 of 3 dates cannot be read" in read_dataset(path).notes[0]
    data = read_dataset(path, dates="us")
    assert [item.date for item in data.users[0].history] == ["2019-02-03", "2019-06-15"]
    assert data.users[0].queries[0].date == "2020-03-01"
    assert data.notes == ("1 histories were not in order of time and were sorted by date, oldest first",)
    with pytest.raises(ConfigError, match="dates='eu' is unknown; take one of iso, us"):
        read_dataset(path, dates="eu")  # type: ignore[arg-type]


def test_a_converted_history_is_sorted_by_the_dates_stated(tmp_path: Path) -> None:
    profile = [{"id": str(n), "text": "x", "date": date} for n, date in enumerate(["06/15/2019", "02/03/2019"])]
    questions = [{"id": str(n), "input": "q", "profile": profile, "user_id": str(n)} for n in range(2)]
    (tmp_path / "dev_questions.json").write_text(json.dumps(questions))
    golds = [{"id": str(n), "output": "x"} for n in range(2)]
    (tmp_path / "dev_outputs.json").write_text(json.dumps({"task": "LaMP_5", "golds": golds}))
    assert ids(read_dataset(tmp_path)) == ["0 1"] * 2
    assert "4 of 4 dates cannot be read" in read_dataset(tmp_path).notes[-1]
    assert ids(read_dataset(tmp_path, dates="us")) == ["1 0"] * 2
