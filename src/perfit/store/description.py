"""What a store says of itself, in its table ``meta``: the base, the kind of shift, how payloads are kept; sealed."""

from __future__ import annotations

import hashlib
import json
import sqlite3
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from perfit.errors import DamagedError, StoreError
from perfit.store import database, erasure
from perfit.store import payload as codec
from perfit.store.data_keys import DataKeys
from perfit.store.objects import Objects

DATA_KEYS, OBJECTS = "data_keys", "objects"


@dataclass(frozen=True)
class Description:
    """What a store says of itself.

    Attributes:
        identity: The base model that the shifts belong to.
        spec: What kind of shifts they are (layers, rank, positions, ...).
        dtype: ``bf16`` or ``fp32``, how payloads are stored.
        data_keys: What payloads and records are hidden with; None where they are not.
        objects: Where payloads lie; None where they lie in the file.
        texts: The same as ``meta`` has it, without the checksum.
    """

    identity: dict[str, Any]
    spec: dict[str, Any]
    dtype: str
    data_keys: DataKeys | None
    objects: Objects | None
    texts: Mapping[str, str]

    @classmethod
    def read(cls, path: Path, meta: Mapping[str, str]) -> Description:
        """Of the rows of ``meta``.

        Args:
            path: The store's file, for errors.
            meta: Values by key.

        Raises:
            DamagedError: It is not as it was written.
        """
        texts = {key: value for key, value in meta.items() if key not in ("sha256", erasure.PENDING)}
        if (
            set(texts) - {DATA_KEYS, OBJECTS} != {"dtype", "identity", "spec"}
            or meta.get("sha256") != _checksum(texts)
            or texts["dtype"] not in codec.DTYPES
        ):
            raise DamagedError(f"{path}: the description of the store is damaged; restore a copy")
        return cls(
            codec.from_json(texts["identity"], f"{path}: the description of the base"),
            codec.from_json(texts["spec"], f"{path}: the description of the shifts"),
            texts["dtype"],
            DataKeys.of_text(texts[DATA_KEYS]) if DATA_KEYS in texts else None,
            Objects.of_text(texts[OBJECTS]) if OBJECTS in texts else None,
            texts,
        )

    def changed(self, path: Path, name: str, text: str | None) -> Description:
        """The same with another text under a name, or without it."""
        texts = {key: value for key, value in self.texts.items() if key != name}
        return Description.read(path, sealed_meta(texts if text is None else texts | {name: text}))

    def write(self, connection: sqlite3.Connection) -> None:
        """Put it into a file, in the transaction that is open, with the format that reads it."""
        stale = [(name,) for name in (DATA_KEYS, OBJECTS) if name not in self.texts]
        connection.executemany("DELETE FROM meta WHERE key = ?", stale)
        rows = sorted(sealed_meta(self.texts).items())
        connection.executemany("INSERT OR REPLACE INTO meta VALUES (?, ?)", rows)
        kept = database.FORMAT if self.data_keys is None else database.HIDDEN
        connection.execute(f"PRAGMA user_version = {kept if self.objects is None else database.ELSEWHERE}")

    def is_in(self, connection: sqlite3.Connection) -> bool:
        """Whether it is still the one of the file: another process may have hidden or moved all payloads."""
        found = connection.execute("SELECT value FROM meta WHERE key = 'sha256'").fetchone()
        return found is not None and found[0] == _checksum(self.texts)


def require_base(mine: Mapping[str, Any], other: Mapping[str, Any], where: str) -> None:
    """Refuse what belongs to another base.

    Args:
        mine: The base of the store.
        other: The base at hand, or of a file.
        where: What belongs to another one then, for the error.

    Raises:
        StoreError: They differ.
    """
    if differs := codec.differences(mine, json.loads(codec.to_json(other, "the identity"))):
        raise StoreError(f"{where} belongs to another base model: {differs}; use the base it was made with")


def sealed_meta(texts: Mapping[str, str]) -> dict[str, str]:
    """The rows of ``meta`` that say this, their checksum among them."""
    return {**texts, "sha256": _checksum(texts)}


def new_meta(identity: Mapping[str, Any], spec: Mapping[str, Any], dtype: str) -> dict[str, str]:
    """The rows of ``meta`` of a new store.

    Raises:
        StoreError: The dtype is unknown, or an argument is not plain JSON.
    """
    if dtype not in codec.DTYPES:
        raise StoreError(f"dtype {dtype!r} is not known; use one of: {', '.join(codec.DTYPES)}")
    texts = {
        "dtype": dtype,
        "identity": codec.to_json(identity, "the identity"),
        "spec": codec.to_json(spec, "the spec"),
    }
    return sealed_meta(texts)


def _checksum(texts: Mapping[str, str]) -> str:
    return hashlib.sha256(json.dumps(dict(texts), sort_keys=True).encode()).hexdigest()
