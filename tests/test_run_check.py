"""``info --verify``: every byte of a run and of its base."""

from __future__ import annotations

import shutil
import sqlite3
from collections.abc import Callable
from pathlib import Path

import pytest

from perfit.backbone import file_hashes
from perfit.errors import DamagedError, PerfitError
from perfit.run import RunDirectory
from perfit.run_check import verify


@pytest.fixture
def copy(scored: Path, tmp_path: Path) -> Path:
    """The run and its base, which the manifest then names."""
    shutil.copytree(scored, tmp_path / "copy")
    run = RunDirectory(tmp_path / "copy" / "run")
    manifest = run.manifest()
    run._folder.write(manifest | {"base": manifest["base"] | {"name": str(tmp_path / "copy" / "base")}})
    return tmp_path / "copy"


def flip(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(bytes(content))


def flip_shift(path: Path) -> None:
    with sqlite3.connect(path) as database:
        (payload,) = database.execute("SELECT payload FROM users WHERE user_id = 'ben'").fetchone()
        changed = payload[:-1] + bytes([payload[-1] ^ 1])
        database.execute("UPDATE users SET payload = ? WHERE user_id = 'ben'", (changed,))


def test_what_is_whole_is_said(copy: Path) -> None:
    assert verify(RunDirectory(copy / "run")) == {
        "base": "every byte as in training",
        "manifest": "as written",
        "collective shift": "as written",
        "users' shifts": "3 as written",
        "training record": "3 users, complete",
        "scores": "of the predictions of 7 methods",
    }


@pytest.mark.parametrize(
    ("name", "change", "message"),
    [
        ("base/model.safetensors", flip, "its files are not those the run was trained on"),
        ("base/config.json", flip, "its files are not those the run was trained on"),
        ("base/tokenizer.json", flip, "its files are not those the run was trained on"),
        ("run/collective.safetensors", flip, "collective.safetensors: is damaged, or of another run"),
        ("run/personal.sqlite", flip_shift, "1 users' shifts are damaged"),
        ("run/training.jsonl", flip, "training.jsonl: line"),
        ("run/metrics.json", flip, "run perfit evaluate again"),
        ("run/predictions/personal.jsonl", flip, "run perfit evaluate again"),
    ],
)
def test_a_changed_byte_anywhere_is_one_line(
    name: str, change: Callable[[Path], None], message: str, copy: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # As decay of a disk: nothing that the file system tells of the file is another.
    monkeypatch.setattr(file_hashes, "_mark", lambda path: [1, 1, 1, 1])
    run = RunDirectory(copy / "run")
    verify(run)
    change(copy / name)
    with pytest.raises(PerfitError, match=message) as caught:
        verify(run)
    assert "\n" not in str(caught.value)


def test_a_collective_shift_is_read_before_there_are_users(copy: Path) -> None:
    for name in ("personal.sqlite", "training.jsonl", "metrics.json"):
        (copy / "run" / name).unlink()
    run = RunDirectory(copy / "run")
    assert verify(run) == {
        "base": "every byte as in training",
        "manifest": "as written",
        "collective shift": "as written",
        "training record": "0 users, not complete",
    }
    flip(copy / "run" / "collective.safetensors")
    with pytest.raises(DamagedError, match=r"collective\.safetensors: is damaged, or of another run"):
        verify(run)


def test_a_base_that_is_not_here_is_said_and_not_called_whole(copy: Path) -> None:
    shutil.rmtree(copy / "base")
    assert verify(RunDirectory(copy / "run"))["base"] == "not on this machine as files: not checked"
