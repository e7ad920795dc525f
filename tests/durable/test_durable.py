"""No byte of a record, a file of records, a ledger or checked tensors changes unnoticed; a torn end is dropped."""

from __future__ import annotations

import json
import os
import random
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from perfit.durable.ledger import Ledger
from perfit.durable.records import (
    NotAsWrittenError,
    opened,
    parse,
    read_object,
    read_record,
    read_records,
    sealed,
    write_record,
    write_records,
)
from perfit.durable.tensors import pack, read_tensors, unpack, write_tensors
from perfit.errors import DamagedError, StoreError

SECRET = "my private thoughts"
CONTENT: dict[str, Any] = {
    "text": f"{SECRET} ü\u2028",
    "number": 0.1,
    "list": [1, True, None],
    "inner": {"a": 1, "b": 2},
}
ROWS: list[dict[str, Any]] = [{"user": f"u{n}", "text": f"{SECRET}\u2028 {n}", "loss": [1 / (n + 1)]} for n in range(4)]
WORDS = {"missing": "not there", "mend": "restore it"}


def flips(content: bytes) -> list[bytes]:
    """The content with one bit changed, at every place."""
    chance = random.Random(0)
    changed = []
    for place in range(len(content)):
        other = bytearray(content)
        other[place] ^= 1 << chance.randrange(8)
        changed.append(bytes(other))
    return changed


def silent(path: Path, read: Callable[[], Any], wanted: Any) -> list[int]:
    """Places whose change gives something else than an error or the same."""
    whole = path.read_bytes()
    found, said = [], ""
    for place, content in enumerate(flips(whole)):
        path.write_bytes(content)
        try:
            value = read()
        except StoreError as error:
            said += f"{error}\n"
            found += [place] if len(str(error).splitlines()) != 1 else []
            continue
        if value != wanted:
            found.append(place)
    path.write_bytes(whole)
    assert SECRET not in said
    return found


def test_no_change_of_a_record_is_silent(tmp_path: Path) -> None:
    path = tmp_path / "record.json"
    write_record(path, CONTENT)
    assert read_record(path, **WORDS) == CONTENT
    assert silent(path, lambda: read_record(path, **WORDS), CONTENT) == []


def test_no_change_of_records_is_silent(tmp_path: Path) -> None:
    path = tmp_path / "records.jsonl"
    write_records(path, ROWS)
    assert read_records(path, **WORDS) == ROWS
    assert silent(path, lambda: read_records(path, **WORDS), ROWS) == []
    lines = path.read_bytes().splitlines(keepends=True)
    for damaged in (lines[1:], [lines[0], *lines[2:]], [lines[1], lines[0], *lines[2:]], [lines[0], *lines]):
        path.write_bytes(b"".join(damaged))
        with pytest.raises(StoreError, match="checksum"):
            read_records(path, **WORDS)
    path.write_bytes(b"")
    with pytest.raises(StoreError, match="line 1"):
        read_records(path, **WORDS)


def test_no_change_of_tensors_is_silent(tmp_path: Path) -> None:
    path = tmp_path / "x.safetensors"
    tensors = {"a": torch.arange(6.0).reshape(2, 3), "b": torch.ones(2, dtype=torch.bfloat16), "none": torch.zeros(0)}
    write_tensors(path, tensors, {"steps": 3})

    def read() -> Any:
        found = read_tensors(path, mend="delete it")
        assert found is not None
        return {name: (t.dtype, t.tolist()) for name, t in found.tensors.items()}, found.notes

    wanted = {name: (t.dtype, t.tolist()) for name, t in tensors.items()}, {"steps": 3}
    assert read() == wanted
    assert silent(path, read, wanted) == []
    assert read_tensors(tmp_path / "absent", mend="") is None


@pytest.mark.parametrize("content", [b"", b"x" * 20, pack({}, {})[:-1], (1 << 62).to_bytes(8, "little") + b"{}"])
def test_what_is_no_checked_file_is_refused(content: bytes) -> None:
    from safetensors.torch import save

    for bad in (content, save({"a": torch.zeros(1)}), save({"a": torch.zeros(1)}, {"notes": "[]", "sha256": ""})):
        with pytest.raises(NotAsWrittenError):
            unpack(bad)


def test_a_ledger_drops_its_torn_end_and_goes_on(tmp_path: Path) -> None:
    path, whole = tmp_path / "ledger.jsonl", tmp_path / "whole.jsonl"
    Ledger(whole, mend="x").append(ROWS)
    for cut in range(len(whole.read_bytes())):
        path.write_bytes(whole.read_bytes()[:cut])
        ledger = Ledger(path, mend="x")
        kept = len(ledger.records)
        assert ledger.records == ROWS[:kept]
        assert kept == (whole.read_bytes()[:cut] + b"\n").count(b"}\n")
        ledger.append(ROWS[kept:])
        assert path.read_bytes().rstrip(b"\n") == whole.read_bytes().rstrip(b"\n")


def test_no_change_of_a_ledger_is_silent(tmp_path: Path) -> None:
    path = tmp_path / "ledger.jsonl"
    for row in ROWS:
        Ledger(path, mend="x").append([row])
    assert Ledger(path, mend="x").records == ROWS
    assert silent(path, lambda: Ledger(path, mend="x").records, ROWS) == []


@pytest.mark.parametrize("end", [b"", b"\x0b", b" ", b"J", b"\x8a"])
def test_a_last_line_whose_end_alone_is_gone_is_whole_and_followed(tmp_path: Path, end: bytes) -> None:
    path, whole = tmp_path / "ledger.jsonl", tmp_path / "whole.jsonl"
    Ledger(whole, mend="x").append(ROWS)
    Ledger(path, mend="x").append(ROWS[:3])
    path.write_bytes(path.read_bytes()[:-1] + end)
    ledger = Ledger(path, mend="x")
    assert ledger.records == ROWS[:3]
    ledger.append(ROWS[3:])
    assert path.read_bytes() == whole.read_bytes()
    assert Ledger(path, mend="x").records == ROWS


def test_a_ledger_is_on_the_disk_when_append_returns(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    synced: list[int] = []
    real = os.fsync
    monkeypatch.setattr(os, "fsync", lambda handle: (synced.append(handle), real(handle))[1])
    Ledger(tmp_path / "ledger.jsonl", mend="x").append(ROWS)
    assert len(synced) == 1


def test_deep_large_and_odd_files_are_one_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "x.json"
    for content in (b"[" * 100_000, b'{"a":' * 70 + b"1" + b"}" * 70, b"[1]", b"\xff", b"1" * 5000, b'{"a": NaN'):
        path.write_bytes(content)
        with pytest.raises(StoreError, match="restore it") as caught:
            read_object(path, **WORDS)
        assert len(str(caught.value).splitlines()) == 1
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(StoreError, match="no regular file"):
        read_object(tmp_path / "pipe", **WORDS)
    with pytest.raises(StoreError, match="not there"):
        read_object(tmp_path / "absent", **WORDS)
    with pytest.raises(StoreError, match="restore it"):
        read_object(tmp_path, **WORDS)
    monkeypatch.setattr("perfit.durable.records.read_bounded.__defaults__", (10,))
    path.write_text(json.dumps({"a": "long enough"}))
    with pytest.raises(StoreError, match="more than the 10"):
        read_object(path, **WORDS)
    assert parse(b"[" * 60 + b"]" * 60)


def test_records_belong_to_what_they_were_written_for(tmp_path: Path) -> None:
    path = tmp_path / "records.jsonl"
    write_records(path, ROWS, "of one")
    assert read_records(path, **WORDS, of="of one") == ROWS
    for other in ("of another", ""):
        with pytest.raises(DamagedError, match="line 1 is not as it was written"):
            read_records(path, **WORDS, of=other)


def test_a_record_of_another_format_is_no_damage(tmp_path: Path) -> None:
    path = tmp_path / "record.json"
    write_record(path, {"format": 2, "a": 1})
    assert read_record(path, **WORDS, version=2) == {"format": 2, "a": 1}
    with pytest.raises(
        StoreError, match="2 of an earlier perfit is not 3; use the perfit that wrote it, or make"
    ) as caught:
        read_record(path, **WORDS, version=3, again="make it again")
    assert not isinstance(caught.value, DamagedError)
    for text, name in (
        ('{"format": 1, "a": 1}', "1 of an earlier"),
        ("{}", "none of an earlier"),
        ('{"format": 3}', "3 of an"),
    ):
        path.write_text(text)
        with pytest.raises(StoreError, match=f"format {name}(other)? perfit is not 2; .* or make it again") as caught:
            read_record(path, **WORDS, version=2, again="make it again")
    assert not isinstance(caught.value, DamagedError)
    path.write_text('{"format": 2, "a": 1}')
    with pytest.raises(DamagedError, match="no checksum"):
        read_record(path, **WORDS, version=2)
    write_record(path, {"format": 2, "a": 1})
    path.write_text(path.read_text().replace('"format": 2', '"format": 3'))
    with pytest.raises(DamagedError, match="checksum differs"):
        read_record(path, **WORDS, version=2)


def test_the_order_of_keys_is_bound_too() -> None:
    record = sealed({"a": 1, "b": 2})
    assert opened(record) == {"a": 1, "b": 2}
    with pytest.raises(NotAsWrittenError):
        opened({"b": 2, "a": 1, "sha256": record["sha256"]})
    with pytest.raises(NotAsWrittenError, match="no checksum"):
        opened({"a": 1})
