"""Parquet of other programs: what is no text is not decoded, and no small file takes much memory."""

from __future__ import annotations

import datetime
import decimal
import os
from pathlib import Path
from typing import Any

import pytest

from perfit.data import HistoryItem, User, read_dataset
from perfit.data.parquet_pages import PageFaultError, unpacked_bytes
from perfit.errors import DataError

arrow = pytest.importorskip("pyarrow")
parquet = pytest.importorskip("pyarrow.parquet")
TEXT = arrow.string()


def write(path: Path, kind: Any, value: Any, *, name: str = "extra", **columns: Any) -> Path:
    """One user with one item, which has a text and one more field."""
    item = arrow.struct([("text", TEXT), (name, kind)])
    history = arrow.array([[{"text": "x", name: value}]], arrow.list_(item))
    parquet.write_table(arrow.table({"user": ["u"], "history": history, **columns}), path)
    return path


def fault(path: Path) -> str:
    with pytest.raises(DataError, match=r"u\.parquet") as caught:
        read_dataset(path)
    assert len(str(caught.value).splitlines()) == 1
    assert "Zanzibar" not in str(caught.value)
    return str(caught.value)


@pytest.mark.parametrize(
    ("kind", "value", "said"),
    [
        (arrow.list_(arrow.int64()), [1, 2], "a list"),
        (arrow.list_(arrow.struct([("deep", TEXT)])), [{"deep": "Zanzibar"}], "a list"),
        (arrow.bool_(), True, "true/false"),
        (arrow.binary(), b"Zanzibar", "binary"),
        (arrow.struct([("a", TEXT), ("b", TEXT)]), {"a": "Zanzibar"}, "an object"),
        (arrow.map_(TEXT, TEXT), [("Zanzibar", "x")], "an object"),
        (arrow.float64(), float("nan"), "no number (NaN or infinite)"),
        (arrow.time64("us"), datetime.time(12), "of the type time64[us]"),
    ],
)
def test_fields_that_are_no_text_do_not_matter(tmp_path: Path, kind: Any, value: Any, said: str) -> None:
    item = read_dataset(write(tmp_path / "u.parquet", kind, value)).users[0].history[0]
    assert item == HistoryItem("0", {"text": "x"})
    assert item.unread == (("extra", said),)
    if "number" not in said:
        path = write(tmp_path / "u.parquet", kind, value, name="id")
        assert f"row 0.history[0]: the field 'id' is {said}, not text" in fault(path)


@pytest.mark.parametrize(
    ("kind", "value", "text"),
    [
        (arrow.decimal128(4, 2), decimal.Decimal("4.50"), "4.5"),
        (arrow.decimal128(4, 2), decimal.Decimal("20.00"), "20"),
        (arrow.float32(), 4.3, "4.3"),
        (arrow.float16(), 4.5, "4.5"),
        (arrow.large_string(), "Ω", "Ω"),
        (arrow.dictionary(arrow.int8(), TEXT), "work", "work"),
        (arrow.timestamp("ns", "Europe/Berlin"), datetime.datetime(2020, 3, 1, 12, 30), "2020-03-01T12:30:00+00:00"),
        (arrow.date32(), datetime.date(2020, 3, 1), "2020-03-01"),
    ],
)
@pytest.mark.parametrize("name", ["extra", "a.b"])
def test_values_become_text(tmp_path: Path, kind: Any, value: Any, text: str, name: str) -> None:
    item = read_dataset(write(tmp_path / "u.parquet", kind, value, name=name)).users[0].history[0]
    assert item.fields == {"text": "x", name: text}


def test_nulls_and_lists_of_several_users(tmp_path: Path) -> None:
    kind = arrow.list_(arrow.struct([("text", TEXT), ("tag", TEXT), ("ok", arrow.bool_())]))
    rows = [[{"text": "a", "tag": "t"}, {"text": "b"}], [], [{"text": "a", "tag": "u", "ok": True}]]
    parquet.write_table(arrow.table({"user": [1, 2, 3], "history": arrow.array(rows, kind)}), tmp_path / "u.parquet")
    assert read_dataset(tmp_path / "u.parquet").users == (
        User("1", (HistoryItem("0", {"text": "a", "tag": "t"}), HistoryItem("1", {"text": "b"}))),
        User("2"),
        User("3", (HistoryItem("0", {"text": "a", "tag": "u"}),)),
    )


def test_the_row_numbers_of_pandas_are_passed_over_and_other_columns_are_typing_slips(tmp_path: Path) -> None:
    path = write(tmp_path / "u.parquet", TEXT, "y", __index_level_0__=[7])
    assert len(read_dataset(path).users) == 1
    path = write(path, TEXT, "y", querys=arrow.array([[True]]))
    assert "row 0: the field 'querys' is unknown" in fault(path)


def test_columns_that_cannot_serve(tmp_path: Path) -> None:
    path = tmp_path / "u.parquet"
    parquet.write_table(arrow.table({"user": [True], "history": arrow.array([[{"text": "x"}]])}), path)
    assert "row 0: the field 'user' is true/false, not text" in fault(path)
    parquet.write_table(arrow.table({"user": ["a"], "history": arrow.array([[{"text": b"Zanzibar"}]])}), path)
    assert "the column 'history' has no field of text or numbers" in fault(path)
    parquet.write_table(arrow.table({"user": ["a"], "history": arrow.array([["Zanzibar"]])}), path)
    assert "row 0.history[0]: expected an object, found text" in fault(path)
    parquet.write_table(arrow.table([["a"], ["b"]], names=["user", "user"]), path)
    assert "the column 'user' is there twice" in fault(path)
    os.remove(path)
    os.mkfifo(path)
    assert "this is a pipe" in fault(path)


def test_a_text_that_a_few_bytes_repeat(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("perfit.data.opening.MIN_UNPACKED", 1_000_000)
    path = tmp_path / "u.parquet"
    for times, bomb in ((9, False), (2000, True)):
        history = arrow.array([[{"text": "x" * 100_000}] * times])
        parquet.write_table(arrow.table({"user": ["u"], "history": history}), path, compression="zstd")
        if bomb:
            assert "decodes to more than 1000000 bytes, the limit for its size" in fault(path)
        else:
            assert len(read_dataset(path).users[0].history) == times


def test_values_that_a_few_bytes_repeat_are_refused_before_they_are_decoded(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "u.parquet"
    history = arrow.array([[{"text": "x"}] * 100_000])
    parquet.write_table(arrow.table({"user": ["u"], "history": history}), path)
    monkeypatch.setattr("perfit.data.opening.MIN_UNPACKED", 6_000_000)
    monkeypatch.setattr("perfit.data.parquet.to_python", None)
    assert "decodes to more than 6000000 bytes" in fault(path)


@pytest.mark.parametrize("version", ["1.0", "2.0"])
@pytest.mark.parametrize("compression", ["none", "zstd", "snappy"])
def test_pages_tell_their_own_sizes(tmp_path: Path, version: str, compression: str) -> None:
    path, texts = tmp_path / "u.parquet", [f"{number} {'é' * number}" for number in range(600)]
    parquet.write_table(
        arrow.table({"text": texts}), path, data_page_version=version, compression=compression, data_page_size=5000
    )
    with parquet.ParquetFile(path) as file:
        chunk = file.metadata.row_group(0).column(0)
    with open(path, "rb") as stream:
        begin = chunk.dictionary_page_offset
        size = unpacked_bytes(stream, begin, chunk.total_compressed_size, 600)
        assert sum(len(text.encode()) for text in texts) <= size <= chunk.total_uncompressed_size
        with pytest.raises(PageFaultError):
            unpacked_bytes(stream, begin, chunk.total_compressed_size, 599)
        with pytest.raises(PageFaultError):
            unpacked_bytes(stream, 0, 40, 600)


def test_a_footer_that_states_fewer_values_than_the_pages_hold(tmp_path: Path) -> None:
    # pyarrow alone goes on for minutes with 20 million values here.
    path, count = tmp_path / "u.parquet", 30_000
    history = arrow.array([[{"text": "x"}] * count])
    parquet.write_table(arrow.table({"user": ["u"], "history": history}), path, write_statistics=False)
    content = path.read_bytes()
    footer = len(content) - 8 - int.from_bytes(content[-8:-4], "little")
    number = bytes([(2 * count & 127) | 128, (2 * count >> 7 & 127) | 128, 2 * count >> 14])
    assert number in content[footer:]
    path.write_bytes(content[:footer] + content[footer:].replace(number, bytes([0x82, 0x80, 0])))
    assert "its pages are not what its end states" in fault(path)
