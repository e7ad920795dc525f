"""Tensors in safetensors with notes, bound to one checksum over values, shapes, names and notes."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from perfit.durable.files import write_atomically
from perfit.durable.records import NotAsWrittenError, parse_object, read_bounded
from perfit.errors import DamagedError

if TYPE_CHECKING:
    from torch import Tensor

MAX_BYTES = 1 << 40
_MAX_HEADER = 100_000_000  # safetensors' own bound


@dataclass(frozen=True)
class Tensors:
    """Tensors by name, on the CPU, and what was noted with them."""

    tensors: dict[str, Tensor]
    notes: dict[str, Any]


def to_bytes(tensors: Mapping[str, Tensor], metadata: Mapping[str, str] | None = None) -> bytes:
    """Tensors as safetensors, the same bytes for the same tensors and texts; nothing is checked but what safetensors checks.

    Args:
        tensors: By name, on any device, views too.
        metadata: Texts kept beside them.
    """
    from safetensors.torch import save

    # On the CPU, each with a storage of its own, as safetensors wants them.
    plain = {name: tensor.detach().cpu().contiguous().clone() for name, tensor in tensors.items()}
    content: bytes = save(plain, metadata=dict(metadata) if metadata else None)
    if not metadata:
        return content
    # safetensors writes the texts in an order of chance.
    size = int.from_bytes(content[:8], "little")
    header = json.loads(content[8 : 8 + size]) | {"__metadata__": dict(sorted(metadata.items()))}
    text = json.dumps(header, ensure_ascii=False, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 8)
    return b"".join((len(text).to_bytes(8, "little"), text, memoryview(content)[8 + size :]))


def metadata_of(content: bytes, most: int = _MAX_HEADER) -> dict[str, str]:
    """The texts beside tensors, without reading those.

    Raises:
        NotAsWrittenError: It is no safetensors, or its header is larger than ``most``.
    """
    size = int.from_bytes(content[:8], "little")
    if not 0 < size <= min(most, len(content) - 8):
        raise NotAsWrittenError("is not readable as safetensors")
    try:
        texts = parse_object(content[8 : 8 + size]).get("__metadata__") or {}
        return {str(name): text for name, text in texts.items() if isinstance(text, str)}
    except (NotAsWrittenError, AttributeError):
        raise NotAsWrittenError("is not readable as safetensors") from None


def from_bytes(content: bytes, most: int = _MAX_HEADER) -> dict[str, Tensor]:
    """What ``to_bytes`` was given.

    Args:
        content: The bytes.
        most: The longest header that is read.

    Raises:
        NotAsWrittenError: They are no safetensors, or the header is longer.
    """
    from safetensors import SafetensorError
    from safetensors.torch import load

    if int.from_bytes(content[:8], "little") > most:
        raise NotAsWrittenError("is not readable as safetensors: its header is too long")
    try:
        tensors: dict[str, Tensor] = load(content)
    except (SafetensorError, KeyError, ValueError, TypeError, AttributeError, RuntimeError, RecursionError):
        raise NotAsWrittenError("is not readable as safetensors") from None
    return tensors


def _digest(notes: str, tensors: Mapping[str, Tensor]) -> str:
    import torch

    digest = hashlib.sha256(notes.encode())
    for name in sorted(tensors):
        tensor = tensors[name].contiguous()
        digest.update(f"{name} {tensor.dtype} {tuple(tensor.shape)}".encode())
        digest.update(tensor.flatten().view(torch.uint8).numpy().tobytes())
    return digest.hexdigest()


def pack(tensors: Mapping[str, Tensor], notes: Mapping[str, Any]) -> bytes:
    """The bytes of a checked file."""
    text = json.dumps(dict(notes))
    plain = {name: tensor.detach().cpu() for name, tensor in tensors.items()}
    return to_bytes(plain, {"notes": text, "sha256": _digest(text, plain)})


def unpack(content: bytes) -> Tensors:
    """The inverse of ``pack``.

    Raises:
        NotAsWrittenError: It is not what ``pack`` gave.
    """
    try:
        metadata, tensors = metadata_of(content), from_bytes(content)
    except NotAsWrittenError:
        raise NotAsWrittenError("is damaged") from None
    if not metadata.keys() >= {"notes", "sha256"}:
        raise NotAsWrittenError("has no checksum")
    notes = metadata["notes"]
    try:
        if metadata["sha256"] != _digest(notes, tensors):
            raise NotAsWrittenError("is not as it was written (its checksum differs)")
        return Tensors(tensors, parse_object(notes.encode()))
    except (ValueError, TypeError, RuntimeError) as error:
        raise NotAsWrittenError(str(error) if isinstance(error, NotAsWrittenError) else "is damaged") from None


def write_tensors(path: Path, tensors: Mapping[str, Tensor], notes: Mapping[str, Any]) -> None:
    """Write tensors and notes atomically."""
    write_atomically(path, pack(tensors, notes))


def read_tensors(path: Path, *, mend: str) -> Tensors | None:
    """What ``write_tensors`` wrote; None where there is nothing.

    Raises:
        DamagedError: It is not as it was written; ``mend`` is the way out.
    """
    try:
        return unpack(read_bounded(path, MAX_BYTES))
    except FileNotFoundError:
        return None
    except NotAsWrittenError as error:
        raise DamagedError(f"{path}: {error}; {mend}") from None
    except OSError as error:
        raise DamagedError(f"{path}: cannot be read ({error.strerror}); {mend}") from None
