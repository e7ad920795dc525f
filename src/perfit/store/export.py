"""One user's shift as a file of its own."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from perfit.durable.files import write_atomically
from perfit.durable.records import NotAsWrittenError, read_bounded
from perfit.durable.tensors import metadata_of, to_bytes
from perfit.errors import DamagedError, StoreError
from perfit.shown import shown
from perfit.store.database import faults
from perfit.store.payload import decode, from_json, most_bytes, to_json

if TYPE_CHECKING:
    import torch

_FORMAT = "perfit-user-shift/2"
_PARTS = ("identity", "spec", "meta")
# The checksum is over the whole file with zeros in its own place.
_MARK, _BLANK = b'"sha256":"', b"0" * 64
_MAX_HEADER = 8 << 20


def write_export(
    path: Path, user: str, tensors: Mapping[str, torch.Tensor], parts: Mapping[str, Mapping[str, Any]]
) -> None:
    """Write a safetensors file; it appears under its name only when it is whole and on the disk.

    Args:
        path: Where to; an older file is replaced.
        user: The id, kept inside the file.
        tensors: ``R``, ``D``, ``b``.
        parts: ``identity``, ``spec`` and ``meta``.

    Raises:
        StoreError: The file cannot be written.
    """
    content = export_bytes(user, tensors, parts)
    with faults(path):
        write_atomically(path, content)


def export_bytes(user: str, tensors: Mapping[str, torch.Tensor], parts: Mapping[str, Mapping[str, Any]]) -> bytes:
    """The content of the file that ``write_export`` writes."""
    metadata = {"format": _FORMAT, "user": user, "sha256": _BLANK.decode()}
    content = to_bytes(tensors, metadata | {part: to_json(parts[part], part) for part in _PARTS})
    place = _place(content)
    assert place is not None
    digest = hashlib.sha256(content).hexdigest().encode()
    return content[:place] + digest + content[place + len(digest) :]


def read_export(path: Path) -> tuple[str, dict[str, torch.Tensor], dict[str, dict[str, Any]]]:
    """Read what :func:`write_export` wrote: user, tensors, and ``identity``, ``spec``, ``meta``.

    Raises:
        StoreError: Missing, changed in any byte, another kind of file, or a shift that cannot be used.
    """
    with faults(path):
        try:
            content = read_bounded(path, most_bytes({}))
        except NotAsWrittenError as error:
            raise StoreError(f"{shown(path, 400)} {error}; give a file that perfit users export wrote") from None
    metadata = _metadata(path, content)
    place = _place(content)
    if place is None:
        raise _damaged(path, "has no checksum")
    blank = content[:place] + _BLANK + content[place + len(_BLANK) :]
    if content[place : place + len(_BLANK)] != hashlib.sha256(blank).hexdigest().encode():
        raise _damaged(path, "is not as it was written (its checksum differs)")
    try:
        parts = {part: from_json(metadata.get(part), f"its {part}") for part in _PARTS}
        user = metadata["user"]
        return user, decode(content, {}), parts
    except KeyError:
        raise _damaged(path, "names no user") from None
    except StoreError as error:
        raise type(error)(f"{shown(path, 400)}: {error}; export the user again") from error


def _metadata(path: Path, content: bytes) -> dict[str, str]:
    try:
        plain = metadata_of(content, _MAX_HEADER)
    except NotAsWrittenError as error:
        raise _damaged(path, str(error)) from None
    found = plain.get("format", "none")
    if found == "perfit-user-shift/1":
        raise StoreError(
            f"{shown(path, 400)} has the old export format 1, which had no checksum; export the user again"
        )
    if found != _FORMAT:
        raise StoreError(f"{shown(path, 400)} is not a user's shift exported by perfit (format {shown(found)})")
    return plain


def _place(content: bytes) -> int | None:
    """Where in the header the checksum lies. A quote inside a JSON text is escaped: the mark is not part of any value."""
    size = int.from_bytes(content[:8], "little")
    place = content.find(_MARK, 8, 8 + size)
    return place + len(_MARK) if place >= 0 else None


def _damaged(path: Path, what: str) -> DamagedError:
    return DamagedError(f"{shown(path, 400)} {what}; export the user again")
