"""Who was erased from a folder: kept as keyed hashes, so that nobody comes back by accident and no id is kept for it."""

from __future__ import annotations

import hashlib
import hmac
import secrets
from collections.abc import Iterable
from pathlib import Path

from perfit.data.schema import User
from perfit.durable.records import read_record, write_record
from perfit.errors import StoreError

FILE = "erased.json"
BEGUN, DONE = "begun", "done"
_FORMAT = 1
_MEND = "restore it, or erased users may come back"


class Tombstones:
    """``erased.json`` of a run or a comparison.

    The key lies beside the hashes: whoever has the folder and an id can see whether that id was erased, and nobody can
    read the ids out of it.

    Args:
        folder: The folder.

    Raises:
        StoreError: The file is damaged.
    """

    def __init__(self, folder: Path):
        self.path = folder / FILE
        self._key, self._states = self._read()

    def __len__(self) -> int:
        """How many were erased."""
        return len(self._states)

    def __contains__(self, user: str) -> bool:
        """Whether this user was erased, or is being."""
        return self.state(user) is not None

    def state(self, user: str) -> str | None:
        """``BEGUN``, ``DONE``, or None where the user was not erased."""
        return self._states.get(self._mark(user)) if self._states else None

    def count(self, state: str) -> int:
        """How many erasures are ``BEGUN`` or ``DONE``."""
        return list(self._states.values()).count(state)

    def living(self, users: Iterable[User]) -> tuple[User, ...]:
        """The users who were not erased."""
        return tuple(user for user in users if user.id not in self)

    def marks(self, users: Iterable[User]) -> list[str]:
        """The hashes of those who were erased, sorted."""
        return sorted(self._mark(user.id) for user in users if user.id in self)

    def put(self, user: str, state: str) -> None:
        """Keep how far a user's erasure is; on return it is on the disk."""
        self._states[self._mark(user)] = state
        self._write()

    def lift(self, user: str) -> None:
        """Forget that a user was erased: somebody has added them again."""
        if user in self:
            del self._states[self._mark(user)]
            self._write()

    def _mark(self, user: str) -> str:
        return hmac.new(bytes.fromhex(self._key), user.encode(errors="surrogatepass"), hashlib.sha256).hexdigest()

    def _write(self) -> None:
        write_record(self.path, {"format": _FORMAT, "key": self._key, "users": self._states})

    def _read(self) -> tuple[str, dict[str, str]]:
        if not self.path.exists():
            return secrets.token_hex(32), {}
        content = read_record(self.path, missing="not found", mend=_MEND)
        if content.get("format") != _FORMAT:
            raise StoreError(f"{self.path}: is of another format than {_FORMAT}; use the perfit that wrote it")
        return content["key"], content["users"]
