"""One user's shift as checked bytes: shapes, finiteness, safetensors in and out."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from perfit.durable.identity import differing
from perfit.durable.records import NotAsWrittenError, parse_object
from perfit.durable.tensors import from_bytes, to_bytes
from perfit.errors import DamagedError, StoreError
from perfit.shown import shown

if TYPE_CHECKING:
    import torch

DTYPES = {"bf16": "bfloat16", "fp32": "float32"}
_MAX_HEADER = 1 << 16
_MAX_META = 1 << 20
_MAX_ID = 10_000
# Rounding R to bf16 leaves R Rᵀ within 2 · 2⁻⁹ of I; what is further off was never a retracted R.
_ORTHONORMAL = 1e-2
# Far beyond what training gives: a guard against nonsense, not against a bad fit.
_MAX_NORM = 1e4


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
    return to_bytes(rounded(tensors, dtype, sizes))


def rounded(tensors: Mapping[str, torch.Tensor], dtype: str, sizes: Mapping[str, int]) -> dict[str, torch.Tensor]:
    """A checked copy of a shift in ``dtype``, on the CPU, each tensor with a storage of its own.

    Raises:
        StoreError: As :func:`encode`.
    """
    import torch

    check_shapes(tensors, sizes)
    stored: dict[str, torch.Tensor] = {}
    for name in ("R", "D", "b"):
        tensor = tensors[name].detach()
        if not tensor.is_floating_point():
            raise StoreError(f"tensor {name} is {tensor.dtype}, not floating point")
        stored[name] = tensor.to("cpu", getattr(torch, DTYPES[dtype])).contiguous().clone()
    check_values(stored, dtype)
    return stored


def check_values(tensors: Mapping[str, torch.Tensor], dtype: str) -> None:
    """Raise StoreError unless all values are finite, R is orthonormal to bf16's rounding, and D and b are of a size
    that training gives.
    """
    import torch

    full = {name: tensor.float() for name, tensor in tensors.items()}
    for name, tensor in full.items():
        if not bool(torch.isfinite(tensor).all()):
            raise StoreError(f"tensor {name} has values that are not finite in {dtype}; the training diverged")
    R = full["R"]
    off = float((R @ R.mT - torch.eye(R.shape[1])).abs().max())
    if not off <= _ORTHONORMAL:
        raise StoreError(
            f"the rows of R are not orthonormal (R Rᵀ is {off:.2g} off I, at most {_ORTHONORMAL:g} is rounding)"
        )
    for name in ("D", "b"):
        norm = float(torch.linalg.vector_norm(full[name].flatten(1), dim=1).max())
        if not norm <= _MAX_NORM:
            raise StoreError(
                f"tensor {name} has norm {norm:.3g} in a layer, more than {_MAX_NORM:g}; the training diverged"
            )


def check_shapes(tensors: Mapping[str, torch.Tensor], sizes: Mapping[str, int]) -> None:
    """Raise StoreError unless ``tensors`` are R [L, r, d], D [L, r, d] and b [L, r] of the demanded sizes."""
    if set(tensors) != {"R", "D", "b"}:
        raise StoreError(
            f"a shift has the tensors R, D and b, not {shown(', '.join(sorted(map(str, tensors))) or 'none')}"
        )
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


def decode(payload: bytes, sizes: Mapping[str, int], dtype: str | None = None) -> dict[str, torch.Tensor]:
    """Read safetensors bytes back, checked as they were when they were written.

    Args:
        payload: What :func:`encode` gave.
        sizes: Demanded sizes, any of ``layers``, ``rank``, ``hidden_size``.
        dtype: ``bf16`` or ``fp32``, demanded of every tensor; None takes either.

    Raises:
        DamagedError: They are not a shift in safetensors.
        StoreError: They are one that cannot be used.
    """
    try:
        tensors = from_bytes(payload, _MAX_HEADER + _MAX_META)
    except NotAsWrittenError as error:
        raise DamagedError(str(error)) from None
    check_shapes(tensors, sizes)
    kinds = {str(tensor.dtype).removeprefix("torch.") for tensor in tensors.values()}
    names = [name for name, kind in DTYPES.items() if kinds == {kind} and dtype in (None, name)]
    if not names:
        raise StoreError(f"its tensors are {', '.join(sorted(kinds))}, not all {dtype or ' or all '.join(DTYPES)}")
    check_values(tensors, names[0])
    return tensors


def most_bytes(sizes: Mapping[str, int]) -> int:
    """Bytes that a user's row or export of these sizes cannot exceed."""
    layers, rank, width = (
        sizes.get(key, default) for key, default in (("layers", 256), ("rank", 256), ("hidden_size", 1024))
    )
    return min(4 * layers * rank * (2 * width + 1) + _MAX_HEADER + 2 * _MAX_META, 1_000_000_000)


def checksum(user: str, payload: bytes | str, meta: str, created: str) -> str:
    """SHA-256 over all that is stored for a user, so that no part can be swapped or rot unnoticed.

    Of a payload that lies elsewhere it is over the reference to it, which is text and names its digest.
    """
    digest = hashlib.sha256()
    content = payload if isinstance(payload, bytes) else b"object " + payload.encode()
    for part in (user.encode(), content, meta.encode(), created.encode()):
        digest.update(len(part).to_bytes(8, "little"))
        digest.update(part)
    return digest.hexdigest()


def is_intact(user: str, claimed: Any, meta: Any, created: Any, payload: Any) -> bool:
    """Whether a row read from the file is what was once written for ``user``."""
    if not (isinstance(meta, str) and isinstance(created, str) and isinstance(payload, bytes | str)):
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
    if not user or not is_text(user) or len(str(user)) > _MAX_ID:
        raise StoreError(
            f"user id '{shown(user)}' must be text that is not empty, can be written as UTF-8 and has at most {_MAX_ID:,} "
            "characters"
        )


def to_json(value: Mapping[str, Any], what: str) -> str:
    """JSON text of ``value``, keys sorted.

    Raises:
        StoreError: It holds something JSON cannot, or is larger than 1 MiB.
    """
    try:
        text = json.dumps(value, sort_keys=True, ensure_ascii=True, allow_nan=False)
    except (TypeError, ValueError, RecursionError) as error:
        raise StoreError(f"{what} must be plain JSON values: {shown(error)}") from error
    if len(text) > _MAX_META:
        raise StoreError(f"{what} has {len(text):,} bytes as JSON, more than {_MAX_META:,}; keep less with a shift")
    return text


def from_json(text: object, what: str) -> dict[str, Any]:
    """The inverse of :func:`to_json`, of text that anybody may have written.

    Raises:
        DamagedError: It is not a JSON object of bounded size and depth.
    """
    try:
        if not isinstance(text, str) or len(text) > _MAX_META:
            raise NotAsWrittenError
        return parse_object(text.encode())
    except ValueError:  # lone surrogates among them
        raise DamagedError(f"{what} is damaged") from None


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
    keys = sorted(differing(stored, given))
    return "; ".join(f"{shown(key)} is {_brief(stored.get(key))} there, {_brief(given.get(key))} here" for key in keys)


def _brief(value: object) -> str:
    text = "missing" if value is None else str(value)
    return shown(text if len(text) <= 40 else f"{text[:12]}…")
