"""One user's shift as a file of its own."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from perfit.errors import DamagedError, StoreError
from perfit.files import write_atomically
from perfit.store.database import faults
from perfit.store.payload import decode, to_json

if TYPE_CHECKING:
    import torch

_FORMAT = "perfit-user-shift/1"
_PARTS = ("identity", "spec", "meta")


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
    from safetensors.torch import save

    metadata = {"format": _FORMAT, "user": user} | {part: to_json(parts[part], part) for part in _PARTS}
    with faults(path):
        write_atomically(path, save(dict(tensors), metadata))


def read_export(path: Path) -> tuple[str, dict[str, torch.Tensor], dict[str, dict[str, Any]]]:
    """Read what :func:`write_export` wrote: user, tensors, and ``identity``, ``spec``, ``meta``.

    Raises:
        StoreError: Missing, damaged, or another kind of file.
    """
    with faults(path):
        data = path.read_bytes()
    try:
        tensors = decode(data)
    except StoreError as error:
        raise DamagedError(f"{path}: {error}; export the user again") from error
    # The header's length and JSON are valid: decode has read them.
    header = json.loads(data[8 : 8 + int.from_bytes(data[:8], "little")])
    metadata = header.get("__metadata__") or {}
    if metadata.get("format") != _FORMAT:
        raise StoreError(f"{path} is not a user's shift exported by perfit (format {metadata.get('format')!r})")
    try:
        parts = {part: dict(json.loads(metadata[part])) for part in _PARTS}
        return str(metadata["user"]), tensors, parts
    except (KeyError, ValueError, TypeError) as error:
        raise DamagedError(f"{path}: its description is damaged; export the user again") from error
