"""Every row, payload and digest that a run keeps of its users, read and held against what it was written with."""

from __future__ import annotations

import hashlib
import hmac
import json
import sqlite3
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass
from typing import Any

from perfit.belonging import open_store, parts_of
from perfit.durable.lock import BusyError, locked
from perfit.errors import PerfitError, UnreachableError
from perfit.notebook.database import FILE, Notebook
from perfit.notebook.items import VERDICTS, asked_of, item_of
from perfit.notebook.jobs import RUNNING, STATES
from perfit.notebook.served import WORKER_LOCK, is_served, to_forget
from perfit.notebook.versions import Versions
from perfit.run import RunDirectory
from perfit.store.data_keys import PLAIN, Keeper
from perfit.store.digest import shift_digest
from perfit.store.objects import TOGETHER
from perfit.store.shifts import ShiftStore
from perfit.tombstones import BEGUN, DONE, Tombstones
from perfit.upkeep.leftovers import unfinished
from perfit.upkeep.orphans import orphans


@dataclass(frozen=True)
class Finding:
    """Something that is not as it should be.

    Attributes:
        file: The file, by its place in the run.
        what: What it is, and the way out.
        user: Whose, by ``pseudonym``; None where it is nobody's.
        damage: Whether something is lost or wrong; else it is what a kill left, and ``perfit store gc`` or the next server
            takes it away.
    """

    file: str
    what: str
    user: str | None = None
    damage: bool = True

    def as_dict(self) -> dict[str, Any]:
        """Plain values."""
        return asdict(self)

    def line(self) -> str:
        """One line."""
        return f"{self.file}: {f'user {self.user}: ' if self.user else ''}{self.what}"


def pseudonym(run: RunDirectory, user: str) -> str:
    """What stands for a user in lines that may be kept: a short digest keyed by the run's manifest, never the id."""
    key = hashlib.sha256(run.manifest_path.read_bytes()).digest()
    return hmac.new(key, user.encode(errors="surrogatepass"), hashlib.sha256).hexdigest()[:12]


def fsck(run: RunDirectory) -> list[Finding]:
    """Read everything that is kept of users: rows, payloads, digests, versions, and what points at what.

    Raises:
        StoreError: There is no run, or its manifest cannot be read.
    """
    parts_of(run)
    found: list[Finding] = []
    users: set[str] | None = None
    if run.store_path.exists():
        try:
            with open_store(run) as store:
                found += _store(run, store)
                users = set(store.users())
        except PerfitError as error:
            found.append(Finding(run.store_path.name, str(error)))
    if (run.path / FILE).exists():
        try:
            with Notebook(run.path) as notebook:
                found += _notebook(run, notebook, users)
        except PerfitError as error:
            found.append(Finding(FILE, str(error)))
    found += _erased(run, users)
    found += [
        Finding(str(left.path.relative_to(run.path)), f"{left.what}; perfit store gc takes it away", damage=False)
        for left in unfinished(run)
    ]
    return found


def _store(run: RunDirectory, store: ShiftStore) -> Iterator[Finding]:
    name, damage = run.store_path.name, store.damage()
    for user, what in damage.items():
        yield Finding(name, f"{what}; train the user again, or restore a copy", pseudonym(run, user))
    try:
        if not damage:
            store.check_file()
        if names := orphans(run, store):
            what = f"{len(names):,} objects that nothing refers to; perfit store gc takes them away"
            yield Finding(name, what, damage=False)
    except PerfitError as error:  # what cannot be pinned on users
        yield Finding(name, str(error))


def _notebook(run: RunDirectory, notebook: Notebook, users: set[str] | None) -> Iterator[Finding]:
    def of(user: object, what: str, *, damage: bool = True) -> Finding:
        return Finding(FILE, what, pseudonym(run, str(user)), damage)

    with notebook.reading() as database:
        report = database.execute("PRAGMA integrity_check(3)").fetchall()
        if report != [("ok",)]:
            yield Finding(FILE, f"{report[0][0]}; restore a copy")
        yield from _rows(notebook, database, of)
    versions = Versions(notebook)
    with notebook.reading() as database:
        keys = database.execute("SELECT user, number, digest, note FROM versions ORDER BY user, number").fetchall()

    def problem(user: Any, number: Any, digest: Any, note: Any) -> str:
        try:
            if not isinstance(json.loads(note), dict):
                raise ValueError
            if shift_digest(versions.stored(user, number).tensors) != digest:
                return f"version {number} is another shift than its digest says; choose another version"
        except UnreachableError:
            raise
        except (PerfitError, ValueError, TypeError):
            return f"version {number} is not as it was written; choose another version"
        return ""

    owners = {user for user, *_ in keys}
    with ThreadPoolExecutor(TOGETHER) as pool:  # for those in a bucket
        for (user, *_), what in zip(keys, pool.map(lambda key: problem(*key), keys), strict=True):
            if what:
                yield of(user, what)
    if users is not None:
        for user in sorted(owners - users, key=str):
            kept = any(version.state == "kept" for version in versions.of(user))
            if kept:
                yield of(user, "versions are kept that were live, but no shift is stored; put one live by a rollback")
    if not _is_locked(run, WORKER_LOCK):
        with notebook.reading() as database:
            left = database.execute("SELECT user FROM jobs WHERE state = ?", (RUNNING,)).fetchall()
        for (user,) in left:
            yield of(user, "a training that a kill cut off; the next server takes it up", damage=False)
    if notebook.erasing():
        yield Finding(FILE, "an erasure was cut off; repeat perfit users delete, or start a server", damage=False)
    if to_forget(notebook) and not is_served(run.path):
        yield Finding(
            FILE, "an eraser that was cut off waits for a server; perfit store gc takes it away", damage=False
        )


def _rows(notebook: Notebook, database: sqlite3.Connection, of: Callable[..., Finding]) -> Iterator[Finding]:
    keeper: Keeper = PLAIN
    last: str | None = None
    for user, place, fields, turns, date, held in database.execute(
        "SELECT user, place, fields, turns, date, held_out FROM items ORDER BY user, place"
    ):
        try:
            if held not in (0, 1):
                raise ValueError
            if user != last:
                keeper, last = notebook.keeper(user), user
            item_of(keeper, place, fields, turns, date)
        except (PerfitError, ValueError, TypeError):
            yield of(user, f"item {place} of the history cannot be read; PUT the history again")
    for user, place, verdict, asked in database.execute("SELECT user, place, verdict, input FROM feedback"):
        try:
            asked_of(notebook.keeper(user), asked)
            if verdict not in VERDICTS:
                raise ValueError
        except (PerfitError, ValueError, TypeError):
            yield of(user, f"verdict {place} cannot be read", damage=True)
    for user, number, state, result in database.execute("SELECT user, id, state, result FROM jobs"):
        try:
            if state not in STATES or not isinstance(json.loads(result or "{}"), dict):
                raise ValueError
        except (ValueError, TypeError):
            yield of(user, f"training {number} cannot be read; ask for another")


def _erased(run: RunDirectory, users: set[str] | None) -> Iterator[Finding]:
    """Erasures that did not end, and erased users who are there all the same."""
    try:
        stones = Tombstones(run.path)
    except PerfitError as error:
        yield Finding("erased.json", str(error))
        return
    if stones.count(BEGUN):
        yield Finding("erased.json", "an erasure was cut off; repeat perfit users delete", damage=False)
    for user in sorted(users or ()):
        if stones.state(user) == DONE:
            yield Finding(
                run.store_path.name, "was erased, and is stored again; repeat perfit users delete", pseudonym(run, user)
            )


def _is_locked(run: RunDirectory, name: str) -> bool:
    if not (run.path / name).exists():
        return False
    try:
        with locked(run.path / name):
            return False
    except BusyError:
        return True
