"""Which floating-point type the base runs in on a device."""

from __future__ import annotations

import torch

from perfit.errors import ConfigError

_DTYPES = {"bfloat16": torch.bfloat16, "float16": torch.float16, "float32": torch.float32}


def resolve_dtype(wanted: str, device: str | torch.device = "cpu") -> torch.dtype:
    """The dtype for "auto", "bfloat16", "float16" or "float32".

    "auto" is whichever of bfloat16 and float32 this device multiplies faster (``backbone.probe``): emulated bfloat16 is
    slower than float32.

    Raises:
        ConfigError: There is no such dtype or device.
    """
    try:
        where = torch.device(device)
    except RuntimeError as error:
        raise ConfigError(f"device: {device!r} is not possible; give cpu, cuda, cuda:1, ...") from error
    kind = where.type
    if kind == "cuda":
        count = torch.cuda.device_count() if torch.cuda.is_available() else 0
        if (where.index or 0) >= count:
            remedy = f"give cuda:0 to cuda:{count - 1}, or cpu" if count else "give cpu"
            raise ConfigError(f"device: there is no {str(device)!r}, torch sees {count} CUDA devices; {remedy}")
    if wanted != "auto":
        if wanted not in _DTYPES:
            raise ConfigError(f"dtype: {wanted!r} is not possible; choose one of auto, {', '.join(_DTYPES)}")
        return _DTYPES[wanted]
    if kind not in ("cpu", "cuda"):
        return torch.float32
    from perfit.backbone.probe import probe

    return probe(where).dtype
