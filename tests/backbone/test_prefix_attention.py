from __future__ import annotations

import pytest
import torch
from families import tiny
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor, nn

from perfit.backbone.prefix_attention import NAME, prefix_attention, with_prefix_attention
from perfit.backbone.prefix_cache import BEFORE, Before
from perfit.edits.edit_plan import SlotGroups


def attend(
    query: Tensor, key: Tensor, value: Tensor, mask: Tensor | None, scaling: float, softcap: float | None
) -> Tensor:
    """Attention written out: one head, one query at a time, [rows, t, heads, size]."""
    rows, heads, length, _ = query.shape
    share = heads // key.shape[1]
    out = torch.empty(rows, length, heads, value.shape[3], dtype=query.dtype)
    parts = []
    for row in range(rows):
        for head in range(heads):
            for t in range(length):
                scores = key[row, head // share] @ query[row, head, t] * scaling
                if softcap is not None:
                    scores = softcap * torch.tanh(scores / softcap)
                if mask is not None:
                    scores = scores + mask[row % mask.shape[0], 0, t]
                parts.append(scores.softmax(-1) @ value[row, head // share])
    return torch.stack(parts).view(rows, heads, length, -1).transpose(1, 2).reshape(out.shape)


@given(
    st.integers(1, 3),
    st.sampled_from([(4, 4), (4, 2), (4, 1)]),
    st.integers(1, 4),
    st.integers(0, 5),
    st.sampled_from([None, 2.0]),
    st.sampled_from([None, 0.3]),
    st.booleans(),
    st.integers(0, 999),
)
def test_it_is_attention_over_prefix_and_own_tokens(
    rows: int,
    heads: tuple[int, int],
    length: int,
    past: int,
    softcap: float | None,
    scaling: float | None,
    masked: bool,
    seed: int,
) -> None:
    g = torch.Generator().manual_seed(seed)

    def random(count: int, n: int) -> Tensor:
        return torch.randn(rows, count, n, 6, generator=g, dtype=torch.float64)

    q, k, v = random(heads[0], length), random(heads[1], length), random(heads[1], length)
    before_k, before_v = random(heads[1], past), random(heads[1], past)
    leaves = [t.requires_grad_(True) for t in (q, k, v)]
    mask = None
    if masked:
        keep = torch.rand(rows, 1, length, past + length, generator=g) < 0.7
        keep[..., past] = True
        mask = torch.zeros(keep.shape, dtype=torch.float64).masked_fill(~keep, torch.finfo(torch.float32).min)
    expected = attend(
        q,
        torch.cat([before_k, k], 2),
        torch.cat([before_v, v], 2),
        mask,
        6**-0.5 if scaling is None else scaling,
        softcap,
    )
    if past:
        setattr(k, BEFORE, Before(own=(before_k, before_v)))
    got, weights = prefix_attention(nn.Module(), q, k, v, mask, scaling=scaling, softcap=softcap)
    assert weights is None
    torch.testing.assert_close(got, expected, rtol=1e-4, atol=1e-5)
    direction = torch.randn(expected.shape, generator=g, dtype=torch.float64)
    for a, b in zip(
        torch.autograd.grad((got * direction).sum(), leaves),
        torch.autograd.grad((expected * direction).sum(), leaves),
        strict=True,
    ):
        torch.testing.assert_close(a, b, rtol=1e-4, atol=1e-5)


@given(
    st.lists(st.integers(0, 3), min_size=1, max_size=7),
    st.sampled_from([(4, 4), (4, 2), (4, 1)]),
    st.integers(1, 3),
    st.integers(0, 3),
    st.booleans(),
    st.integers(0, 999),
)
def test_rows_of_a_group_attend_to_its_shared_tokens_and_their_gradients_sum(
    owners: list[int], heads: tuple[int, int], length: int, past: int, one: bool, seed: int
) -> None:
    g = torch.Generator().manual_seed(seed)
    rows, shared = len(owners), 2

    def random(count: int, kinds: int, n: int) -> Tensor:
        return torch.randn(count, kinds, n, 6, generator=g, dtype=torch.float64)

    groups = None if one else SlotGroups.of(owners)
    number = 1 if groups is None else len(groups.slots)
    q, k, v = random(rows, heads[0], length), random(rows, heads[1], length), random(rows, heads[1], length)
    own = (random(rows, heads[1], past), random(rows, heads[1], past)) if past else None
    lead = (random(number, heads[1], shared), random(number, heads[1], shared))
    leaves = [t.requires_grad_(True) for t in (q, k, v, *lead)]
    which = torch.zeros(rows, dtype=torch.long) if groups is None else groups.group
    parts = [(lead[0][which], lead[1][which]), *([own] if own else []), (k, v)]
    joined = [torch.cat([part[side] for part in parts], 2) for side in (0, 1)]
    expected = attend(q, joined[0], joined[1], None, 6**-0.5, None)
    before = Before(own, lead, groups)
    for a, b in zip(before.joined(k, v), joined, strict=True):
        assert torch.equal(a, b)
    setattr(k, BEFORE, before)
    got, _ = prefix_attention(nn.Module(), q, k, v, None)
    torch.testing.assert_close(got, expected, rtol=1e-4, atol=1e-5)
    direction = torch.randn(expected.shape, generator=g, dtype=torch.float64)
    for a, b in zip(
        torch.autograd.grad((got * direction).sum(), leaves),
        torch.autograd.grad((expected * direction).sum(), leaves),
        strict=True,
    ):
        torch.testing.assert_close(a, b, rtol=1e-4, atol=1e-5)


def test_scores_in_bf16_are_capped_and_made_weights_in_fp32() -> None:
    g = torch.Generator().manual_seed(0)
    q, k, v = (torch.randn(2, heads, 9, 8, generator=g).bfloat16() for heads in (4, 2, 2))
    q = 4 * q
    scores = (q.view(2, 2, 18, 8) @ k.mT).double()  # as the base rounds them; from here on nothing may be lost
    weights = (3.0 * (scores / 3.0).tanh()).softmax(-1).bfloat16()
    expected = (weights @ v).view(2, 4, 9, 8).transpose(1, 2)
    got, _ = prefix_attention(nn.Module(), q, k, v, None, scaling=1.0, softcap=3.0)
    assert got.dtype == torch.bfloat16
    assert float((got == expected).float().mean()) > 0.98


def test_attention_sinks_are_refused() -> None:
    x = torch.zeros(1, 1, 1, 2)
    with pytest.raises(NotImplementedError, match="sinks"):
        prefix_attention(nn.Module(), x, x, x, None, s_aux=x)


def test_the_copy_attends_apart_and_the_base_as_usual() -> None:
    decoder = tiny("llama").model.model
    usual = decoder.config._attn_implementation
    copied = with_prefix_attention(decoder)
    attention = copied.layers[0].self_attn
    assert copied.config._attn_implementation == attention.config._attn_implementation == NAME
    assert decoder.config._attn_implementation == decoder.layers[0].self_attn.config._attn_implementation == usual
    assert attention.q_proj.weight is decoder.layers[0].self_attn.q_proj.weight
