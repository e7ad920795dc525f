"""Kill the writer, cut the file, flip its bits: committed users stay right, or the damage is named."""

from __future__ import annotations

import os
import random
import shutil
import signal
import sqlite3
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import forked
import pytest
import torch
from numbered import IDENTITY, SPEC, bytes_beside, numbered

from perfit.errors import StoreError
from perfit.store import ShiftStore

KILLS = 20

WRITER = """
import sys
from numbered import numbered as one
from perfit.store import ShiftStore
store = ShiftStore.open(sys.argv[1])
number = int(sys.argv[2])
while True:
    if number % 5 == 4:
        store.put_many([(f"user{number}-{k}", one(number + k), {"n": number + k}) for k in range(30)])
        print(*(f"user{number}-{k}" for k in range(30)), flush=True)
    else:
        store.put(f"user{number}", one(number), {"n": number})
        print(f"user{number}", flush=True)
    number += 1
"""


def _is_right(store: ShiftStore, user: str) -> bool:
    stored = store.get(user)
    wanted = numbered(stored.meta["n"])
    return all(torch.equal(stored.tensors[name], wanted[name].bfloat16()) for name in wanted)


@pytest.mark.skipif(sys.platform == "win32", reason="no SIGKILL")
def test_a_killed_writer_loses_nothing_that_was_committed(tmp_path: Path) -> None:
    path = tmp_path / "users.db"
    ShiftStore.create(path, IDENTITY, SPEC).close()
    chance = random.Random(7)
    committed: set[str] = set()
    number = hot = 0
    for _ in range(KILLS):
        reading, writing = os.pipe()
        writer = forked.start(WRITER, path, number, out=writing, err=2)
        os.close(writing)
        with open(reading) as said_by_it:
            lines = [said_by_it.readline()]
            time.sleep(chance.random() * 0.08)
            os.kill(writer, signal.SIGKILL)
            lines += said_by_it.readlines()
        os.waitpid(writer, 0)
        assert lines[0], "the writer did not start"
        said = [user for line in lines if line.endswith("\n") for user in line.split()]
        committed.update(said)
        hot += path.with_name(path.name + "-journal").exists()
        number += len(lines) + 2
        readonly = chance.random() < 0.5
        with ShiftStore.open(path, IDENTITY, readonly=readonly) as store:
            assert store.verify() == []
            users = set(store.users())
            assert committed <= users
            assert all(_is_right(store, user) for user in (*said, *(users - committed)))
        assert readonly or [entry.name for entry in tmp_path.iterdir()] == ["users.db"]
    print(f"{KILLS} kills, {len(committed)} users, {hot} left a journal")


@pytest.mark.parametrize("readonly", [False, True])
def test_a_write_torn_in_the_middle_is_undone(tmp_path: Path, readonly: bool) -> None:
    """The files as a crash would leave them: half of a transaction is already in the main file."""
    path, copy = tmp_path / "users.db", tmp_path / "crash" / "users.db"
    copy.parent.mkdir()

    def entries() -> Iterator[tuple[str, dict[str, torch.Tensor], dict[str, int]]]:
        for n in range(300):
            if n == 200:
                for suffix in ("", "-journal"):
                    if (source := path.with_name(path.name + suffix)).exists():
                        shutil.copy(source, copy.with_name(copy.name + suffix))
            yield f"user{n}", numbered(n + 1), {"n": n + 1}

    with ShiftStore.create(path, IDENTITY, SPEC) as store:
        store.put_many((f"user{n}", numbered(n), {"n": n}) for n in range(100))
        before = bytes_beside(path)
        store._database.execute("PRAGMA cache_size = 1")
        store.put_many(entries())
        assert (store.verify(), len(store)) == ([], 300)
    assert copy.read_bytes() != before, "nothing was torn"
    with ShiftStore.open(copy, IDENTITY, readonly=readonly) as store:
        assert (store.verify(), len(store)) == ([], 100)
        assert all(store.get(f"user{n}").meta == {"n": n} for n in range(100))
    assert [entry.name for entry in copy.parent.iterdir()] == ["users.db"]


@pytest.fixture
def full(tmp_path: Path) -> Path:
    path = tmp_path / "users.db"
    with ShiftStore.create(path, IDENTITY, SPEC) as store:
        store.put_many((f"user{n}", numbered(n), {"n": n}) for n in range(40))
    return path


def _survives(path: Path) -> str:
    """Read all of a damaged store; whatever is not reported must be right."""
    try:
        with ShiftStore.open(path) as store:
            bad = store.verify()
            for n in range(40):
                if f"user{n}" not in bad:
                    assert _is_right(store, f"user{n}"), f"user{n} is wrong and was not reported"
            for user in set(bad) & set(store.users()):
                with pytest.raises(StoreError):
                    store.get(user)
            return "named" if bad else "harmless"
    except StoreError as error:
        return "refused" if str(path) in str(error) else "unclear"


def test_bit_flips_are_named_refused_or_harmless(full: Path) -> None:
    whole = full.read_bytes()
    chance = random.Random(3)
    seen: dict[str, int] = {}
    for _ in range(250):
        place = chance.choice([chance.randrange(len(whole)), chance.randrange(len(whole)), chance.randrange(4096 * 3)])
        damaged = bytearray(whole)
        damaged[place] ^= 1 << chance.randrange(8)
        full.write_bytes(damaged)
        outcome = _survives(full)
        seen[outcome] = seen.get(outcome, 0) + 1
    assert {"named", "refused"} <= seen.keys() <= {"named", "refused", "harmless"}, seen


def test_cut_files_are_refused(full: Path) -> None:
    whole = full.read_bytes()
    for size in (0, 1, 50, 100, 4096, len(whole) // 2, len(whole) - 4096, len(whole) - 1):
        full.write_bytes(whole[:size])
        with pytest.raises(StoreError, match=r"users\.db"):
            ShiftStore.open(full)


def test_one_damaged_user_does_not_hurt_the_others(full: Path) -> None:
    data = bytearray(full.read_bytes())
    place = data.index(numbered(7)["R"].bfloat16().view(torch.int16).numpy().tobytes())
    data[place + 5] ^= 4
    full.write_bytes(data)
    with ShiftStore.open(full, IDENTITY) as store:
        assert store.verify() == ["user7"]
        with pytest.raises(StoreError, match="'user7' is damaged"):
            store.get("user7")
        with pytest.raises(StoreError, match="damaged"):
            store.export_user("user7", full.with_name("x"))
        assert _is_right(store, "user8")
        store.put("user7", numbered(7), {"n": 7})
        assert store.verify() == []


@pytest.mark.parametrize("column", ["user_id", "meta", "created"])
def test_exchanged_columns_are_noticed(full: Path, column: str) -> None:
    database = sqlite3.connect(full)
    value = {"user_id": "user99", "meta": '{"n": 8}', "created": "2001-01-01"}[column]
    database.execute(f"UPDATE users SET {column} = ? WHERE user_id = 'user7'", (value,))
    database.commit()
    database.close()
    with ShiftStore.open(full) as store:
        assert store.verify() == ["user99" if column == "user_id" else "user7"]


def test_a_user_lost_by_the_index_is_damaged_not_unknown(full: Path) -> None:
    data = full.read_bytes()
    places = [
        place
        for place in range(len(data))
        if data.startswith(b"user7", place) and not data[place + 5 : place + 6].isdigit()
    ]
    lost = 0
    for place in places:
        full.write_bytes(data[: place + 4] + b"X" + data[place + 5 :])
        with ShiftStore.open(full) as store:
            assert store.verify() != []
            if "user7" in store:
                assert _is_right(store, "user7")
            else:
                lost += 1
                with pytest.raises(StoreError, match="damaged"):
                    store.get("user7")
    assert lost


def test_a_store_that_was_replaced_while_it_was_open_is_not_read_on(full: Path) -> None:
    """SQLite would go on with the file that has no name any more."""
    with ShiftStore.open(full) as store:
        assert _is_right(store, "user3")
        whole = full.read_bytes()
        full.rename(full.with_name("old"))
        for _ in range(2):
            with pytest.raises(StoreError, match="removed or replaced"):
                store.get("user3")
            with pytest.raises(StoreError, match="removed or replaced"):
                store.put("user3", numbered(3), {"n": 3})
            full.write_bytes(whole)
    with ShiftStore.open(full) as store:
        assert _is_right(store, "user3")


def test_what_is_not_a_store_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "x"
    with pytest.raises(StoreError, match="no store here"):
        ShiftStore.open(path)
    with pytest.raises(StoreError, match="no store here"):
        ShiftStore.open(tmp_path)
    path.write_bytes(b"{}" * 4000)
    with pytest.raises(StoreError, match="not a perfit store"):
        ShiftStore.open(path)
    path.unlink()
    sqlite3.connect(path).execute("CREATE TABLE users (a)").connection.close()
    with pytest.raises(StoreError, match="another SQLite file"):
        ShiftStore.open(path)


def test_another_format_is_refused(full: Path) -> None:
    database = sqlite3.connect(full)
    database.execute("PRAGMA user_version = 4")
    database.close()
    with pytest.raises(StoreError, match="format 4"):
        ShiftStore.open(full)


def test_a_changed_description_is_refused(full: Path) -> None:
    database = sqlite3.connect(full)
    database.execute("UPDATE meta SET value = '{\"hidden_size\": 64}' WHERE key = 'identity'")
    database.commit()
    database.close()
    with pytest.raises(StoreError, match="description of the store is damaged"):
        ShiftStore.open(full, {"hidden_size": 64})
