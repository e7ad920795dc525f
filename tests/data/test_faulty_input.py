"""Every fault of a file is one line with file, record and remedy, and never a word of the user's text."""

from __future__ import annotations

import gzip
import json
import os
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from perfit.data import read_dataset
from perfit.errors import ConfigError, DataError

Write = Callable[..., Path]

SECRET = "Zanzibar quokka"
"""Stands in the texts of faulty records; no message may contain a part of it."""


def user(name: str = "u1", items: int = 2, **changes: Any) -> dict[str, Any]:
    """A valid OPPU record."""
    return {
        "user_id": name,
        "profile": [
            {
                "id": f"{name}-i{n}",
                "text": f"{SECRET} {name} {n}",
                "category": "travel",
                "date": "2020-01-0" + str(n + 1),
            }
            for n in range(items)
        ],
        "query": [{"id": f"{name}-q", "input": f"{SECRET} question {name}", "gold": "sports"}],
    } | changes


def own(name: str = "u1", **changes: Any) -> dict[str, Any]:
    """A valid record of one's own format."""
    return {"user": name, "history": [{"text": SECRET, "category": "travel"}], "queries": [{"input": SECRET}]} | changes


def fault(path: Path, **options: Any) -> str:
    """The message of the error that reading raises, checked for what all messages have in common."""
    with pytest.raises(DataError) as caught:
        read_dataset(path, **options)
    message = str(caught.value)
    assert "\n" not in message
    assert not any(word in message for word in SECRET.split())
    assert caught.value.file is not None
    assert caught.value.file in message
    assert caught.value.remedy
    assert caught.value.__cause__ is None, "a chained error would print the text in a traceback"
    return message


def without(record: dict[str, Any], name: str) -> dict[str, Any]:
    return {key: value for key, value in record.items() if key != name}


def item(**changes: Any) -> dict[str, Any]:
    return {"id": "i", "text": SECRET} | changes


RECORD_FAULTS: list[tuple[str, list[Any], str]] = [
    ("user is no object", [SECRET], r"\[0\]: expected an object, found text"),
    ("no user id", [without(user(), "user_id")], r"\[0\]: the field 'user_id' is missing"),
    ("empty user id", [user("")], r"'user_id' is empty"),
    ("user id is a list", [user([SECRET])], r"'user_id' is a list, not text"),  # type: ignore[arg-type]
    ("user id is a bool", [user(True)], r"'user_id' is true/false, not text"),  # type: ignore[arg-type]
    ("no history", [user("a"), without(user("b"), "profile")], r"\[1\]: the field 'profile' is missing"),
    ("history is null", [user(profile=None)], r"the field 'profile' is missing"),
    ("history is text", [user(profile=SECRET)], r"'profile' is text, not a list"),
    ("no queries", [without(user(), "query")], r"the field 'query' is missing"),
    ("item is text", [user(profile=[item(), SECRET])], r"\[0\]\.profile\[1\]: expected an object"),
    ("item without id", [user(profile=[without(item(), "id")])], r"profile\[0\]: the field 'id' is missing"),
    ("item without text", [user(profile=[{"id": "1", "date": "2020"}])], r"profile\[0\]: the item has no text field"),
    (
        "only a list",
        [user(profile=[{"id": "1", "tag": [SECRET]}])],
        r"profile\[0\]: the item has no text field; it has a list",
    ),
    ("field name is a text", [user(profile=[item(**{SECRET: "\ud83d"})])], r"the field with an unusual name has half"),
    (
        "half a surrogate in a name",
        [user(profile=[item(**{SECRET + "\ud83d": "x"})])],
        r"the field with an unusual name",
    ),
    ("half a surrogate", [user(profile=[item(text=SECRET + "\ud83d")])], r"surrogate pair at character 15"),
    ("query without input", [user(query=[{"id": "1"}])], r"query\[0\]: the field 'input' is missing"),
    ("gold is an object", [user(query=[{"id": "1", "input": "", "gold": {}}])], r"'gold' is an object"),
    ("user id twice", [user("a"), user("b"), user("a")], r"\[2\]: the user id was used before, at \[0\]"),
    ("item id twice", [user(profile=[item(), item()])], r"profile\[1\]: the item id was used before, at profile\[0\]"),
    (
        "query id twice",
        [user("a"), user("b", query=user("a")["query"])],
        r"\[1\]\.queries\[0\]: the query id was used before, at \[0\]\.queries\[0\]",
    ),
    ("no users", [], "there are no users"),
    ("raw LaMP questions", [{"id": "1", "input": SECRET, "profile": []}], "LaMP's own format"),
]


@pytest.mark.parametrize(("users", "expected"), [case[1:] for case in RECORD_FAULTS], ids=[c[0] for c in RECORD_FAULTS])
def test_faulty_records(oppu_folder: Write, users: list[Any], expected: str) -> None:
    message = fault(oppu_folder(users))
    assert re.search(expected, message), message


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        (b'[{"user_id": "Zanzibar"\n "profile": []}]', "line 2, column 2: not valid JSON"),
        (b'[{"user_id": "Zanzibar \xff\xfe"}]', "not UTF-8 at byte 23"),
        (b"<!DOCTYPE html><title>Zanzibar</title>", r"a web page (HTML)"),
        (b" \n", "the file is empty"),
        (b'{"Zanzibar": 1}', "expected a list of users"),
        (b'[{"user_id": NaN}]', "a number is NaN"),
        (b"[" + b"9" * 5000 + b"]", "far too long"),
        (b"[" * 200_000, "nested too deeply"),
        (
            b'[{"user_id": "a", "profile": [{"id": "1", "Zanzibar quokka": "x", "Zanzibar quokka": "y"}]}]',
            "named twice",
        ),
    ],
    # A generated id would put the content into the path of the file.
    ids=["broken", "latin-1", "html", "empty", "object", "nan", "long-number", "deep", "twice"],
)
def test_faulty_files(tmp_path: Path, content: bytes, expected: str) -> None:
    for name, data in (("user.json", content), ("user.json.gz", gzip.compress(content))):
        path = tmp_path / name
        path.write_bytes(data)
        assert expected in fault(path)


def test_damaged_gzip_files(tmp_path: Path) -> None:
    whole = gzip.compress(json.dumps([user()]).encode())
    for number, data in enumerate([whole[:-20], whole[:30] + b"\0" * 20 + whole[50:], b"[]"]):
        path = tmp_path / f"{number}.json.gz"
        path.write_bytes(data)
        assert "the gzip file is cut short or damaged" in fault(path)
    path = tmp_path / "users.jsonl.gz"
    path.write_bytes(gzip.compress(json.dumps(own()).encode())[:-9])
    assert "the gzip file is cut short or damaged" in fault(path)


def test_byte_order_mark_is_accepted(tmp_path: Path) -> None:
    path = tmp_path / "users.json"
    path.write_bytes(b"\xef\xbb\xbf" + json.dumps([user()]).encode())
    assert read_dataset(path).users[0].id == "u1"


def test_too_large_a_record(oppu_folder: Write, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("perfit.data.records.MAX_ITEM_BYTES", 100)
    assert len(read_dataset(oppu_folder([user(profile=[item(text="é" * 40)])], name="fits")).users) == 1
    big = fault(oppu_folder([user(profile=[item(text="é" * 50)])], name="item"))
    assert "profile[0]: the record has 101 bytes, the limit is 100" in big
    assert "query[0]: the record has 201 bytes" in fault(
        oppu_folder([user(profile=[], query=[{"id": "1", "input": "x" * 200}])], name="query")
    )


def test_the_limits_are_the_documented_ones() -> None:
    from perfit.data import jsonio, records

    assert records.MAX_ITEM_BYTES == 10 * 2**20
    assert jsonio.MAX_LINE_BYTES == 256 * 2**20


LINE_FAULTS: list[tuple[str, list[str], str]] = [
    ("broken JSON", [json.dumps(own("a")), '{"user": "Zanzibar",}'], "line 2, column 21: not valid JSON"),
    ("unknown user field", [json.dumps(own(querys=[]))], "line 1: the field 'querys' is unknown; known here: history"),
    ("unknown query field", [json.dumps(own(queries=[{"input": "", "answer": SECRET}]))], "'answer' is unknown"),
    ("unknown split", [json.dumps(own(split=SECRET))], "line 1: the field 'split' has an unknown value"),
    ("no history", [json.dumps({"user": "a"})], "line 1: the field 'history' is missing"),
    ("user twice", [json.dumps(own("a")), "", json.dumps(own("a"))], "line 3: the user id was used before, at line 1"),
    ("no users", ["", ""], "there are no users in the file"),
    ("no object", ["[1]"], "line 1: expected an object, found a list"),
    ("HTML", ["<html>Zanzibar</html>"], "line 1: this is a web page"),
]


@pytest.mark.parametrize(("lines", "expected"), [case[1:] for case in LINE_FAULTS], ids=[c[0] for c in LINE_FAULTS])
def test_faulty_lines(tmp_path: Path, lines: list[str], expected: str) -> None:
    path = tmp_path / "users.jsonl"
    path.write_text("\n".join(lines))
    assert expected in fault(path)


def test_byte_offset_in_json_lines_counts_from_the_start_of_the_file(tmp_path: Path) -> None:
    first = json.dumps(own("a")).encode() + b"\n"
    path = tmp_path / "users.jsonl"
    path.write_bytes(first + b'{"user": "\xff"}')
    assert f"line 2: not UTF-8 at byte {len(first) + 10}" in fault(path)


def test_too_long_a_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("perfit.data.jsonio.MAX_LINE_BYTES", 200)
    path = tmp_path / "users.jsonl"
    path.write_text(json.dumps(own("a")) + "\n" + json.dumps(own("b", history=[{"text": "x" * 300}])))
    assert "line 2: the line is longer than 200 bytes" in fault(path)


def test_a_field_named_twice_is_not_lost_in_silence(tmp_path: Path) -> None:
    path = tmp_path / "u.jsonl"
    path.write_text(json.dumps(own("a")) + '\n{"user": "b", "history": [{"text": "x"}], "history": []}')
    assert "line 2: the field 'history' is named twice in one record" in fault(path)


def test_what_is_no_file_is_refused_at_once(tmp_path: Path) -> None:
    path = tmp_path / "u.jsonl"
    os.mkfifo(path)
    assert "this is a pipe, not a file" in fault(path)
    with pytest.raises(DataError, match="this is a device, not a file"):
        read_dataset("/dev/zero", format="jsonl")


@pytest.mark.parametrize("name", ["u.json.gz", "u.jsonl.gz"])
def test_a_gzip_file_that_unpacks_to_far_more_than_it_is(
    tmp_path: Path, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("perfit.data.opening.MIN_UNPACKED", 100_000)
    path = tmp_path / name
    for size, bomb in ((60_000, False), (300_000, True)):
        record = (
            own("a", history=[{"text": "x" * size}]) if "jsonl" in name else [user(profile=[item(text="x" * size)])]
        )
        path.write_bytes(gzip.compress(json.dumps(record).encode()))
        if bomb:
            assert "unpacks to more than 100000 bytes" in fault(path)
        else:
            assert len(read_dataset(path).users[0].history[0].fields["text"]) == size
    monkeypatch.setattr("perfit.data.opening.MAX_TIMES", 10_000)
    assert len(read_dataset(path).users) == 1, "a larger file may unpack to more"


def test_a_file_larger_than_may_be_read_at_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("perfit.data.opening.MAX_FILE_BYTES", 100)
    path = tmp_path / "user.json"
    path.write_text(json.dumps([user()]))
    assert "the file has more than 100 bytes" in fault(path)


def test_paths_that_cannot_be_read(tmp_path: Path, oppu_folder: Write) -> None:
    assert "no such file or folder" in fault(tmp_path / "nothing.json")
    (tmp_path / "notes.txt").write_text(SECRET)
    assert "the format is not clear from the name" in fault(tmp_path / "notes.txt")
    assert "neither OPPU nor LaMP files" in fault(tmp_path)
    assert "a folder cannot be read as jsonl" in fault(tmp_path, format="jsonl")
    good = oppu_folder([user()])
    assert "no such file of stage-1 users" in fault(good, others=tmp_path / "nothing.json")
    with pytest.raises(ConfigError, match="format='xml' is unknown"):
        read_dataset(good, format="xml")  # type: ignore[arg-type]
