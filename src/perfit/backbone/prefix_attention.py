"""Attention of a few new tokens over a prefix, without joining the two or copying what rows share.

Fused attention kernels are made for long queries: with about ten queries a row their backward costs more than all
matrix products of the layer on a CPU. And a joined key tensor is copied at every layer, and differentiated whole,
although most of a prefix needs no gradient. Plain batched products avoid both; a prefix that rows share is multiplied
once for all of them, and its gradient is summed inside that product.
"""

from __future__ import annotations

import copy
from typing import Any

import torch
from torch import Tensor, nn

from perfit.backbone.prefix_cache import BEFORE, Before
from perfit.backbone.twin import twin
from perfit.edits.edit_plan import SlotGroups

NAME = "perfit_prefix"


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
    """Attention over what came before (``Before``, hanging on ``key``), followed by the keys' own tokens.

    Args:
        query: [rows, heads, t, size].
        key, value: [rows, key heads, t, size].
        attention_mask: Additive, [rows or 1, 1, t, s + p + t]: shared, own, running.
        scaling: Factor of the scores; 1/√size when not given.
        softcap: Soft limit of the scores (Gemma 2).

    Returns:
        [rows, t, heads, size], as transformers' attention functions do.
    """
    if kwargs.get("s_aux") is not None:
        raise NotImplementedError("attention sinks")
    rows, heads, length, size = query.shape
    kinds = key.shape[1]
    before: Before = getattr(key, BEFORE, Before())
    q = query * (size**-0.5 if scaling is None else scaling)
    q = q.reshape(rows, kinds, heads // kinds * length, size)
    scores = [q @ key.mT]
    if before.own is not None:
        scores.insert(0, q @ before.own[0].mT)
    if before.shared is not None:
        scores.insert(0, _with_shared(q, before.shared[0].mT, before.groups))
    widths = [part.shape[-1] for part in scores]
    all_scores = (torch.cat(scores, dim=-1) if len(scores) > 1 else scores[0]).view(
        rows, kinds, heads // kinds, length, sum(widths)
    )
    all_scores = all_scores.float()
    if softcap is not None:
        all_scores = torch.tanh(all_scores / softcap) * softcap
    if attention_mask is not None:
        all_scores = all_scores + attention_mask.unsqueeze(2)
    flat = all_scores.softmax(-1).to(query.dtype).view(rows, kinds, -1, sum(widths))
    weights = list(torch.split(flat, widths, dim=-1))
    out = weights.pop() @ value
    if before.own is not None:
        out = out + weights.pop() @ before.own[1]
    if before.shared is not None:
        out = out + _with_shared(weights.pop(), before.shared[1], before.groups)
    return out.view(rows, heads, length, size).transpose(1, 2), None


def _with_shared(left: Tensor, right: Tensor, groups: SlotGroups | None) -> Tensor:
    """left @ right, where rows of one group share their right side: one product per group instead of one per row.

    Args:
        left: [rows, heads, n, a].
        right: [groups, heads, a, b].
        groups: Which rows belong to which group; None when one group holds all rows.

    Returns:
        [rows, heads, n, b].
    """
    by_group = left.unsqueeze(0) if groups is None else groups.gather(left)  # [groups, members, heads, n, a]
    count, members, heads, n, a = by_group.shape
    out = by_group.transpose(1, 2).reshape(count, heads, members * n, a) @ right
    out = out.view(count, heads, members, n, -1).transpose(1, 2)
    return out[0] if groups is None else groups.scatter(out)


def with_prefix_attention(decoder: nn.Module) -> nn.Module:
    """A copy of a decoder, all weights shared, whose layers attend through ``prefix_attention``."""
    from transformers import AttentionInterface
    from transformers.masking_utils import AttentionMaskInterface, eager_mask

    AttentionInterface.register(NAME, prefix_attention)
    AttentionMaskInterface.register(NAME, eager_mask)
    config: Any = decoder.config
    changed = copy.deepcopy(config)
    changed._attn_implementation = NAME
    copied: nn.Module = twin(decoder, (config, changed))
    return copied
