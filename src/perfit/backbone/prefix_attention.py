"""Attention of a few new tokens over a constant prefix, without joining the two or differentiating the prefix.

Fused attention kernels are made for long queries: with about ten queries a row their backward costs more than all
matrix products of the layer on a CPU. And a joined key tensor is copied at every layer, and differentiated whole,
although the prefix needs no gradient. Two plain batched products avoid both.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn

NAME = "perfit_prefix"
PREFIX = "_perfit_prefix"


def prefix_attention(
    module: nn.Module,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attention_mask: Tensor | None,
    scaling: float | None = None,
    softcap: float | None = None,
    **kwargs: Any,
) -> tuple[Tensor, None]:
    """Attention over the prefix that ``key`` and ``value`` carry, followed by their own tokens.

    Args:
        query: [rows, heads, t, size].
        key, value: [rows, key heads, t, size]; a prefix [rows, key heads, p, size] hangs on each.
        attention_mask: Additive, [rows or 1, 1, t, p + t].
        scaling: Factor of the scores; 1/√size when not given.
        softcap: Soft limit of the scores (Gemma 2).

    Returns:
        [rows, t, heads, size], as transformers' attention functions do.
    """
    if kwargs.get("s_aux") is not None:
        raise NotImplementedError("attention sinks")
    rows, heads, length, size = query.shape
    groups = key.shape[1]
    before_k, before_v = getattr(key, PREFIX, None), getattr(value, PREFIX, None)
    q = query * (size**-0.5 if scaling is None else scaling)
    q = q.reshape(rows * groups, heads // groups * length, size)

    def flat(t: Tensor) -> Tensor:
        return t.reshape(rows * groups, t.shape[2], size)

    scores = torch.bmm(q, flat(key).mT)
    past = 0
    if before_k is not None:
        past = before_k.shape[2]
        scores = torch.cat([torch.bmm(q, flat(before_k).mT), scores], dim=-1)
    scores = scores.view(rows, groups, heads // groups, length, past + key.shape[2]).float()
    if softcap is not None:
        scores = torch.tanh(scores / softcap) * softcap
    if attention_mask is not None:
        scores = scores + attention_mask.unsqueeze(2)
    weights = scores.softmax(-1).to(query.dtype).view(rows * groups, -1, past + key.shape[2])
    out = torch.bmm(weights[..., past:], flat(value))
    if before_v is not None:
        out = out + torch.bmm(weights[..., :past], flat(before_v))
    return out.view(rows, heads, length, size).transpose(1, 2), None


@contextmanager
def using_prefix_attention(config: Any) -> Iterator[None]:
    """Let a model's layers attend through ``prefix_attention`` inside this context.

    It changes the model's config for that long: two threads must not run one model at a time.
    """
    from transformers import AttentionInterface
    from transformers.masking_utils import AttentionMaskInterface, eager_mask

    AttentionInterface.register(NAME, prefix_attention)
    AttentionMaskInterface.register(NAME, eager_mask)
    usual = config._attn_implementation
    config._attn_implementation = NAME
    try:
        yield
    finally:
        config._attn_implementation = usual
