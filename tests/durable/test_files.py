"""Files appear whole or not at all, for their owner alone, and never at the end of a link."""

from __future__ import annotations

import errno
import os
import stat
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from perfit.durable.files import finished_name, sweep, write_atomically

LEFT = ".file.0123456789abcdef.part"


def names(folder: Path) -> list[str]:
    return sorted(entry.name for entry in folder.iterdir())


@pytest.fixture
def synced(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """What was brought to the disk so far: ``file`` or ``folder``."""
    calls: list[str] = []
    fsync = os.fsync

    def counting(handle: int) -> None:
        calls.append("folder" if stat.S_ISDIR(os.fstat(handle).st_mode) else "file")
        fsync(handle)

    monkeypatch.setattr("os.fsync", counting)
    return calls


def test_a_file_is_replaced_whole_or_not_at_all(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "file"
    write_atomically(path, b"old")

    def dies(number: int) -> None:
        raise OSError("the disk is full")

    with monkeypatch.context() as patch:
        patch.setattr("perfit.durable.files.os.fsync", dies)
        with pytest.raises(OSError, match="the disk is full"):
            write_atomically(path, b"new and longer")
    assert path.read_bytes() == b"old"
    assert names(tmp_path) == ["file"]
    write_atomically(path, b"new")
    assert path.read_bytes() == b"new"
    assert names(tmp_path) == ["file"]


@pytest.mark.parametrize("new", [False, True])
def test_content_and_name_are_on_the_disk_on_return(tmp_path: Path, synced: list[str], new: bool) -> None:
    write_atomically(tmp_path / "file", b"x", new=new)
    assert synced == ["file", "folder"]


@pytest.mark.skipif(os.name == "nt", reason="modes of Unix")
def test_only_the_owner_may_read_whatever_the_mask_and_the_mode_before(tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.write_bytes(b"old")
    path.chmod(0o644)
    mask = os.umask(0)
    try:
        write_atomically(path, b"new")
    finally:
        os.umask(mask)
    assert stat.S_IMODE(path.stat().st_mode) == 0o600


def test_links_are_replaced_not_written_through(tmp_path: Path) -> None:
    victim, path = tmp_path / "victim", tmp_path / "file"
    victim.write_bytes(b"precious")
    path.symlink_to(victim)
    (tmp_path / "file.part").symlink_to(victim)
    write_atomically(path, b"new")
    assert victim.read_bytes() == b"precious"
    assert not path.is_symlink()
    assert path.read_bytes() == b"new"


def test_a_guessed_name_is_not_written_through_either(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "victim").write_bytes(b"precious")
    (tmp_path / LEFT).symlink_to(tmp_path / "victim")
    monkeypatch.setattr("secrets.token_hex", lambda size: "0123456789abcdef")
    with pytest.raises(FileExistsError):
        write_atomically(tmp_path / "file", b"new")
    assert (tmp_path / "victim").read_bytes() == b"precious"


def test_names_cannot_be_guessed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[str] = []
    replace = os.replace
    monkeypatch.setattr("os.replace", lambda part, path: (seen.append(Path(part).name), replace(part, path)))
    for _ in range(3):
        write_atomically(tmp_path / "file", b"x")
    assert len(set(seen)) == 3
    assert {finished_name(name) for name in seen} == {"file"}


@pytest.mark.parametrize("without_links", [False, True])
def test_what_must_be_new_replaces_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, without_links: bool
) -> None:
    def no_links(part: Path, path: Path) -> None:
        raise OSError(errno.EPERM, "no links here")

    if without_links:
        monkeypatch.setattr("os.link", no_links)
    path = tmp_path / "file"
    write_atomically(path, b"first", new=True)
    with pytest.raises(FileExistsError):
        write_atomically(path, b"second", new=True)
    assert path.read_bytes() == b"first"
    assert names(tmp_path) == ["file"]
    (tmp_path / "dangling").symlink_to(tmp_path / "nowhere")
    with pytest.raises(FileExistsError):
        write_atomically(tmp_path / "dangling", b"x", new=True)
    assert not (tmp_path / "nowhere").exists()


def test_one_of_many_makes_what_must_be_new(tmp_path: Path) -> None:
    path, start, made = tmp_path / "file", threading.Barrier(8), []

    def make(number: int) -> None:
        start.wait()
        try:
            write_atomically(path, bytes([number]), new=True)
            made.append(number)
        except FileExistsError:
            pass

    threads = [threading.Thread(target=make, args=(number,)) for number in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert [path.read_bytes()] == [bytes([number]) for number in made]


def test_leftovers_are_swept_and_nothing_else(tmp_path: Path) -> None:
    victim = tmp_path / "elsewhere"
    victim.write_bytes(b"precious")
    folder = tmp_path / "run"
    folder.mkdir()
    others = ["file", "file.part", ".file.part", ".file.0123456789abcdeg.part", "x.0123456789abcdef.part"]
    for name in (*others, LEFT):
        (folder / name).write_bytes(b"left")
    (folder / ".a.aaaaaaaaaaaaaaaa.part").symlink_to(victim)
    os.link(folder / "file", folder / ".file.bbbbbbbbbbbbbbbb.part")
    os.mkfifo(folder / ".c.cccccccccccccccc.part")
    sweep(folder)
    assert names(folder) == sorted(others)
    assert victim.read_bytes() == b"precious"
    sweep(tmp_path / "missing")


@pytest.mark.parametrize("where", ["in this process", "in another"])
def test_what_is_being_written_is_not_swept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, where: str) -> None:
    fsync = os.fsync
    sweeping = f"from pathlib import Path; from perfit.durable.files import sweep; sweep(Path({str(tmp_path)!r}))"

    def swept_meanwhile(handle: int) -> None:
        if where == "in another":
            subprocess.run([sys.executable, "-c", sweeping], check=True)
        else:
            with monkeypatch.context() as patch:
                # Not even opened: a store that is just getting its name would lose its locks.
                patch.setattr("os.open", lambda *_: pytest.fail("opened what this process writes"))
                sweep(tmp_path)
        fsync(handle)

    monkeypatch.setattr("os.fsync", swept_meanwhile)
    write_atomically(tmp_path / "file", b"whole")
    assert names(tmp_path) == ["file"]
    assert (tmp_path / "file").read_bytes() == b"whole"


def test_swept_before_it_was_locked_is_begun_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from perfit.durable import files

    lock, taken = files._lock, []

    def late(handle: int) -> bool:
        if not taken:
            (part,) = tmp_path.iterdir()
            part.unlink()
            taken.append(part.name)
        return lock(handle)

    monkeypatch.setattr(files, "_lock", late)
    write_atomically(tmp_path / "file", b"whole")
    assert taken
    assert names(tmp_path) == ["file"]


def test_what_is_no_file_is_never_replaced_by_one(tmp_path: Path) -> None:
    pipe, folder = tmp_path / "pipe", tmp_path / "folder"
    os.mkfifo(pipe)
    folder.mkdir()
    (tmp_path / "link").symlink_to(pipe)
    for name, said in (("pipe", "not a file"), ("link", "not a file"), ("folder", "Is a directory")):
        with pytest.raises(OSError, match=said) as refused:
            write_atomically(tmp_path / name, b"x")
        assert refused.value.filename == str(tmp_path / name)
    assert stat.S_ISFIFO(os.stat(pipe).st_mode)
    assert names(tmp_path) == ["folder", "link", "pipe"]


def test_an_error_names_the_file_that_was_meant(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError) as missing:
        write_atomically(tmp_path / "missing" / "file", b"x")
    assert missing.value.filename == str(tmp_path / "missing" / "file")
