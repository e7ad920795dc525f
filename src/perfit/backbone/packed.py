"""Bases whose weights bitsandbytes has packed: what must be switched off so that gradients go through them."""

from __future__ import annotations

from typing import Any

from perfit.errors import BaseModelError


def keep_gradients(model: Any, name: str) -> None:
    """Keep 4-bit layers from packing themselves anew for CPUs when they first run.

    On a CPU with AVX512-BF16 they do, for a product through which no gradient flows; a shift trained in front of one
    would learn nothing of what comes behind it, and only a warning of torch would say so.

    Raises:
        BaseModelError: A loaded model ran before, and its layers are packed so already.
    """
    for module in model.modules():
        if hasattr(module, "support_avx512bf16_for_cpu"):
            state = getattr(getattr(module, "weight", None), "quant_state", None)
            if getattr(state, "packing_format_for_cpu", False):
                raise BaseModelError(
                    f"{name}: ran before, and bitsandbytes packed its 4-bit layers for answers alone; load it anew"
                )
            module.support_avx512bf16_for_cpu = False
