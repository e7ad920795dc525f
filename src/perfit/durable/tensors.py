"""Tensors in safetensors with notes, bound to one checksum over values, shapes, names and notes."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from perfit.durable.records import NotAsWrittenError, parse, parse_object, read_bounded
from perfit.errors import DamagedError
from perfit.files import write_atomically

if TYPE_CHECKING:
    from torch import Tensor

MAX_BYTES = 1 << 40
_MAX_HEADER = 100_000_000  # safetensors' own bound


@dataclass(frozen=True)
class Tensors:
    """Tensors by name, on the CPU, and what was noted with them."""

    tensors: dict[str, Tensor]
    notes: dict[str, Any]


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
    from safetensors.torch import save

    # On the CPU, each with a storage of its own, as safetensors wants them.
    plain = {name: tensor.detach().cpu().contiguous().clone() for name, tensor in tensors.items()}
    text = json.dumps(dict(notes))
    content: bytes = save(plain, metadata={"notes": text, "sha256": _digest(text, plain)})
    return content


def unpack(content: bytes) -> Tensors:
    """The inverse of ``pack``.

    Raises:
        NotAsWrittenError: It is not what ``pack`` gave.
    """
    from safetensors import SafetensorError
    from safetensors.torch import load

    try:
        tensors: dict[str, Tensor] = load(content)
        size = int.from_bytes(content[:8], "little")
        if size > _MAX_HEADER:
            raise NotAsWrittenError("is damaged")
        metadata = parse_object(content[8 : 8 + size])["__metadata__"]
        notes, claimed = metadata["notes"], metadata["sha256"]
        if claimed != _digest(notes, tensors):
            raise NotAsWrittenError("is not as it was written (its checksum differs)")
        value = parse(notes.encode())
    except (SafetensorError, KeyError, ValueError, TypeError, AttributeError, RuntimeError) as error:
        raise NotAsWrittenError(str(error) if isinstance(error, NotAsWrittenError) else "is damaged") from None
    if not isinstance(value, dict):
        raise NotAsWrittenError("is damaged")
    return Tensors(tensors, value)


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
