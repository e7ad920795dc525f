"""Prompts of which only the last tokens are edited: what comes before is the same for every user, and computed once.

Rows that ask the same thing for different users share all of it; rows of one task share the instruction.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from perfit.backbone.model import Backbone
from perfit.backbone.padding import common_length, left_padded, padded, places
from perfit.backbone.prefix_cache import KeysValues, PrefixCache
from perfit.backbone.section import Sections
from perfit.inference.decode_cache import DecodeCache

_PROVEN = "prefill"  # its sections, or None, in what a base keeps: anywhere else they would keep the base alive


def prefilled(backbone: Backbone, prompts: Sequence[Sequence[int]], reach: int) -> DecodeCache | None:
    """A cache that holds each prompt but its last ``reach`` tokens, left-padded; None where this base cannot.

    Args:
        backbone: The base; it proves on its first prompts that its parts equal the whole.
        prompts: Token ids of each row.
        reach: Last tokens that are left to run, at least 1.
    """
    prefixes = [tuple(prompt[: max(len(prompt) - reach, 0)]) for prompt in prompts]
    width = max(map(len, prompts)) - reach
    if width < 1:
        return None
    if _PROVEN not in backbone.kept:
        backbone.kept[_PROVEN] = _prove(backbone, max(prompts, key=len), reach)
    sections: Sections | None = backbone.kept[_PROVEN]
    if sections is None:
        return None
    distinct = list(dict.fromkeys(prefixes))
    number = {prefix: n for n, prefix in enumerate(distinct)}
    rows = torch.tensor([number[prefix] for prefix in prefixes], device=backbone.device)
    cache = DecodeCache()
    for layer, (keys, values) in _keys_of(sections, distinct, width).items():
        cache.seed(layer, keys.index_select(0, rows), values.index_select(0, rows))
    return cache


def _keys_of(sections: Sections, prefixes: Sequence[tuple[int, ...]], width: int) -> dict[int, KeysValues]:
    """Keys and values of every layer, right-aligned in [prefixes, heads, width, size]."""
    device, depth = sections.backbone.device, len(sections.backbone.layers)
    held = [prefix for prefix in prefixes if prefix]
    common = common_length(held)
    lead: dict[int, KeysValues] = {}
    if common:
        ids = torch.tensor([held[0][:common]], device=device)
        cache = PrefixCache(record=True, last=depth - 1)
        where = torch.arange(common, device=device).unsqueeze(0)
        sections.run(0, depth, tokens=ids, attention_mask=torch.ones_like(ids), position_ids=where, cache=cache)
        lead = cache.recorded or {}
    own = [prefix[common:] for prefix in prefixes]
    longest = max(map(len, own))
    tail: dict[int, KeysValues] = {}
    if longest:
        ids, mask = padded(own, device)
        mask = torch.cat([mask.new_ones(len(own), common), mask], 1)
        where = (common + torch.arange(longest, device=device)).expand(len(own), -1)
        cache = PrefixCache(shared=lead, record=True, last=depth - 1)
        sections.run(0, depth, tokens=ids, attention_mask=mask, position_ids=where, cache=cache)
        tail = cache.recorded or {}
    return {
        layer: (_aligned(lead, tail, layer, 0, prefixes, width), _aligned(lead, tail, layer, 1, prefixes, width))
        for layer in (tail or lead)
    }


def _aligned(
    lead: dict[int, KeysValues],
    tail: dict[int, KeysValues],
    layer: int,
    side: int,
    prefixes: Sequence[tuple[int, ...]],
    width: int,
) -> Tensor:
    example = (tail or lead)[layer][side]
    common = lead[layer][side].shape[2] if lead else 0
    out = example.new_zeros(len(prefixes), example.shape[1], width, example.shape[3])
    for row, prefix in enumerate(prefixes):
        own = len(prefix) - common
        if not prefix:
            continue
        if lead:
            out[row, :, width - len(prefix) : width - own] = lead[layer][side][0]
        if own:
            out[row, :, width - own :] = tail[layer][side][row, :, :own]
    return out


@torch.no_grad()
def _prove(backbone: Backbone, prompt: Sequence[int], reach: int) -> Sections | None:
    """Sections whose keys, followed by the last tokens, give the whole model's logits; None where they do not.

    Two rows of unequal length are tried, so that padding and what rows share are in it.
    """
    prompts = [tuple(prompt), tuple(prompt[: max(len(prompt) - 1, 1)])]
    width = max(map(len, prompts)) - reach
    ids, mask, _ = left_padded(prompts, backbone.device)
    whole = backbone.logits(ids, mask)[:, -1].float()
    try:
        sections = Sections(backbone)
        cache = DecodeCache()
        for layer, kv in _keys_of(sections, [p[: max(len(p) - reach, 0)] for p in prompts], width).items():
            cache.seed(layer, *kv)
        where = places(mask)[:, width:]
        out = backbone.model(
            input_ids=ids[:, width:], attention_mask=mask, position_ids=where, past_key_values=cache, use_cache=True
        )
    except (RuntimeError, ValueError, TypeError, AttributeError, KeyError, IndexError, NotImplementedError):
        return None
    allowed = 1e-3 if backbone.dtype == torch.float32 else 5e-2
    error = float((out.logits[:, -1].float() - whole).norm() / whole.norm())
    return sections if error < allowed else None
