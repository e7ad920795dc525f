"""Who is deleted is gone from every byte of every file of the store, whenever the deleting process was killed."""

from __future__ import annotations

import os
import random
import signal
import sqlite3
import sys
from pathlib import Path

import forked
import pytest
import torch
from numbered import IDENTITY, SPEC, bytes_beside, numbered

from perfit.errors import StoreError, UnknownUserError
from perfit.store import ShiftStore, database, erasure

CANARY = "canary-1f0c9a"
NOTE = "note-of-canary-77b1"


def canary_shift() -> dict[str, torch.Tensor]:
    chance = torch.Generator().manual_seed(4711)
    return numbered(5) | {"D": torch.randn(2, 4, 32, generator=chance)}


def marks() -> list[bytes]:
    payload = canary_shift()["D"].bfloat16().view(torch.int16).numpy().tobytes()
    return [CANARY.encode(), NOTE.encode(), *(payload[place : place + 16] for place in range(0, len(payload), 16))]


def traces(folder: Path) -> list[str]:
    """Files in which a mark of the canary stands, and how many of the marks."""
    found = []
    for entry in sorted(folder.iterdir()):
        content = bytes_beside(entry)
        if count := sum(mark in content for mark in marks()):
            found.append(f"{entry.name}: {count}")
    return found


def filled(folder: Path) -> Path:
    """A store in whose pages rows were moved about, the canary's among them."""
    path = folder / "users.db"
    chance = random.Random(2)
    with ShiftStore.create(path, IDENTITY, SPEC) as store:
        store._database.execute("PRAGMA synchronous = OFF")
        store.put_many((f"user{n}", numbered(n), {"n": "x" * chance.randrange(300)}) for n in range(30))
        store.put(CANARY, canary_shift(), {"note": NOTE})
        for n in range(30):
            store.put(f"user{n}", numbered(n), {"n": "x" * chance.randrange(300)})
        store.put(CANARY, canary_shift(), {"note": NOTE * 3})
    return path


def test_no_byte_of_a_deleted_user_stays(tmp_path: Path) -> None:
    path = filled(tmp_path)
    assert traces(tmp_path) != []
    with ShiftStore.open(path) as store:
        store.delete(CANARY)
        assert traces(tmp_path) == []
        assert [entry.name for entry in tmp_path.iterdir()] == ["users.db"]
        assert len(store) == 30
        assert store.verify() == []
        with pytest.raises(UnknownUserError):
            store.delete(CANARY)
        store.put("after", numbered(1))
        assert store._database.execute("PRAGMA journal_mode").fetchone() == ("delete",)


def test_copies_that_sqlite_left_in_the_gaps_of_pages_go_too(tmp_path: Path) -> None:
    """Rows that move between pages leave their bytes behind; overwriting what is deleted does not reach those."""
    path = tmp_path / "users.db"
    ShiftStore.create(path, IDENTITY, SPEC).close()
    chance, ever = random.Random(0), set()
    raw = sqlite3.connect(path, isolation_level=None)
    raw.execute("PRAGMA synchronous = OFF")
    raw.execute("PRAGMA secure_delete = ON")
    raw.execute("BEGIN")
    for _ in range(3000):
        live = [row[0] for row in raw.execute("SELECT user_id FROM users ORDER BY user_id")]
        if chance.random() < 0.75 or len(live) < 5:
            user = f"user-{chance.getrandbits(32):08x}" if chance.random() < 0.7 or not live else chance.choice(live)
            row = (user, "s" * 64, "m" * chance.randrange(10, 200), "c", user.encode() * 3 + chance.randbytes(100))
            raw.execute(database_upsert(), row)
            ever.add(user)
        else:
            raw.execute("DELETE FROM users WHERE user_id = ?", (chance.choice(live),))
    raw.execute("COMMIT")
    left = {row[0] for row in raw.execute("SELECT user_id FROM users")}
    raw.close()
    content = path.read_bytes()
    gone = sorted(ever - left)
    assert [user for user in gone if user.encode() in content], "SQLite left no copy: the test shows nothing"
    with ShiftStore.open(path) as store:
        store.delete(min(left))
    content = path.read_bytes()
    assert [user for user in [*gone, min(left)] if user.encode() in content] == []


def database_upsert() -> str:
    from perfit.store.rows import _UPSERT

    return _UPSERT


def test_journals_are_overwritten_before_they_are_removed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "run").mkdir()
    path, kept = filled(tmp_path / "run"), tmp_path / "kept"
    # The journal of writing the file anew would lie over the first one.
    monkeypatch.setattr(erasure, "rewrite", lambda connection: None)
    overwrite, before = database._overwrite, []

    def keeping(journal: Path) -> None:
        before.append(journal.read_bytes())
        os.link(journal, kept)  # what of it a removal alone would leave on the disk
        overwrite(journal)

    monkeypatch.setattr(database, "_overwrite", keeping)
    with ShiftStore.open(path) as store:
        store.delete(CANARY)
    (journal,) = before
    assert any(mark in journal for mark in marks())
    assert kept.read_bytes() == bytes(len(journal))


KILLED = """
import os, signal, sys
from perfit.store import ShiftStore, database
store, left = ShiftStore.open(sys.argv[1]), int(sys.argv[2])
cache = store._database.execute("PRAGMA cache_size = 1")

def maybe(*_):
    global left
    left -= 1
    if left < 0:
        os.kill(os.getpid(), signal.SIGKILL)

if sys.argv[3] == "statements":
    store._database.set_trace_callback(maybe)
else:
    store._database.set_progress_handler(maybe, 5)
overwrite = database._overwrite
database._overwrite = lambda journal: (maybe(), overwrite(journal), maybe())
store.delete(sys.argv[4])
"""


@pytest.mark.skipif(sys.platform == "win32", reason="no SIGKILL")
@pytest.mark.parametrize("inside", ["statements", "instructions"])
def test_killed_anywhere_the_next_opening_leaves_no_byte_or_the_whole_user(tmp_path: Path, inside: str) -> None:
    original = tmp_path / "original"
    original.mkdir()
    whole = filled(original).read_bytes()
    place, seen = 0, []
    for _ in range(40):
        folder = tmp_path / f"kill{place}"
        folder.mkdir()
        path = folder / "users.db"
        path.write_bytes(whole)
        done = forked.python(KILLED, path, place, inside, CANARY)
        if done.returncode == 0:
            break
        assert done.returncode == -signal.SIGKILL, done.stderr
        with ShiftStore.open(path) as store:
            assert [entry.name for entry in folder.iterdir()] == ["users.db"]
            assert not erasure.is_pending(store._database)
            assert store.verify() == []
            there = CANARY in store
            seen.append(there)
            if there:
                assert store.get(CANARY).meta == {"note": NOTE * 3}
                store.delete(CANARY)
            assert traces(folder) == []
            assert len(store) == 30
        place = place + 1 if inside == "statements" else place * 2 or 1
    else:
        pytest.fail("never done")
    assert {True, False} == set(seen)
    assert seen == sorted(seen, reverse=True), "gone is gone"


def test_an_unfinished_erasure_is_finished_by_the_next_delete_or_opening(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = filled(tmp_path)

    def full(connection: sqlite3.Connection) -> None:
        raise sqlite3.OperationalError("database or disk is full")

    with ShiftStore.open(path) as store:
        with monkeypatch.context() as patch:
            patch.setattr(erasure, "rewrite", full)
            with pytest.raises(StoreError, match="disk is full; check the folder"):
                store.delete(CANARY)
            assert CANARY not in store
            ShiftStore.open(path).close()  # a full disk keeps nobody out
        assert erasure.is_pending(store._database)
        with pytest.raises(UnknownUserError):
            store.delete(CANARY)
        assert not erasure.is_pending(store._database)
    assert traces(tmp_path) == []
