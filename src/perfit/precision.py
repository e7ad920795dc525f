"""Which floating-point type the base runs in on a device."""

from __future__ import annotations

import torch

from perfit.device import choose_device
from perfit.errors import ConfigError

_DTYPES = {"bfloat16": torch.bfloat16, "float16": torch.float16, "float32": torch.float32}


def resolve_dtype(wanted: str, device: str | torch.device = "cpu") -> torch.dtype:
    """The dtype for "auto", "bfloat16", "float16" or "float32".

    "auto" is whichever of bfloat16 and float32 this device multiplies faster (``backbone.probe``): emulated bfloat16 is
    slower than float32.

    Raises:
        ConfigError: There is no such dtype or device.
    """
    where = torch.device(choose_device(device))
    if wanted != "auto":
        if wanted not in _DTYPES:
            raise ConfigError(f"dtype: {wanted!r} is not possible; choose one of auto, {', '.join(_DTYPES)}")
        return _DTYPES[wanted]
    if where.type not in ("cpu", "cuda"):
        return torch.float32
    from perfit.backbone.probe import probe

    return probe(where).dtype
