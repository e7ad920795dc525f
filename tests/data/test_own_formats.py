"""JSON Lines and Parquet of one's own, and that all formats carry the same data."""

from __future__ import annotations

import datetime
import gzip
import json
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from perfit.data import Dataset, HistoryItem, Query, User, read_dataset, write_jsonl, write_oppu, write_parquet
from perfit.errors import DataError, MissingExtraError


def own(name: str = "u1", **changes: Any) -> dict[str, Any]:
    """A valid record."""
    return {"user": name, "history": [{"text": "x", "category": "travel"}], "queries": [{"input": "x"}]} | changes


def write_lines(path: Path, *records: dict[str, Any]) -> Path:
    path.write_text("".join(json.dumps(record) + "\n" for record in records))
    return path


def test_missing_ids_are_made_from_positions(tmp_path: Path) -> None:
    record = own("a", history=[{"text": "x"}, {"id": "mine", "text": "y"}], queries=[{"input": "q"}, {"input": "r"}])
    user = read_dataset(write_lines(tmp_path / "u.jsonl", record)).users[0]
    assert [item.id for item in user.history] == ["0", "mine"]
    assert [query.id for query in user.queries] == ["a/q0", "a/q1"]


def test_made_ids_that_collide_with_given_ones_are_reported(tmp_path: Path) -> None:
    record = own("a", history=[{"id": "1", "text": "x"}, {"text": "y"}])
    with pytest.raises(DataError, match=r"line 1\.history\[1\]: the item id was used before, at history\[0\]"):
        read_dataset(write_lines(tmp_path / "u.jsonl", record))


def test_split_and_optional_queries(tmp_path: Path) -> None:
    path = write_lines(
        tmp_path / "u.jsonl", own("a", split="other"), {"user": "b", "history": []}, own("c", split="test")
    )
    data = read_dataset(path)
    assert [u.id for u in data.users] == ["b", "c"]
    assert [u.id for u in data.others] == ["a"]
    assert data.users[0].queries == ()


def test_fields_that_are_no_text_do_not_matter(tmp_path: Path) -> None:
    record = own("a", history=[{"text": "x", "helpful": [0, 1], "verified": True, "stars": 4.0, "note": None}])
    item = read_dataset(write_lines(tmp_path / "u.jsonl", record)).users[0].history[0]
    assert item.fields == {"text": "x", "stars": "4"}
    assert item.unread == (("helpful", "a list"), ("verified", "true/false"))


@pytest.mark.parametrize("name", ["u.json", "U.JSONL", "u.NDJSON", "U.Jsonl.GZ"])
def test_json_lines_under_other_endings(tmp_path: Path, name: str) -> None:
    path = tmp_path / name
    content = "\ufeff" + "".join("\n" + json.dumps(own(user)) for user in "ab")
    path.write_bytes(gzip.compress(content.encode()) if name.endswith("GZ") else content.encode())
    assert [user.id for user in read_dataset(path).users] == ["a", "b"]


def test_packed_lines(tmp_path: Path) -> None:
    path = tmp_path / "u.jsonl.gz"
    path.write_bytes(gzip.compress(json.dumps(own()).encode()))
    assert read_dataset(path).users[0].id == "u1"


def test_others_from_a_second_file(tmp_path: Path) -> None:
    users = write_lines(tmp_path / "u.jsonl", own("a"))
    others = write_lines(tmp_path / "o.jsonl", own("b"), own("c", split="other"))
    data = read_dataset(users, others=others)
    assert [u.id for u in data.others] == ["b", "c"], "whatever its split, a user of this file is a stage-1 user"
    assert data.notes == ("stage-1 users from o.jsonl",)
    twice = write_lines(tmp_path / "t.jsonl", own("b", queries=[]), own("b", queries=[], split="other"))
    with pytest.raises(DataError, match="comes twice"):
        read_dataset(users, others=twice)


def test_parquet_from_other_programs(tmp_path: Path) -> None:
    arrow = pytest.importorskip("pyarrow")
    from pyarrow import parquet

    day, hour = datetime.date(2020, 3, 1), datetime.datetime(2020, 3, 1, 12, 30)
    rows = [
        {"user": "a", "history": [{"id": 1, "text": "x", "score": 4.0, "date": day}], "queries": None},
        {"user": "b", "history": [], "queries": [{"input": "q", "date": hour}]},
    ]
    parquet.write_table(arrow.Table.from_pylist(rows), tmp_path / "u.parquet")
    a, b = read_dataset(tmp_path / "u.parquet").users
    assert a.history == (HistoryItem("1", {"text": "x", "score": "4"}, "2020-03-01"),)
    assert b.queries == (Query("b/q0", "q", None, "2020-03-01T12:30:00"),)


def test_faulty_parquet(tmp_path: Path) -> None:
    arrow = pytest.importorskip("pyarrow")
    from pyarrow import parquet

    path = tmp_path / "u.parquet"
    path.write_bytes(b"PAR1 Zanzibar")
    with pytest.raises(DataError, match=r"u\.parquet: not a readable Parquet file \(\w+\); write or fetch it again$"):
        read_dataset(path)
    parquet.write_table(
        arrow.table(
            {"user": ["a", "b"], "history": [[], None]},
            arrow.schema(
                [("user", arrow.string()), ("history", arrow.list_(arrow.struct([("text", arrow.string())])))]
            ),
        ),
        path,
    )
    with pytest.raises(DataError, match="row 1: the field 'history' is missing"):
        read_dataset(path)
    bad = arrow.array([b"ok", b"\xff\xfe"]).cast(arrow.binary()).view(arrow.string())
    parquet.write_table(arrow.table({"user": bad}), path)
    with pytest.raises(DataError, match="not UTF-8 at its byte 0"):
        read_dataset(path)
    parquet.write_table(arrow.table({"user": arrow.array([], arrow.string())}), path)
    with pytest.raises(DataError, match="there are no users"):
        read_dataset(path)


def test_parquet_without_pyarrow_names_the_extra(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "u.parquet").write_bytes(b"")
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    with pytest.raises(MissingExtraError, match=r"perfit\[parquet\]"):
        read_dataset(tmp_path / "u.parquet")
    with pytest.raises(MissingExtraError, match=r"perfit\[parquet\]"):
        write_parquet(Dataset(()), tmp_path / "v.parquet")


def test_importing_the_package_brings_neither_torch_nor_pyarrow() -> None:
    import subprocess

    code = "import sys, perfit.data; print({'torch', 'pyarrow', 'numpy'} & set(sys.modules))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "set()"


@pytest.mark.parametrize("write", [write_oppu, write_jsonl, write_parquet])
@pytest.mark.parametrize("fields", [{}, {"id": "x"}, {"date": "x", "text": "y"}])
def test_fields_that_no_format_can_hold_are_refused(
    tmp_path: Path, write: Callable[..., None], fields: dict[str, str]
) -> None:
    with pytest.raises(
        DataError, match=r"\[0\]\.history\[0\]: an item needs fields, none of them named 'id' or 'date'"
    ):
        write(Dataset((User("a", (HistoryItem("1", fields),)),)), tmp_path / "out.parquet")
    assert list(tmp_path.iterdir()) == [], "nothing half-written stays"


texts = st.text(st.characters(exclude_categories=["Cs"]), max_size=20)
ids = texts.filter(bool)
names = ids.filter(lambda name: name not in ("id", "date") and "\0" not in name)
items = st.builds(HistoryItem, ids, st.dictionaries(names, texts, min_size=1, max_size=3), st.none() | texts)
queries = st.builds(Query, ids, texts, st.none() | texts, st.none() | texts)


@st.composite
def groups(draw: st.DrawFn, least: int) -> tuple[User, ...]:
    """Users with ids unique as the readers demand it."""
    user_ids = draw(st.lists(ids, unique=True, min_size=least, max_size=3))
    all_queries = draw(st.lists(queries, unique_by=lambda query: query.id, max_size=4))
    cuts = sorted(draw(st.integers(0, len(all_queries))) for _ in user_ids)
    starts = [0, *cuts][: len(cuts)]
    return tuple(
        User(name, tuple(draw(st.lists(items, unique_by=lambda item: item.id, max_size=3))), tuple(all_queries[a:b]))
        for name, a, b in zip(user_ids, starts, cuts, strict=True)
    )


@settings(max_examples=60, deadline=None)
@given(groups(1), groups(0))
def test_all_formats_carry_the_same_data(users: tuple[User, ...], others: tuple[User, ...]) -> None:
    data = Dataset(users, others)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        write_jsonl(data, folder / "u.jsonl")
        write_parquet(data, folder / "u.parquet")
        write_oppu(data, folder / "oppu")
        read = [read_dataset(folder / file) for file in ("u.jsonl", "u.parquet", "oppu")]
    assert [again.fingerprint() for again in read] == [data.fingerprint()] * 3
    assert [(again.users, again.others) for again in read] == [(users, others)] * 3


@settings(max_examples=200, deadline=None)
@given(
    st.recursive(
        st.none() | st.booleans() | st.integers() | st.floats() | texts,
        lambda part: (
            st.lists(part, max_size=3)
            | st.dictionaries(
                st.sampled_from(["user", "history", "queries", "id", "input", "text"]) | texts, part, max_size=4
            )
        ),
        max_leaves=12,
    )
)
def test_any_json_is_read_or_refused_in_one_line(value: object) -> None:
    with tempfile.TemporaryDirectory() as name:
        path = Path(name) / "u.jsonl"
        path.write_text(json.dumps(value))
        message = "read"
        try:
            read_dataset(path)
        except DataError as error:
            message = str(error)
        assert len(message.splitlines()) == 1
