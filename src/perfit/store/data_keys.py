"""A key for each user, in a file outside the data: without it, what is kept of the user cannot be read in any copy.

The file holds each user's key wrapped by the run's own, which lies in ``FILE.key`` or in ``PERFIT_DATA_KEY``, and under a
keyed digest of the id. What is kept of a user is hidden with AES-SIV (RFC 5297): nothing of it can be read or changed
without the key, and equal texts of one user are equal hidden, so that they can be looked for.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import hmac
import json
import os
import secrets
import sqlite3
from collections.abc import Iterable, Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol, TypeVar

from perfit.durable.files import write_atomically
from perfit.durable.records import NotAsWrittenError, parse_object
from perfit.errors import ConfigError, DamagedError, StoreError
from perfit.extras import import_extra
from perfit.private import private_file
from perfit.store.database import faults, journal_of, set_modes, tidy, transaction
from perfit.store.erasure import without_traces

FILE, KEY = "PERFIT_DATA_KEYS", "PERFIT_DATA_KEY"
"""Environment: where the file of keys lies, if not where it lay; and the run's key in place of ``FILE.key``."""
_APPLICATION_ID = 0x5046444B
_BYTES = 64  # AES-256 twice, as SIV takes it
_BUSY_SECONDS = 30.0
_SCHEMA = """
CREATE TABLE meta (key TEXT PRIMARY KEY, value TEXT NOT NULL) WITHOUT ROWID;
CREATE TABLE keys (mark TEXT PRIMARY KEY, wrapped BLOB NOT NULL) WITHOUT ROWID;
"""
T = TypeVar("T", str, bytes)


class Keeper(Protocol):
    """Turns a user's texts and bytes into what is kept, and back."""

    def hide(self, what: str, value: T) -> T:
        """As it is kept; ``what`` says what it is."""
        ...

    def show(self, what: str, value: T) -> T:
        """The inverse of ``hide``.

        Raises:
            DamagedError: It is not what was hidden as this.
        """
        ...


class Plain:
    """Keeps everything as it is."""

    def hide(self, what: str, value: T) -> T:
        """See ``Keeper``."""
        return value

    def show(self, what: str, value: T) -> T:
        """See ``Keeper``."""
        return value


PLAIN = Plain()


class UserKey:
    """One user's key: what it hides opens for this user, as what it was hidden as, and as nothing else.

    Args:
        siv: The cipher with the key.
        user: Whose.
    """

    def __init__(self, siv: Any, user: str):
        self._siv, self._user = siv, user.encode(errors="surrogatepass")

    def hide(self, what: str, value: T) -> T:
        """See ``Keeper``; text becomes text."""
        content = b"\1" + (value.encode() if isinstance(value, str) else value)  # the cipher takes nothing empty
        hidden: bytes = self._siv.encrypt(content, [self._user, what.encode()])
        return base64.b64encode(hidden).decode() if isinstance(value, str) else hidden

    def show(self, what: str, value: T) -> T:
        """See ``Keeper``."""
        invalid = import_extra("cryptography.exceptions", "cryptography", "encrypted").InvalidTag
        try:
            hidden = base64.b64decode(value, validate=True) if isinstance(value, str) else value
            content: bytes = self._siv.decrypt(hidden, [self._user, what.encode()])[1:]
            return content.decode() if isinstance(value, str) else content
        except (invalid, binascii.Error, ValueError):
            raise DamagedError(
                "what is kept of a user does not open with their data key; restore a copy, or train the user again"
            ) from None


@dataclass(frozen=True)
class DataKeys:
    """The users' keys of a run, and what is hidden with them. Nothing is kept open: any thread or child may use it.

    Attributes:
        path: The file.
        identity: Which file of keys it must be.
    """

    path: Path
    identity: str

    @classmethod
    def create(cls, path: Path, run: str) -> DataKeys:
        """Make a file of keys, or take up one that was made for the same run.

        Args:
            path: Where; with it ``FILE.key`` is made, unless the run's key is in the environment.
            run: What the run is known by.

        Raises:
            StoreError: It is another run's, or cannot be written.
            MissingExtraError: ``perfit[encrypted]`` is not installed.
        """
        path = path.resolve()
        if not path.exists():
            key_file = _key_file(path)
            with faults(path):
                if KEY not in os.environ and not key_file.exists():
                    write_atomically(key_file, secrets.token_bytes(_BYTES).hex().encode(), new=True)
                identity, wrapping = secrets.token_hex(16), _siv(_run_key(path))
                private_file(path)
                with closing(_connect(path)) as database, transaction(database):
                    for statement in _SCHEMA.split(";"):
                        database.execute(statement)
                    check = base64.b64encode(wrapping.encrypt(b"perfit", [identity.encode()])).decode()
                    rows = {"identity": identity, "check": check, "run": run}
                    database.executemany("INSERT INTO meta VALUES (?, ?)", rows.items())
                    database.execute(f"PRAGMA application_id = {_APPLICATION_ID}")
        with _opened(path) as (_, house):
            if house["run"] != run:
                raise StoreError(f"{path}: holds the data keys of another run; choose another --data-keys")
            return cls(path, house["identity"])

    @classmethod
    def of_text(cls, text: str) -> DataKeys:
        """The inverse of ``text``.

        Raises:
            DamagedError: It is none.
        """
        try:
            content = parse_object(text.encode())
            return cls(Path(content["file"]), str(content["identity"]))
        except (NotAsWrittenError, KeyError, TypeError):
            raise DamagedError("the note of where the data keys lie is damaged; restore a copy") from None

    def text(self) -> str:
        """Where the file lies and which it is, as the data note it."""
        return json.dumps({"file": str(self.path), "identity": self.identity})

    @property
    def file(self) -> Path:
        """Where the file lies now."""
        return Path(os.environ.get(FILE) or self.path)

    def of(self, user: str, *, new: bool = False) -> UserKey:
        """A user's key, to hide and to show with.

        Args:
            user: Whose.
            new: Make one where there is none.

        Raises:
            StoreError: There is none, or the run's key does not open it.
        """
        return UserKey(_siv(self._key(user, new)), user)

    def has(self, user: str) -> bool:
        """Whether the user has a key."""
        with self._use() as (database, wrapping):
            return (
                database.execute("SELECT 1 FROM keys WHERE mark = ?", (_mark(wrapping, user),)).fetchone() is not None
            )

    def make(self, users: Iterable[str]) -> None:
        """Make keys for all who have none, in one write."""
        with self._use() as (database, wrapping), transaction(database):
            for user in users:
                if database.execute("SELECT 1 FROM keys WHERE mark = ?", (_mark(wrapping, user),)).fetchone() is None:
                    _make(database, wrapping, user)

    def destroy(self, user: str) -> None:
        """Destroy a user's key: no copy of the data can be read with what is left. No byte of it stays in the file."""
        with self._use() as (database, wrapping), without_traces(self.file, database):
            with transaction(database):
                database.execute("DELETE FROM keys WHERE mark = ?", (_mark(wrapping, user),))
            database.execute("VACUUM")

    def of_others(self, users: Iterable[str]) -> int:
        """How many keys are of nobody among these users."""
        with self._use() as (database, wrapping):
            return len(_others(database, wrapping, users))

    def destroy_others(self, users: Iterable[str]) -> None:
        """Destroy all keys that are of nobody among these users."""
        with self._use() as (database, wrapping), without_traces(self.file, database):
            with transaction(database):
                marks = [(mark,) for mark in _others(database, wrapping, users)]
                database.executemany("DELETE FROM keys WHERE mark = ?", marks)
            database.execute("VACUUM")

    def _key(self, user: str, new: bool) -> bytes:
        with self._use() as (database, wrapping):
            mark = _mark(wrapping, user)
            row = database.execute("SELECT wrapped FROM keys WHERE mark = ?", (mark,)).fetchone()
            if row is None and new:
                with transaction(database):
                    _make(database, wrapping, user)
                    row = database.execute("SELECT wrapped FROM keys WHERE mark = ?", (mark,)).fetchone()
            if row is None:
                raise StoreError(
                    f"{self.file}: has no data key of this user; they were erased, or it is an old copy of the file"
                )
            return _unwrapped(self.file, wrapping, row[0], mark.encode())

    @contextmanager
    def _use(self) -> Iterator[tuple[sqlite3.Connection, bytes]]:
        with _opened(self.file) as (database, house):
            if house["identity"] != self.identity:
                raise StoreError(f"{self.file}: holds the data keys of another run; set {FILE} to this run's")
            yield database, _run_key(self.file)


def _make(database: sqlite3.Connection, wrapping: bytes, user: str) -> None:
    mark = _mark(wrapping, user)
    wrapped = _siv(wrapping).encrypt(secrets.token_bytes(_BYTES), [mark.encode()])
    database.execute("INSERT OR IGNORE INTO keys VALUES (?, ?)", (mark, wrapped))


def _others(database: sqlite3.Connection, wrapping: bytes, users: Iterable[str]) -> set[str]:
    known = {_mark(wrapping, user) for user in users}
    return {mark for (mark,) in database.execute("SELECT mark FROM keys")} - known


def _mark(wrapping: bytes, user: str) -> str:
    return hmac.new(wrapping, b"user\0" + user.encode(errors="surrogatepass"), hashlib.sha256).hexdigest()


def _siv(key: bytes) -> Any:
    return import_extra("cryptography.hazmat.primitives.ciphers.aead", "cryptography", "encrypted").AESSIV(key)


def _unwrapped(path: Path, wrapping: bytes, wrapped: bytes, of: bytes) -> bytes:
    try:
        found: bytes = _siv(wrapping).decrypt(wrapped, [of])
        return found
    except (import_extra("cryptography.exceptions", "cryptography", "encrypted").InvalidTag, ValueError):
        raise StoreError(
            f"{path}: the run's key does not open it; set {KEY}, or restore {_key_file(path).name}, to the one it was made with"
        ) from None


def _key_file(path: Path) -> Path:
    return path.with_name(path.name + ".key")


def _run_key(path: Path) -> bytes:
    try:
        text = os.environ.get(KEY) or _key_file(path).read_text(encoding="ascii")
        found = bytes.fromhex(text.strip())
        if len(found) == _BYTES:
            return found
    except FileNotFoundError:
        raise StoreError(f"{_key_file(path)}: the run's key is not there; restore it, or set {KEY}") from None
    except (OSError, ValueError):
        pass
    where = KEY if os.environ.get(KEY) else str(_key_file(path))
    raise ConfigError(f"{where}: is no key; it must be {2 * _BYTES} hex digits")


def _connect(path: Path) -> sqlite3.Connection:
    database = sqlite3.connect(path, isolation_level=None, timeout=_BUSY_SECONDS)
    try:
        database.execute("PRAGMA trusted_schema = OFF")
        set_modes(database, left=journal_of(path).exists())
    except BaseException:
        database.close()
        raise
    return database


@contextmanager
def _opened(path: Path) -> Iterator[tuple[sqlite3.Connection, dict[str, str]]]:
    """A file of keys that the run's key opens."""
    if not path.is_file():
        raise StoreError(f"{path}: the file of data keys is not there; restore it, or set {FILE} to where it lies")
    with faults(path), closing(_connect(path)) as database:
        if database.execute("PRAGMA application_id").fetchone()[0] != _APPLICATION_ID:
            raise StoreError(f"{path}: is no file of data keys; set {FILE} to the one of this run")
        tidy(path, database)
        house = dict(database.execute("SELECT key, value FROM meta").fetchall())
        _unwrapped(path, _run_key(path), base64.b64decode(house["check"]), house["identity"].encode())
        yield database, house
