"""Rows of a store: read and written whole, each payload in its row or in an object that the row refers to."""

from __future__ import annotations

import sqlite3
import threading
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from perfit.errors import DamagedError, StoreError
from perfit.shown import shown
from perfit.store import payload as codec
from perfit.store.connection import OwnConnection
from perfit.store.database import faults, transaction
from perfit.store.description import Description
from perfit.store.objects import GoneError, Objects
from perfit.store.payload import StoredShift

if TYPE_CHECKING:
    import torch

_UPSERT = (
    "INSERT INTO users (user_id, sha256, meta, created, payload) VALUES (?, ?, ?, ?, ?) "
    "ON CONFLICT (user_id) DO UPDATE SET sha256 = excluded.sha256, meta = excluded.meta, created = excluded.created, "
    "payload = excluded.payload"
)


class Row(NamedTuple):
    """A user's row with the payload itself, hidden where the store hides."""

    user: str
    meta: str
    created: str
    payload: bytes


class Rows:
    """The rows of a store's file.

    Attributes:
        path: The file.
        about: What the store says of itself.
        sizes: What it demands of every shift.

    Args:
        path: The file.
        connection: To it.

    Raises:
        DamagedError: The description is not as it was written.
    """

    def __init__(self, path: Path, connection: OwnConnection):
        self.path, self._connection = path, connection
        with faults(path):
            meta = dict(connection.database.execute("SELECT key, value FROM meta").fetchall())
        self.about = Description.read(path, meta)
        self.sizes = codec.sizes_of(self.about.identity, self.about.spec)
        connection.limit(codec.most_bytes(self.sizes))

    @property
    def database(self) -> sqlite3.Connection:
        """This process's connection."""
        return self._connection.database

    @property
    def lock(self) -> threading.RLock:
        """What the threads of this process take."""
        return self._connection.lock

    @contextmanager
    def using(self) -> Iterator[sqlite3.Connection]:
        """The connection to oneself within this process, every fault a StoreError."""
        with self.lock, faults(self.path):
            yield self.database

    @contextmanager
    def writing(self) -> Iterator[sqlite3.Connection]:
        """All or nothing.

        Raises:
            StoreError: The file was replaced, or its rows are kept in another way by now.
        """
        with self.using() as database, transaction(database):
            self._connection.require_same_file()
            if not self.about.is_in(database):
                raise StoreError(f"{self.path}: was encrypted or moved while it was open; open it again")
            yield database

    def row_of(self, user: str, tensors: Mapping[str, torch.Tensor], meta: Mapping[str, Any]) -> Row:
        """A shift as a row of this store.

        Raises:
            StoreError: It is none of this store; the message names the user.
        """
        codec.require_id(user)
        try:
            payload, text = codec.encode(tensors, self.about.dtype, self.sizes), codec.to_json(meta, "meta")
        except StoreError as error:
            raise StoreError(f"user '{shown(user)}': {error}") from error
        if self.about.data_keys is not None:
            key = self.about.data_keys.of(user, new=True)
            text, payload = key.hide("meta", text), key.hide("shift", payload)
        return Row(user, text, datetime.now(UTC).isoformat(timespec="seconds"), payload)

    def write(self, rows: Sequence[Row], objects: Objects | None) -> None:
        """Write rows in the transaction that is open; objects first, so that no row ever lacks its own.

        Args:
            rows: A few: all payloads are in memory.
            objects: Where the payloads go; None: into the rows.

        Raises:
            StoreError: The objects cannot be written.
        """
        payloads: Sequence[bytes | str] = [row.payload for row in rows]
        if objects is not None:
            payloads = objects.put([(row.user, row.payload) for row in rows])
        for row, kept in zip(rows, payloads, strict=True):
            seal = codec.checksum(row.user, kept, row.meta, row.created)
            self.database.execute(_UPSERT, (row.user, seal, row.meta, row.created, kept))

    def row(self, user: object) -> tuple[Any, ...] | None:
        """A user's row as it stands in the file: checksum, record, date, payload or reference; None where there is none.

        Raises:
            DamagedError: The index has lost it.
        """
        query = "SELECT sha256, meta, created, payload FROM users {} WHERE user_id = ?"
        with self.using() as database:
            self._connection.require_same_file()
            row = None
            if codec.is_text(user):
                row = database.execute(query.format(""), (user,)).fetchone()
                if row is None and database.execute(query.format("NOT INDEXED"), (user,)).fetchone():
                    # The row is there but the index has lost it: not an unknown user.
                    raise self.damaged(str(user))
        return None if row is None else tuple(row)

    def read(self, user: str, claimed: Any, meta: Any, created: Any, payload: Any) -> Row:
        """What ``row`` gave as it was written, an object it refers to fetched; nobody waits for that but the caller.

        Raises:
            GoneError: The object is not there.
            DamagedError: A part is not as it was written.
            StoreError: The object cannot be read now.
        """
        if not codec.is_intact(user, claimed, meta, created, payload):
            raise self.damaged(user)
        if isinstance(payload, str):
            try:
                if self.about.objects is None:
                    raise DamagedError("its payload lies elsewhere, and nothing says where")
                payload = self.about.objects.get(user, payload)
            except GoneError:
                raise
            except DamagedError as error:
                raise self.unusable(user, error) from error
        return Row(user, meta, created, payload)

    def stored(self, user: str, *row: Any) -> StoredShift:
        """What ``row`` gave as a shift, everything about it checked: whoever made the file may have written its checksum, too.

        Raises:
            StoreError: As ``read``.
        """
        _, meta, _, payload = self.read(user, *row)
        try:
            if self.about.data_keys is not None:
                key = self.about.data_keys.of(user)
                meta, payload = key.show("meta", meta), key.show("shift", payload)
            tensors = codec.decode(payload, self.sizes, self.about.dtype)
            return StoredShift(tensors, codec.from_json(meta, "its record"))
        except StoreError as error:
            raise self.unusable(user, error) from error

    def find(self, user: object) -> StoredShift | None:
        """A user's shift; None where there is none.

        Raises:
            StoreError: As ``read``.
        """
        row = self.row(user)
        while row is not None:
            try:
                return self.stored(str(user), *row)
            except GoneError as error:
                # Between the two looks the user may have been erased, or got another shift and the old object been swept.
                before, row = row, self.row(user)
                if row == before:
                    raise self.unusable(str(user), error) from error
        return None

    def references(self) -> list[tuple[str, str]]:
        """Users and references, of all rows whose payload lies outside the file."""
        with self.using() as database:
            return database.execute("SELECT user_id, payload FROM users WHERE typeof(payload) = 'text'").fetchall()

    def damaged(self, user: str) -> DamagedError:
        """What is said of a row that is not as it was written."""
        return DamagedError(
            f"{self.path}: the shift of user '{shown(user)}' is damaged; personalise again, or restore a copy"
        )

    def unusable(self, user: str, why: StoreError) -> DamagedError:
        """What is said of a payload that cannot be used."""
        return DamagedError(f"{self.path}: the shift of user '{shown(user)}' cannot be used: {why}")
