"""One store of many threads: users are written, read and deleted at once, and each sees only whole, right shifts."""

from __future__ import annotations

import os
import random
import subprocess
import sys
import threading
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from numbered import IDENTITY, SPEC, numbered

from perfit.edits.shift import from_stored
from perfit.errors import StoreError, UnknownUserError
from perfit.store import ShiftStore, StoredShift
from perfit.store.personal import PersonalShifts

THREADS, ROUNDS = 8, 40


def together(work: Callable[[int], None]) -> None:
    """Run ``work(number)`` in many threads that start at once; the first fault is raised."""
    start, faults = threading.Barrier(THREADS), []

    def run(number: int) -> None:
        start.wait()
        try:
            work(number)
        except BaseException as error:
            faults.append(error)

    threads = [threading.Thread(target=run, args=(number,)) for number in range(THREADS)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    if faults:
        raise faults[0]


def is_right(stored: StoredShift) -> bool:
    wanted = numbered(stored.meta["n"])
    return all(torch.equal(stored.tensors[name], value.bfloat16()) for name, value in wanted.items())


@pytest.mark.parametrize("kept", ["in a store", "in memory"])
def test_users_written_read_and_deleted_at_once(tmp_path: Path, kept: str) -> None:
    store = ShiftStore.create(tmp_path / "users.db", IDENTITY, SPEC) if kept == "in a store" else None
    shifts = PersonalShifts(store)
    expected: dict[str, int] = {}

    def put(user: str, n: int) -> None:
        shifts.put_stored([(user, StoredShift(numbered(n), {"n": n}))])

    for n in range(5):
        put(f"shared{n}", n)

    def work(number: int) -> None:
        chance, mine = random.Random(number), {}
        for n in range(number * 1000, number * 1000 + ROUNDS):
            what, user = chance.random(), f"own{number}-{chance.randrange(6)}"
            if what < 0.5:
                put(user, n)
                mine[user] = n
            elif what < 0.6:
                put(f"shared{chance.randrange(5)}", n)
            elif what < 0.7 and user in mine and store is not None:
                store.delete(user)
                del mine[user]
                with pytest.raises(UnknownUserError):
                    shifts.stored(user)
            elif user in mine:
                assert shifts.stored(user).meta == {"n": mine[user]}
                assert is_right(shifts.stored(user))
            shared = shifts.stored(f"shared{chance.randrange(5)}")
            assert is_right(shared)
            assert set(mine) <= set(shifts.users())
        expected.update(mine)

    together(work)
    assert shifts.users() == sorted([*expected, *(f"shared{n}" for n in range(5))])
    for user, n in expected.items():
        assert shifts.stored(user).meta == {"n": n}
        assert torch.equal(shifts.shift(user).R, from_stored(numbered(n)).R)
    if store is not None:
        assert store.verify() == []
    shifts.close()


def test_closing_while_others_read_is_one_line_to_them(tmp_path: Path) -> None:
    with ShiftStore.create(tmp_path / "users.db", IDENTITY, SPEC) as store:
        store.put("ann", numbered(1), {"n": 1})
        said: list[str] = []

        def work(number: int) -> None:
            if number == 0:
                store.close()
                return
            try:
                for _ in range(200):
                    assert is_right(store.get("ann"))
            except StoreError as error:
                said.append(str(error))

        together(work)
        assert len(said) == THREADS - 1
        assert all("closed" in line for line in said)


FORKED = """
import gc, os, sys
from pathlib import Path
sys.path.insert(0, sys.argv[2])
from numbered import IDENTITY, SPEC, numbered
import torch
from perfit.store import ShiftStore, database
torch.set_num_threads(2)
torch.ones(1 << 20).sum()  # torch has threads now, which a child has not
store = ShiftStore.create(Path(sys.argv[1]), IDENTITY, SPEC)
store.put("parent", numbered(1))
mine = store._database
with store._lock:  # as if a thread of the parent were in the middle of something
    child = os.fork()
    if not child:
        assert store._database is not mine
        assert store.users() == ["parent"]
        store.put("child", numbered(2))
        os._exit(0)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
assert store._database is mine
assert store.users() == ["child", "parent"] and store.verify() == []
with database.transaction(mine):  # in the middle of writing
    mine.execute("UPDATE users SET created = 'now'")
    assert database.journal_of(store.path).exists()
    child = os.fork()
    if not child:
        assert store.users() == ["child", "parent"]
        gc.collect()
        os._exit(0)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
    assert database.journal_of(store.path).exists(), "the child closed the parent's connection"
"""


@pytest.mark.skipif(not hasattr(os, "fork"), reason="this system does not fork")
def test_a_child_that_was_forked_off_has_a_connection_of_its_own(tmp_path: Path) -> None:
    arguments = [sys.executable, "-c", FORKED, str(tmp_path / "users.db"), str(Path(__file__).parent)]
    done = subprocess.run(arguments, capture_output=True, timeout=120, check=False)
    assert done.returncode == 0, done.stderr.decode()[-800:]
