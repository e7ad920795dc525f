"""No lock is lost: nothing opens a store's file beside SQLite, and what was acknowledged stays, whoever else works."""

from __future__ import annotations

import contextlib
import json
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import forked
import pytest
import torch
from numbered import IDENTITY, SPEC, numbered

from perfit.errors import StoreError, UnknownUserError
from perfit.store import ShiftStore, database
from perfit.store.personal import PersonalShifts

RUN_SPEC = SPEC | {"collective": "shared", "run": "bound"}
PATHS = (Path(sys.modules["perfit.errors"].__file__ or "").parents[1], Path(__file__).parent)
ENVIRONMENT = os.environ | {"PYTHONPATH": os.pathsep.join(map(str, PATHS)), "OMP_NUM_THREADS": "1"}

# The other process: writes, or says that it may not.
OTHER = """
import sqlite3, sys
database = sqlite3.connect(sys.argv[1], timeout=0.2, isolation_level=None)
try:
    database.execute("UPDATE users SET created = created")
    print("written")
except sqlite3.OperationalError as error:
    print("locked" if "locked" in str(error) else error)
"""

# One of several processes: threads share one store and open it a second time over and over.
WORKER = """
import json, random, sys, threading, time
from numbered import numbered
from perfit.store import ShiftStore

path, name, seconds = sys.argv[1], sys.argv[2], float(sys.argv[3])
import torch
torch.set_num_threads(1)
store, expected, faults, done = ShiftStore.open(path), {}, [], {"put": 0, "delete": 0, "open": 0}

def check(where, user, n):
    got = where.get(user)
    assert got.meta == {"n": n} and all((got.tensors[k].float() == v.bfloat16().float()).all() for k, v in numbered(n).items())

def work(thread):
    chance, mine, number = random.Random(f"{name}-{thread}"), {}, 0
    end = time.monotonic() + seconds
    try:
        while time.monotonic() < end:
            what = chance.random()
            if what < 0.45 or len(mine) < 2:
                user, number = f"{name}-{thread}-{chance.randrange(12)}", number + 1
                store.put(user, numbered(number), {"n": number})
                mine[user] = number
                done["put"] += 1
            elif what < 0.6:
                user = chance.choice(sorted(mine))
                store.delete(user)
                del mine[user]
                done["delete"] += 1
                assert user not in store
            else:
                with ShiftStore.open(path, readonly=what < 0.8) as again:
                    check(again, *chance.choice(sorted(mine.items())))
                    assert set(mine) <= set(again.users())
                    done["open"] += 1
            if mine:
                check(store, *chance.choice(sorted(mine.items())))
    except BaseException as error:
        faults.append(f"{type(error).__name__}: {error}")
    expected.update(mine)

threads = [threading.Thread(target=work, args=(number,)) for number in range(4)]
[thread.start() for thread in threads]
[thread.join() for thread in threads]
print(json.dumps({"expected": expected, "faults": faults, "done": done}))
"""


@pytest.fixture
def path(tmp_path: Path) -> Path:
    with ShiftStore.create(tmp_path / "users.db", IDENTITY, RUN_SPEC) as store:
        store.put_many((f"user{n}", numbered(n), {"n": n}) for n in range(3))
    return store.path


def _open(path: Path, readonly: bool) -> None:
    with ShiftStore.open(path, IDENTITY, readonly=readonly) as store:
        assert store.get("user1").meta == {"n": 1}
        assert store.verify() == []
        store.export_user("user1", path.parent / "export" / "user1.safetensors")


def _create(path: Path) -> None:
    with pytest.raises(StoreError, match="exists already"):
        ShiftStore.create(path, IDENTITY, RUN_SPEC)


def _as_personal(path: Path) -> None:
    shifts = PersonalShifts.open(path, IDENTITY, RUN_SPEC, new=True)
    assert shifts.users() == ["user0", "user1", "user2"]
    shifts.close()


SECOND: dict[str, Callable[[Path], None]] = {
    "writable": lambda path: _open(path, readonly=False),
    "readonly": lambda path: _open(path, readonly=True),
    "create": _create,
    "personal": _as_personal,
}


def other(path: Path) -> str:
    command = [sys.executable, "-Sc", OTHER, str(path)]
    return subprocess.run(command, capture_output=True, text=True, check=True, env=ENVIRONMENT).stdout.strip()


@pytest.mark.parametrize("second", SECOND)
def test_a_second_open_in_the_middle_of_writing_lets_nobody_else_write(path: Path, second: str) -> None:
    (path.parent / "export").mkdir()
    journal = path.with_name("users.db-journal")
    said = []

    def entries() -> Iterator[tuple[str, dict[str, torch.Tensor], dict[str, int]]]:
        yield "first", numbered(11), {"n": 11}
        assert journal.exists()
        SECOND[second](path)
        assert journal.exists(), "the second open took the writer's journal"
        said.append(other(path))
        yield "second", numbered(12), {"n": 12}

    with ShiftStore.open(path) as store:
        store.put_many(entries())
        said.append(other(path))
        assert said == ["locked", "written"]
        assert store.users() == ["first", "second", "user0", "user1", "user2"]
        assert store.verify() == []


@pytest.mark.parametrize("readonly", [False, True])
def test_a_second_open_while_reading_lets_nobody_change_what_is_read(path: Path, readonly: bool) -> None:
    with ShiftStore.open(path) as store:
        store._database.execute("BEGIN")
        assert len(store) == 3
        ShiftStore.open(path, readonly=readonly).close()
        assert other(path) == "locked"
        store._database.execute("ROLLBACK")
        assert other(path) == "written"


@contextlib.contextmanager
def opened() -> Iterator[list[str]]:
    """Names of the files Python opens; SQLite's own openings do not show."""
    seen: list[str] = []
    _LISTENING.append(seen)
    try:
        yield seen
    finally:
        _LISTENING.remove(seen)


_LISTENING: list[list[str]] = []


def _hear(event: str, arguments: tuple[Any, ...]) -> None:
    if _LISTENING and event == "open" and isinstance(arguments[0], str | os.PathLike):
        _LISTENING[-1].append(Path(os.fspath(arguments[0])).name)


sys.addaudithook(_hear)


def test_no_file_of_a_store_is_opened_beside_sqlite(path: Path) -> None:
    (path.parent / "export").mkdir()
    with opened() as seen:
        for act in SECOND.values():
            act(path)
        with ShiftStore.open(path) as store:
            store.delete("user1")
            store.import_user(path.parent / "export" / "user1.safetensors")
            assert "user1" in store
            with pytest.raises(UnknownUserError):
                store.get("nobody")
    assert "user1.safetensors" in seen
    assert "users.db" not in seen
    (path.parent / "control").touch()
    with opened() as seen:
        (path.parent / "control").read_bytes()
    assert seen == ["control"], "the listener hears"


def test_no_command_opens_the_store_of_a_run_beside_sqlite(tmp_path: Path) -> None:
    from small_base import CONFIG, TASK, dataset, write_base
    from typer.testing import CliRunner

    from perfit.cli.main import app
    from perfit.personalizer import PerFit

    run = tmp_path / "run"
    write_base(tmp_path / "base")
    with opened() as seen:
        perfit = PerFit.from_pretrained(tmp_path / "base", task=TASK, config=CONFIG)
        perfit.fit(dataset(("anna", "ben")), run=run)
        perfit.save_pretrained(tmp_path / "copy")
        for command in (
            ("info", run),
            ("users", "list", "--run", run),
            ("users", "show", "anna", "--run", run),
            ("users", "export", "anna", tmp_path / "anna.safetensors", "--run", run),
            ("users", "delete", "anna", "--run", run),
            ("users", "import", tmp_path / "anna.safetensors", "--run", run),
        ):
            done = CliRunner().invoke(app, list(map(str, command)))
            assert done.exit_code == 0, (command, done.output)
    assert "anna.safetensors" in seen
    assert "personal.sqlite" not in seen


def stress(path: Path, seconds: float, processes: int = 3) -> dict[str, int]:
    """What was done; every acknowledged write and erasure is there afterwards."""
    pipes = [os.pipe() for _ in range(processes)]
    running = [forked.start(WORKER, path, f"p{n}", seconds, out=pipes[n][1], err=2) for n in range(processes)]
    for _, writing in pipes:
        os.close(writing)
    results = [json.load(open(reading)) for reading, _ in pipes]  # noqa: SIM115
    for worker in running:
        os.waitpid(worker, 0)
    assert [result["faults"] for result in results] == [[]] * processes
    expected = {user: n for result in results for user, n in result["expected"].items()}
    with ShiftStore.open(path, IDENTITY) as store:
        assert store.verify() == []
        assert store.users() == sorted(expected)
        for user, n in expected.items():
            stored = store.get(user)
            assert stored.meta == {"n": n}
            assert all(torch.equal(stored.tensors[name], value.bfloat16()) for name, value in numbered(n).items())
    assert [entry.name for entry in path.parent.iterdir()] == ["users.db"]
    return {what: sum(result["done"][what] for result in results) for what in ("put", "delete", "open")}


def _empty(tmp_path: Path) -> Path:
    ShiftStore.create(tmp_path / "users.db", IDENTITY, RUN_SPEC).close()
    return tmp_path / "users.db"


def test_three_processes_of_four_threads_lose_nothing(tmp_path: Path) -> None:
    done = stress(_empty(tmp_path), 2)
    assert min(done.values()) > 0


@pytest.mark.slow
def test_three_processes_of_four_threads_lose_nothing_in_thirty_seconds(tmp_path: Path) -> None:
    print(stress(_empty(tmp_path), 30))


def test_a_commit_is_on_the_disk_and_what_is_deleted_is_overwritten(path: Path) -> None:
    with ShiftStore.open(path) as store:
        told = {
            name: store._database.execute(f"PRAGMA {name}").fetchone()[0]
            for name in ("synchronous", "secure_delete", "journal_mode", "trusted_schema", "cell_size_check")
        }
    assert told == {
        "synchronous": 3,
        "secure_delete": 1,
        "journal_mode": "delete",
        "trusted_schema": 0,
        "cell_size_check": 1,
    }
    assert database._BUSY_SECONDS == 30


def test_a_new_store_and_an_export_are_on_the_disk_with_their_names(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    synced: list[str] = []
    fsync = os.fsync

    def counting(handle: int) -> None:
        synced.append(Path(os.readlink(f"/proc/self/fd/{handle}")).suffix)
        fsync(handle)

    if sys.platform != "linux":
        pytest.skip("names of handles from /proc")
    monkeypatch.setattr("os.fsync", counting)
    with ShiftStore.create(tmp_path / "users.db", IDENTITY, RUN_SPEC) as store:
        assert synced == [".part", ""]
        store.put("ann", numbered(1))
        store.export_user("ann", tmp_path / "ann.safetensors")
        assert synced == [".part", ""] * 2
