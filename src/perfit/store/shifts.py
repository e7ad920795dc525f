"""The personal shifts of many users in one file."""

from __future__ import annotations

import contextlib
import difflib
import sqlite3
import threading
from collections.abc import Iterable, Iterator, Mapping
from itertools import islice
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self

from perfit.errors import DamagedError, StoreError, UnknownUserError
from perfit.shown import shown
from perfit.store import database, erasure, whole
from perfit.store import payload as codec
from perfit.store.connection import OwnConnection
from perfit.store.data_keys import DataKeys
from perfit.store.description import new_meta, require_base
from perfit.store.export import read_export, write_export
from perfit.store.objects import TOGETHER, Objects
from perfit.store.payload import StoredShift
from perfit.store.rows import Rows

if TYPE_CHECKING:
    import torch

# Beyond this many ids a search for similar ones would keep the caller waiting.
_NEAR_LIMIT = 5_000


class ShiftStore:
    """Users' shifts at rest: an SQLite file of safetensors payloads, each with a checksum, or of references to objects.

    Killing a writer at any moment leaves every committed user intact. Several processes may read while one writes. One
    object may be used from several threads. User ids are data: any non-empty text, compared exactly, never a path.

    Attributes:
        path: The file.
    """

    def __init__(self, path: Path, connection: sqlite3.Connection, readonly: bool):
        """Use :meth:`create` or :meth:`open`."""
        self.path, self._rows = path, Rows(path, OwnConnection(path, connection, readonly))

    @property
    def identity(self) -> dict[str, Any]:
        """The base model the shifts belong to."""
        return self._rows.about.identity

    @property
    def spec(self) -> dict[str, Any]:
        """What kind of shifts they are (layers, rank, positions, ...)."""
        return self._rows.about.spec

    @property
    def dtype(self) -> str:
        """``bf16`` or ``fp32``, how payloads are stored."""
        return self._rows.about.dtype

    @property
    def data_keys(self) -> DataKeys | None:
        """What payloads and records are hidden with; None where they are not."""
        return self._rows.about.data_keys

    @property
    def objects(self) -> Objects | None:
        """Where payloads lie; None where they lie in the file."""
        return self._rows.about.objects

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
        count, left = 0, iter(entries)
        together = 1 if self.objects is None else TOGETHER
        with self._rows.writing():
            while rows := [self._rows.row_of(*entry) for entry in islice(left, together)]:
                self._rows.write(rows, self.objects)
                count += len(rows)
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
        return self._rows.find(user)

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
        """Erase one user: no byte of id or shift stays in any file of the store, its journals and free pages included, nor in
        any object.

        The whole file is written anew, which takes seconds where it has gigabytes, and other writers wait. Copies outside
        (backups, snapshots and unused blocks of the file system, a bucket's old versions, exports) are not reached.

        Raises:
            UnknownUserError: Nothing is stored for this id.
            StoreError: The file is damaged, or could not be written anew: the user is gone, and the next opening for
                writing finishes the overwriting. Or objects are left: the same call removes them.
        """
        with self._lock, database.faults(self.path):
            erasure.finish(self.path, self._database)
            known = codec.is_text(user) and erasure.erase(self.path, self._database, user)
        # The row first: whoever asks now is told that the user is gone, although the bucket may not answer.
        if self.objects is not None and (known or self.has_objects(user)):
            self.objects.erase(user)
        elif not known:
            raise self._unknown(user)

    def has_objects(self, user: str) -> bool:
        """Whether anything of a user lies outside the file, referred to or not.

        Raises:
            StoreError: It cannot be looked at.
        """
        return self.objects is not None and codec.is_text(user) and bool(self.objects.of(user))

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
        if not bad:
            self.check_file()
        return bad

    def check_file(self) -> None:
        """Look at the pages of a file in which every user can be read.

        Raises:
            StoreError: They are damaged in a way that cannot be pinned on users.
        """
        with self._lock, database.faults(self.path):
            report = self._database.execute("PRAGMA integrity_check(3)").fetchall()
        if report != [("ok",)]:
            raise StoreError(f"{self.path}: {report[0][0]}; every user is readable: copy them to a new store")

    def damage(self) -> dict[str, str]:
        """What is wrong with whose shift, by ids, in words that name nobody; nothing where all is well.

        Raises:
            StoreError: The file cannot be read, or the objects cannot be reached.
        """
        return whole.damage(self._rows)

    def hide(self, keys: DataKeys) -> None:
        """Hide every user's row with a key of their own, from now on too; no byte of before stays in the file.

        Raises:
            StoreError: A row is damaged, the file cannot be written, or payloads lie outside it; nothing is changed then.
        """
        whole.hide(self._rows, self.users(), keys)

    def move_out(self, url: str) -> None:
        """Put payloads into objects, those there are and those to come; killed, the same call goes on.

        Args:
            url: ``s3://bucket/prefix``.

        Raises:
            ConfigError: It is no place for objects.
            StoreError: They lie elsewhere already, a row is damaged, or something cannot be written.
            MissingExtraError: ``perfit[object-storage]`` is not installed.
        """
        whole.move_out(self._rows, url)

    def move_in(self) -> None:
        """Take payloads back into the file, and remove all objects; killed, the same call goes on.

        Raises:
            StoreError: A payload cannot be read, or something cannot be written.
        """
        whole.move_in(self._rows)

    @contextlib.contextmanager
    def alone(self) -> Iterator[None]:
        """Nobody else writes until the end of the block."""
        with self._rows.writing():
            yield

    def referred(self) -> set[str]:
        """The names of all objects that rows refer to.

        Raises:
            DamagedError: A reference is none.
        """
        objects = self.objects
        return set() if objects is None else {objects.called(*row) for row in self._rows.references()}

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
        return self._rows.database

    @property
    def _lock(self) -> threading.RLock:
        return self._rows.lock

    def _unknown(self, user: object) -> UnknownUserError:
        near = difflib.get_close_matches(str(user), self.users()[:_NEAR_LIMIT], n=3)
        names = ", ".join(f"'{shown(name)}'" for name in near)
        hint = f"; similar ids: {names}" if near else ""
        return UnknownUserError(f"no shift is stored for user '{shown(user)}' in {self.path}{hint}")
