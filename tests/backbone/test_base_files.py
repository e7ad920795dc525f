"""The digest of a base's files: every byte counts, they are read once, and read anew where that is asked."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest
from small_base import write_base

from perfit.backbone import file_hashes
from perfit.backbone.base_files import deciding_files, files_digest
from perfit.backbone.file_hashes import remembered_hash
from perfit.backbone.load import load_base


@pytest.fixture
def base(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A base, and a cache of its own; its files are older than a clock's grain."""
    monkeypatch.setenv("PERFIT_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(file_hashes, "_SETTLED", -1.0)
    return write_base(tmp_path / "base")


@pytest.fixture
def read(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Names of the files that were hashed."""
    names: list[str] = []
    real = file_hashes.sha256_of
    monkeypatch.setattr(file_hashes, "sha256_of", lambda path: (names.append(path.name), real(path))[1])
    return names


def test_every_file_that_decides_counts_and_no_other(base: Path) -> None:
    names = {path.name for path in deciding_files(base)}
    assert names >= {"config.json", "model.safetensors", "tokenizer.json", "tokenizer_config.json"}
    seen = {files_digest(base)}
    for path in deciding_files(base):
        content = path.read_bytes()
        path.write_bytes(content[:-1] + bytes([content[-1] ^ 1]))
        seen.add(files_digest(base))
        path.write_bytes(content)
    assert len(seen) == len(names) + 1
    (base / "README.md").write_text("about")
    (base / "vocab.json").write_text("{}")  # tokenizer.json is what is read
    assert files_digest(base) in seen


def test_files_are_read_once_until_they_change(base: Path, read: list[str]) -> None:
    first = files_digest(base)
    assert len(read) == len(deciding_files(base))
    read.clear()
    assert files_digest(base) == first
    assert read == []
    content = (base / "config.json").read_bytes()
    (base / "config.json").write_bytes(content.replace(b"1e-06", b"2e-06"))
    assert files_digest(base) != first
    assert read == ["config.json"]
    read.clear()
    files_digest(base, anew=True)
    assert len(read) == len(deciding_files(base))


@pytest.mark.parametrize("kept", ["size", "size and time"])
def test_another_file_of_the_same_size_is_read(kept: str, base: Path, read: list[str]) -> None:
    path = base / "model.safetensors"
    first = remembered_hash(path)
    status, content = path.stat(), path.read_bytes()
    path.write_bytes(content[:-1] + bytes([content[-1] ^ 1]))
    if kept == "size and time":
        os.utime(path, ns=(status.st_atime_ns, status.st_mtime_ns))
    assert remembered_hash(path) != first


def test_a_file_that_was_just_written_is_not_remembered(
    base: Path, read: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(file_hashes, "_SETTLED", 1e9)
    remembered_hash(base / "config.json")
    remembered_hash(base / "config.json")
    assert len(read) == 2


@pytest.mark.parametrize("content", [b"", b"[1]", b'{"files": {}, "sha256": "0"}'])
def test_a_damaged_memory_is_read_over(content: bytes, base: Path, tmp_path: Path) -> None:
    first = files_digest(base)
    (tmp_path / "cache" / "file-hashes.json").write_bytes(content)
    assert files_digest(base) == first


def test_the_identity_is_the_same_in_any_precision_and_verified_where_asked(base: Path, read: list[str]) -> None:
    one, two = load_base(base, dtype="fp32").identity, load_base(base, dtype="bf16").identity
    assert one == two
    read.clear()
    assert load_base(base).identity == one
    assert read == []
    assert load_base(base, verify=True).identity == one
    assert len(read) == len(deciding_files(base))


def test_memory_that_cannot_be_written_costs_time_only(base: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*arguments: Any) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(file_hashes, "write_record", full)
    assert files_digest(base) == files_digest(base)
