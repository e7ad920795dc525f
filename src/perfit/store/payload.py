"""One user's shift as checked bytes: shapes, finiteness, safetensors in and out."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from perfit.errors import DamagedError, StoreError

if TYPE_CHECKING:
    import torch

DTYPES = {"bf16": "bfloat16", "fp32": "float32"}


@dataclass(frozen=True)
class StoredShift:
    """A personal shift as it lies in a store.

    Attributes:
        tensors: ``R`` [L, r, d], ``D`` = W - R [L, r, d] and ``b`` [L, r] in the store's dtype. R rounded to bf16 is
            orthonormal to about 1e-2 only: bring it back to R Rᵀ = I before use.
        meta: What was stored with it.
    """

    tensors: dict[str, torch.Tensor]
    meta: dict[str, Any]


def encode(tensors: Mapping[str, torch.Tensor], dtype: str, sizes: Mapping[str, int]) -> bytes:
    """Check a shift and turn it into safetensors bytes.

    Args:
        tensors: ``R`` [L, r, d], ``D`` [L, r, d], ``b`` [L, r], any float dtype, any device.
        dtype: ``bf16`` or ``fp32``.
        sizes: The sizes the store demands, any of ``layers``, ``rank``, ``hidden_size``.

    Raises:
        StoreError: A tensor is missing, foreign, of the wrong shape, or not finite (also after rounding to ``dtype``).
    """
    import torch
    from safetensors.torch import save

    check_shapes(tensors, sizes)
    stored: dict[str, torch.Tensor] = {}
    for name in ("R", "D", "b"):
        tensor = tensors[name].detach()
        if not tensor.is_floating_point():
            raise StoreError(f"tensor {name} is {tensor.dtype}, not floating point")
        rounded = tensor.to("cpu", getattr(torch, DTYPES[dtype])).contiguous()
        if not bool(torch.isfinite(rounded).all()):
            raise StoreError(f"tensor {name} has values that are not finite in {dtype}; the training diverged")
        # Views of one storage (slots of a bank) are refused by safetensors.
        stored[name] = rounded.clone()
    payload: bytes = save(stored)
    return payload


def check_shapes(tensors: Mapping[str, torch.Tensor], sizes: Mapping[str, int]) -> None:
    """Raise StoreError unless ``tensors`` are R [L, r, d], D [L, r, d] and b [L, r] of the demanded sizes."""
    if set(tensors) != {"R", "D", "b"}:
        raise StoreError(f"a shift has the tensors R, D and b, not {', '.join(sorted(map(str, tensors))) or 'none'}")
    shape = tuple(tensors["R"].shape)
    if len(shape) != 3 or 0 in shape:
        raise StoreError(f"R has shape {list(shape)}; it must be [layers, rank, hidden size]")
    for name, wanted in (("D", shape), ("b", shape[:2])):
        if tuple(tensors[name].shape) != wanted:
            raise StoreError(
                f"{name} has shape {list(tensors[name].shape)}; with R {list(shape)} it must be {list(wanted)}"
            )
    for (size, wanted_size), found in zip(
        ((key, sizes.get(key)) for key in ("layers", "rank", "hidden_size")), shape, strict=True
    ):
        if wanted_size is not None and found != wanted_size:
            raise StoreError(f"this shift has {size.replace('_', ' ')} {found}, but the store holds {wanted_size}")


def decode(payload: bytes) -> dict[str, torch.Tensor]:
    """Read safetensors bytes back.

    Raises:
        StoreError: They are not a shift in safetensors.
    """
    from safetensors import SafetensorError
    from safetensors.torch import load

    try:
        tensors: dict[str, torch.Tensor] = load(payload)
    except (SafetensorError, ValueError, KeyError) as error:
        raise DamagedError(f"not readable as safetensors: {error}") from error
    check_shapes(tensors, {})
    return tensors


def checksum(user: str, payload: bytes, meta: str, created: str) -> str:
    """SHA-256 over all that is stored for a user, so that no part can be swapped or rot unnoticed."""
    digest = hashlib.sha256()
    for part in (user.encode(), payload, meta.encode(), created.encode()):
        digest.update(len(part).to_bytes(8, "little"))
        digest.update(part)
    return digest.hexdigest()


def is_intact(user: str, claimed: Any, meta: Any, created: Any, payload: Any) -> bool:
    """Whether a row read from the file is what was once written for ``user``."""
    if not (isinstance(meta, str) and isinstance(created, str) and isinstance(payload, bytes)):
        return False
    return bool(claimed == checksum(user, payload, meta, created))


def is_text(user: object) -> bool:
    """Whether it is text that UTF-8 can hold (no lone surrogates)."""
    try:
        return isinstance(user, str) and user.encode() is not None
    except UnicodeEncodeError:
        return False


def require_id(user: object) -> None:
    """Raise StoreError unless ``user`` can be a user id."""
    if not user or not is_text(user):
        raise StoreError(f"user id {user!r} must be text that is not empty and can be written as UTF-8")


def to_json(value: Mapping[str, Any], what: str) -> str:
    """JSON text of ``value``, keys sorted.

    Raises:
        StoreError: It holds something JSON cannot.
    """
    try:
        text = json.dumps(value, sort_keys=True, ensure_ascii=True, allow_nan=False)
    except (TypeError, ValueError) as error:
        raise StoreError(f"{what} must be plain JSON values: {error}") from error
    return text


def sizes_of(identity: Mapping[str, Any], spec: Mapping[str, Any]) -> dict[str, int]:
    """The sizes a store demands of every shift: ``hidden_size``, and ``rank`` and ``layers`` where the spec names them.

    ``layers`` may be a number or a list of layer indices.
    """
    sizes: dict[str, int] = {}
    layers = spec.get("layers")
    for key, value in (
        ("hidden_size", identity.get("hidden_size")),
        ("rank", spec.get("rank")),
        ("layers", len(layers) if isinstance(layers, list | tuple) else layers),
    ):
        if type(value) is int:
            sizes[key] = value
    return sizes


def differences(stored: Mapping[str, Any], given: Mapping[str, Any]) -> str:
    """The keys in which two mappings differ, with both values, or an empty string."""
    keys = [key for key in sorted({*stored, *given}) if stored.get(key) != given.get(key)]
    return "; ".join(f"{key} is {_brief(stored.get(key))} there, {_brief(given.get(key))} here" for key in keys)


def _brief(value: object) -> str:
    text = "missing" if value is None else str(value)
    return text if len(text) <= 40 else f"{text[:12]}…"
