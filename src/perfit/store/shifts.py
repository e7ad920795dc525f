"""The personal shifts of many users in one file."""

from __future__ import annotations

import contextlib
import difflib
import sqlite3
import threading
from collections.abc import Iterable, Mapping
from datetime import UTC, datetime
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self

from perfit.errors import DamagedError, StoreError, UnknownUserError
from perfit.shown import shown
from perfit.store import database, erasure
from perfit.store import payload as codec
from perfit.store.connection import OwnConnection
from perfit.store.data_keys import DataKeys
from perfit.store.description import DATA_KEYS, Description, new_meta, require_base, sealed_meta
from perfit.store.export import read_export, write_export
from perfit.store.payload import StoredShift

if TYPE_CHECKING:
    import torch

_UPSERT = (
    "INSERT INTO users (user_id, sha256, meta, created, payload) VALUES (?, ?, ?, ?, ?) "
    "ON CONFLICT (user_id) DO UPDATE SET sha256 = excluded.sha256, meta = excluded.meta, created = excluded.created, "
    "payload = excluded.payload"
)
# Beyond this many ids a search for similar ones would keep the caller waiting.
_NEAR_LIMIT = 5_000


class ShiftStore:
    """Users' shifts at rest: an SQLite file of safetensors payloads, each with a checksum.

    Killing a writer at any moment leaves every committed user intact. Several processes may read while one writes. One
    object may be used from several threads. User ids are data: any non-empty text, compared exactly, never a path.

    Attributes:
        path: The file.
        identity: The base model the shifts belong to.
        spec: What kind of shifts they are (layers, rank, positions, ...).
        dtype: ``bf16`` or ``fp32``, how payloads are stored.
        data_keys: What payloads and records are hidden with; None where they are not.
    """

    def __init__(self, path: Path, connection: sqlite3.Connection, readonly: bool):
        """Use :meth:`create` or :meth:`open`."""
        self.path = path
        self._own = OwnConnection(path, connection, readonly)
        about = self._described()
        self.identity, self.spec, self.dtype, self.data_keys = about.identity, about.spec, about.dtype, about.data_keys
        self._sizes = codec.sizes_of(self.identity, self.spec)
        self._own.limit(codec.most_bytes(self._sizes))

    @classmethod
    def create(
        cls, path: str | Path, identity: Mapping[str, Any], spec: Mapping[str, Any], *, dtype: str = "bf16"
    ) -> ShiftStore:
        """Make an empty store and open it.

        Args:
            path: A file that does not exist yet.
            identity: The base model, e.g. ``BaseIdentity.as_dict()``; its ``hidden_size`` is demanded of every shift.
            spec: Plain JSON values; ``rank`` (int) and ``layers`` (int or list), if there, are demanded of every shift.
            dtype: ``bf16`` or ``fp32``.

        Raises:
            StoreError: The file exists, cannot be written, or an argument is not plain JSON.
        """
        database.create(Path(path), new_meta(identity, spec, dtype))
        return cls.open(path)

    @classmethod
    def open(cls, path: str | Path, identity: Mapping[str, Any] | None = None, readonly: bool = False) -> ShiftStore:
        """Open a store.

        Args:
            path: The file.
            identity: The base model at hand; None skips the comparison.
            readonly: Refuse changes.

        Raises:
            StoreError: Missing, damaged, not a store, another format, or made for another base model.
        """
        path = Path(path)
        connection = database.connect(path, readonly)
        try:
            store = cls(path, connection, readonly)
            if identity is not None:
                require_base(store.identity, identity, str(path))
            if not readonly and not path.is_symlink():
                store._finish_erasing()
        except BaseException:
            connection.close()
            raise
        return store

    def put(self, user: str, tensors: Mapping[str, torch.Tensor], meta: Mapping[str, Any] | None = None) -> None:
        """Store one user's shift, replacing an older one; on return it is on the disk.

        Args:
            user: Any non-empty text.
            tensors: ``R`` [L, r, d], ``D`` = W - R [L, r, d], ``b`` [L, r].
            meta: Plain JSON values to keep with it.

        Raises:
            StoreError: Wrong shapes, values that are not finite, an impossible id, or the file cannot be written.
        """
        self.put_many([(user, tensors, meta or {})])

    def put_many(self, entries: Iterable[tuple[str, Mapping[str, torch.Tensor], Mapping[str, Any]]]) -> int:
        """Store many ``(user, tensors, meta)`` in one transaction: all of them, or none if one is refused.

        Other writers wait until ``entries`` is exhausted, so do not train inside the iterator.

        Returns:
            How many were stored.

        Raises:
            StoreError: As :meth:`put`; the message names the user.
        """
        count = 0
        with self._lock, database.faults(self.path), database.transaction(self._database):
            self._own.require_same_file()
            for user, tensors, meta in entries:
                codec.require_id(user)
                try:
                    payload, text = codec.encode(tensors, self.dtype, self._sizes), codec.to_json(meta, "meta")
                except StoreError as error:
                    raise StoreError(f"user '{shown(user)}': {error}") from error
                created = datetime.now(UTC).isoformat(timespec="seconds")
                text, payload = self._hidden(user, text, payload)
                row = (user, codec.checksum(user, payload, text, created), text, created, payload)
                self._database.execute(_UPSERT, row)
                count += 1
        return count

    def get(self, user: str) -> StoredShift:
        """Read one user's shift.

        Raises:
            UnknownUserError: Nothing is stored for this id; the message names similar ids.
            StoreError: What is stored for this user is damaged. Other users are not affected.
        """
        stored = self.find(user)
        if stored is None:
            raise self._unknown(user)
        return stored

    def find(self, user: object) -> StoredShift | None:
        """One user's shift, or None where nothing is stored for this id.

        Raises:
            StoreError: What is stored for this user is damaged, or is no shift of this store.
        """
        row = self._row(user)
        if row is None:
            return None
        return self._stored(str(user), *row)

    def _stored(self, user: str, claimed: Any, meta: Any, created: Any, payload: Any) -> StoredShift:
        """A row as a shift, everything about it checked: whoever made the file may have written its checksum, too."""
        if not codec.is_intact(user, claimed, meta, created, payload):
            raise self._damaged(user)
        try:
            if self.data_keys is not None:
                key = self.data_keys.of(user)
                meta, payload = key.show("meta", meta), key.show("shift", payload)
            return StoredShift(codec.decode(payload, self._sizes, self.dtype), codec.from_json(meta, "its record"))
        except StoreError as error:
            raise DamagedError(f"{self.path}: the shift of user '{shown(user)}' cannot be used: {error}") from error

    def users(self) -> list[str]:
        """All user ids, sorted."""
        with self._lock, database.faults(self.path):
            names = [row[0] for row in self._database.execute("SELECT user_id FROM users ORDER BY user_id")]
        if not all(isinstance(name, str) for name in names):
            raise DamagedError(f"{self.path}: an id is no text; restore a copy")
        return names

    def __contains__(self, user: object) -> bool:
        """Whether a shift is stored for this id."""
        if not codec.is_text(user):
            return False
        with self._lock, database.faults(self.path):
            found = self._database.execute("SELECT 1 FROM users WHERE user_id = ?", (user,)).fetchone()
        return found is not None

    def __len__(self) -> int:
        """How many users are stored."""
        with self._lock, database.faults(self.path):
            return int(self._database.execute("SELECT count(*) FROM users").fetchone()[0])

    def delete(self, user: str) -> None:
        """Erase one user: no byte of id or shift stays in any file of the store, its journals and free pages included.

        The whole file is written anew, which takes seconds where it has gigabytes, and other writers wait. Copies outside
        (backups, snapshots and unused blocks of the file system, exports) are not reached.

        Raises:
            UnknownUserError: Nothing is stored for this id.
            StoreError: The file is damaged, or could not be written anew: the user is gone, and the next opening for
                writing finishes the overwriting.
        """
        with self._lock, database.faults(self.path):
            erasure.finish(self.path, self._database)
            if not codec.is_text(user) or not erasure.erase(self.path, self._database, user):
                raise self._unknown(user)

    def _finish_erasing(self) -> None:
        # A store that is in use or on a full disk can be used all the same; the next opening tries again.
        with self._lock, database.faults(self.path), contextlib.suppress(sqlite3.OperationalError):
            erasure.finish(self.path, self._database)

    def export_user(self, user: str, path: str | Path) -> None:
        """Write one user's shift as a safetensors file that names its user, base model and spec.

        Raises:
            UnknownUserError: Nothing is stored for this id.
            StoreError: It is damaged, or the file cannot be written.
        """
        stored = self.get(user)
        parts = {"identity": self.identity, "spec": self.spec, "meta": stored.meta}
        write_export(Path(path), user, stored.tensors, parts)

    def import_user(self, path: str | Path, user: str | None = None, overwrite: bool = False) -> str:
        """Take in a file that :meth:`export_user` wrote.

        Args:
            path: The file.
            user: The id to store it under; None keeps the one in the file.
            overwrite: Replace a shift that is stored already.

        Returns:
            The id it is stored under.

        Raises:
            StoreError: Damaged, not such a file, for another base model or spec, or the user exists already.
        """
        inside, tensors, parts = read_export(Path(path))
        name = inside if user is None else user
        require_base(self.identity, parts["identity"], str(path))
        if differs := codec.differences(parts["spec"], self.spec):
            raise StoreError(f"{path} holds another kind of shift: {differs}")
        with self._lock:
            if not overwrite and name in self:
                raise StoreError(
                    f"user '{shown(name)}' is stored already; to replace it give overwrite=True (on the command line --overwrite)"
                )
            self.put(name, tensors, parts["meta"])
        return name

    def verify(self) -> list[str]:
        """Read everything; return the ids whose shift is damaged (sorted; empty when all is well).

        Raises:
            StoreError: The file is damaged in a way that cannot be pinned on users.
        """
        bad = sorted(self.damage())
        with self._lock, database.faults(self.path):
            report = self._database.execute("PRAGMA integrity_check(3)").fetchall()
        if not bad and report != [("ok",)]:
            raise StoreError(f"{self.path}: {report[0][0]}; every user is readable: copy them to a new store")
        return bad

    def damage(self) -> dict[str, str]:
        """What is wrong with whose shift, by ids, in words that name nobody; nothing where all is well.

        Raises:
            StoreError: The file cannot be read.
        """
        with self._lock, database.faults(self.path):
            rows = self._database.execute(
                "SELECT CAST(user_id AS BLOB), sha256, meta, created, payload FROM users NOT INDEXED"
            )
            bad, seen = dict[str, str](), set()
            for raw, *rest in rows:
                user = bytes(raw).decode(errors="replace")
                seen.add(user)
                try:
                    self._stored(user, *rest)
                except StoreError as error:
                    # Of a cause it is the codec that speaks, which knows no users.
                    why = f"cannot be used: {error.__cause__}" if error.__cause__ else "is not as it was written"
                    bad[user] = f"its shift {why}"
            lost = seen ^ set(self.users())
        return bad | dict.fromkeys(lost, "its shift is lost to the index")

    def hide(self, keys: DataKeys) -> None:
        """Hide every user's row with a key of their own, from now on too; no byte of before stays in the file.

        Raises:
            StoreError: A row is damaged, or the file cannot be written; nothing is changed then.
        """
        keys.make(self.users())
        with self._lock, database.faults(self.path), erasure.without_traces(self.path, self._database):
            with database.transaction(self._database):
                texts = {**self._described().texts, DATA_KEYS: keys.text()}
                for user in self.users():
                    claimed, meta, created, payload = self._row(user) or (None,) * 4
                    if not codec.is_intact(user, claimed, meta, created, payload):
                        raise self._damaged(user)
                    key = keys.of(user)
                    text, hidden = key.hide("meta", meta), key.hide("shift", payload)
                    row = (user, codec.checksum(user, hidden, text, created), text, created, hidden)
                    self._database.execute(_UPSERT, row)
                meta = sealed_meta(texts) | {erasure.PENDING: ""}
                self._database.executemany("INSERT OR REPLACE INTO meta VALUES (?, ?)", sorted(meta.items()))
                self._database.execute(f"PRAGMA user_version = {database.HIDDEN}")
            erasure.rewrite(self._database)
        self.data_keys = keys

    def _hidden(self, user: str, meta: str, payload: bytes) -> tuple[str, bytes]:
        if self.data_keys is None:
            return meta, payload
        key = self.data_keys.of(user, new=True)
        return key.hide("meta", meta), key.hide("shift", payload)

    def free_bytes(self) -> int:
        """Bytes of pages that hold nothing."""
        with self._lock, database.faults(self.path):
            return database.free_bytes(self._database)

    def compact(self) -> None:
        """Write the file anew, without free pages.

        Raises:
            StoreError: It cannot be written.
        """
        with self._lock, database.faults(self.path):
            erasure.compact(self.path, self._database)

    def close(self) -> None:
        """Close the file; using the store afterwards is a StoreError."""
        with self._lock:  # another thread may be in the middle of reading
            self._database.close()

    def __enter__(self) -> Self:
        """Use as a context manager: closed at the end."""
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Close the file."""
        self.close()

    @property
    def _database(self) -> sqlite3.Connection:
        return self._own.database

    @property
    def _lock(self) -> threading.RLock:
        return self._own.lock

    def _described(self) -> Description:
        with database.faults(self.path):
            meta = dict(self._database.execute("SELECT key, value FROM meta").fetchall())
        return Description.read(self.path, meta)

    def _row(self, user: object) -> tuple[Any, ...] | None:
        query = "SELECT sha256, meta, created, payload FROM users {} WHERE user_id = ?"
        with self._lock, database.faults(self.path):
            self._own.require_same_file()
            row = None
            if codec.is_text(user):
                row = self._database.execute(query.format(""), (user,)).fetchone()
                if row is None and self._database.execute(query.format("NOT INDEXED"), (user,)).fetchone():
                    # The row is there but the index has lost it: not an unknown user.
                    raise self._damaged(str(user))
        return None if row is None else tuple(row)

    def _damaged(self, user: str) -> StoreError:
        return DamagedError(
            f"{self.path}: the shift of user '{shown(user)}' is damaged; personalise again, or restore a copy"
        )

    def _unknown(self, user: object) -> UnknownUserError:
        near = difflib.get_close_matches(str(user), self.users()[:_NEAR_LIMIT], n=3)
        names = ", ".join(f"'{shown(name)}'" for name in near)
        hint = f"; similar ids: {names}" if near else ""
        return UnknownUserError(f"no shift is stored for user '{shown(user)}' in {self.path}{hint}")
