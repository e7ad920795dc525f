"""Attention of packed tokens, each request by itself.

Transformers packs the tokens of all requests into one row and lets every token attend to the keys of all requests behind a
mask, which makes the work grow with the square of their number. The keys of a request stand together, so that its own tokens
can be given its own keys and its own part of the mask: the same function on smaller tensors.
"""

from __future__ import annotations

from itertools import pairwise
from typing import Any

import torch
from torch import Tensor, nn

NAME = "perfit_piecewise"


def attend_piecewise(
    module: nn.Module,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attention_mask: Tensor | None,
    cache: Any = None,
    **kwargs: Any,
) -> tuple[Tensor, None]:
    """What transformers' ``sdpa`` attention gives for a packed row, request by request.

    Args:
        module: The layer's attention.
        query: [1, heads, tokens, size].
        key, value: [1, key heads, tokens, size], of the tokens that run.
        attention_mask: [1, 1, tokens, kept tokens], added to the scores.
        cache: Where the keys and values of all requests are kept; without it this is ``sdpa`` as it is.
        kwargs: What else is passed to ``sdpa``; where each request begins, in tokens that run and in kept ones.

    Returns:
        [1, tokens, heads, size], and nothing.
    """
    from transformers.integrations.sdpa_attention import sdpa_attention_forward

    if cache is None or attention_mask is None:
        whole: tuple[Tensor, None] = sdpa_attention_forward(
            module, query, key, value, attention_mask, cache=cache, **kwargs
        )
        return whole
    key, value = cache.update(key_states=key, value_states=value, layer_idx=module.layer_idx, kwargs=kwargs)
    ends = kwargs["cu_seq_lens_q"].tolist(), kwargs["cu_seq_lens_k"].tolist()
    found = []
    for (begin, end), (first, last) in zip(*map(pairwise, ends), strict=True):
        part = attention_mask[:, :, begin:end, first:last]
        mine = (query[:, :, begin:end], key[:, :, first:last], value[:, :, first:last])
        found.append(sdpa_attention_forward(module, *mine, part, **kwargs)[0])
    return found[0] if len(found) == 1 else torch.cat(found, dim=1), None
