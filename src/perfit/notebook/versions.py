"""A user's versions: every shift that was live, and those that were not put live and why."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from perfit.errors import DamagedError, UnknownUserError
from perfit.notebook.database import Notebook
from perfit.store import payload as codec
from perfit.store.objects import TOGETHER, GoneError, Objects
from perfit.store.payload import StoredShift

MOST = 10
_COLUMNS = "number, created, state, note, digest"


@dataclass(frozen=True)
class Version:
    """One version of a user, without its shift.

    Attributes:
        number: Counted up with each training, never given twice while the user is there.
        created: When, ISO 8601 in UTC.
        state: "kept" of one that was live, "kept back" of one that was worse on what was held out.
        note: What is known of it: losses on what was held out, steps.
        digest: Of its tensors in their stored form.
    """

    number: int
    created: str
    state: str
    note: Mapping[str, Any]
    digest: str


class Versions:
    """Versions of a notebook: the newest ten of a user, the live one always among them.

    Args:
        notebook: Where they lie.
    """

    def __init__(self, notebook: Notebook):
        self.notebook = notebook

    def add(self, user: str, stored: StoredShift, digest: str, *, state: str, note: Mapping[str, Any]) -> int:
        """Keep a shift as a new version and return its number; a shift that is kept already keeps its own.

        The run is locked meanwhile, so that nobody erases the user or sweeps what is not referred to yet.
        """
        dtype = "fp32" if str(stored.tensors["R"].dtype) == "torch.float32" else "bf16"
        if (known := self.number_of(user, digest)) is not None:
            return known
        keeper = self.notebook.keeper(user, new=True)
        hidden = keeper.hide("versions.payload", codec.encode(stored.tensors, dtype, {}))
        meta = keeper.hide("versions.meta", codec.to_json(stored.meta, "meta"))
        content: bytes | str = hidden
        if self.notebook.objects is not None:  # before the transaction: nobody who writes waits for a bucket
            (content,) = self.notebook.objects.put([(user, hidden)])
        created = datetime.now(UTC).isoformat(timespec="seconds")
        seal = codec.checksum(user, content, meta, created)
        with self.notebook.writing() as database:
            number = _next(database, user)
            database.execute(
                "INSERT INTO versions VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)",
                (user, number, created, state, json.dumps(dict(note)), digest, seal, meta, content),
            )
        return number

    def prune(self, user: str, live: str) -> None:
        """Forget the oldest beyond ten; never the live one, named by its digest."""
        with self.notebook.writing() as database:
            database.execute(
                "DELETE FROM versions WHERE user = ?1 AND digest != ?2 AND number NOT IN "
                "(SELECT number FROM versions WHERE user = ?1 ORDER BY number DESC LIMIT ?3)",
                (user, live, MOST),
            )

    def of(self, user: str) -> list[Version]:
        """All versions of a user, oldest first."""
        with self.notebook.reading() as database:
            rows = database.execute(
                f"SELECT {_COLUMNS} FROM versions WHERE user = ? ORDER BY number", (user,)
            ).fetchall()
        return [
            Version(number, created, state, json.loads(note), digest) for number, created, state, note, digest in rows
        ]

    def number_of(self, user: str, digest: str) -> int | None:
        """The number of the version with this digest."""
        with self.notebook.reading() as database:
            row = database.execute(
                "SELECT number FROM versions WHERE user = ? AND digest = ?", (user, digest)
            ).fetchone()
        return None if row is None else int(row[0])

    def numbered(self, user: str, digest: str) -> int:
        """The number of the version with this digest; of a shift that is not kept here, the one it is kept as next."""
        with self.notebook.reading() as database:
            return self.number_of(user, digest) or _next(database, user)

    def stored(self, user: str, number: int) -> StoredShift:
        """The shift of a version.

        Raises:
            UnknownUserError: The user has no such version.
            DamagedError: It is not as it was written.
        """
        with self.notebook.reading() as database:
            row = database.execute(
                "SELECT sha256, meta, created, payload FROM versions WHERE user = ? AND number = ?", (user, number)
            ).fetchone()
        if row is None:
            raise UnknownUserError(f"there is no version {number} of this user; GET versions lists those that are kept")
        try:
            content = self._content(user, number, *row)
        except GoneError:  # pruned or erased meanwhile, or lost
            if all(one.number != number for one in self.of(user)):
                return self.stored(user, number)
            raise
        show = self.notebook.keeper(user).show
        content, meta = show("versions.payload", content), show("versions.meta", row[1])
        return StoredShift(codec.decode(content, {}), codec.from_json(meta, "its record"))

    def _content(self, user: str, number: int, claimed: Any, meta: Any, created: Any, content: Any) -> bytes:
        """A payload as it was kept, fetched where it lies in an object."""
        if not codec.is_intact(user, claimed, meta, created, content):
            raise DamagedError(f"{self.notebook.path}: version {number} of a user is damaged; choose another version")
        if isinstance(content, bytes):
            return content
        if self.notebook.objects is None:
            raise DamagedError(
                f"{self.notebook.path}: version {number} of a user lies elsewhere, and nothing says where"
            )
        return self.notebook.objects.get(user, content)

    def move(self, to: Objects | None) -> None:
        """Move all payloads to objects, or from objects into the file; killed, the same call goes on. Nobody else writes.

        Raises:
            StoreError: One cannot be read or written.
        """
        kind = "text" if to is None else "blob"
        wanted = "rowid, user, number, sha256, meta, created, payload"
        query = f"SELECT {wanted} FROM versions WHERE typeof(payload) = ? LIMIT ?"
        while True:
            with self.notebook.writing() as database:
                rows = database.execute(query, (kind, TOGETHER)).fetchall()
                owned = [(user, self._content(user, *row)) for _, user, *row in rows]
                contents: Sequence[bytes | str] = [one for _, one in owned] if to is None else to.put(owned)
                for (place, user, _, _, meta, created, _), content in zip(rows, contents, strict=True):
                    seal = codec.checksum(user, content, meta, created)
                    database.execute(
                        "UPDATE versions SET payload = ?, sha256 = ? WHERE rowid = ?", (content, seal, place)
                    )
            if not rows:
                return

    def referred(self) -> set[str]:
        """The names of all objects that versions refer to.

        Raises:
            DamagedError: A reference is none.
        """
        objects = self.notebook.objects
        if objects is None:
            return set()
        with self.notebook.reading() as database:
            rows = database.execute("SELECT user, payload FROM versions WHERE typeof(payload) = 'text'").fetchall()
        return {objects.called(*row) for row in rows}

    def digests(self) -> set[str]:
        """The digests of all versions of all users, for whoever checks a receipt."""
        with self.notebook.reading() as database:
            return {row[0] for row in database.execute("SELECT digest FROM versions")}


def _next(database: sqlite3.Connection, user: str) -> int:
    row = database.execute("SELECT coalesce(max(number), 0) + 1 FROM versions WHERE user = ?", (user,)).fetchone()
    return int(row[0])
