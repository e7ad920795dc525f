"""Attention request by request is attention of the whole row behind its mask."""

from __future__ import annotations

from typing import Any

import families
import pytest
import torch
from served_world import SMALL, World, answered, batched, core_of, prompt
from torch import Tensor, nn
from transformers.integrations.sdpa_attention import sdpa_attention_forward

from perfit.serving import continuous
from perfit.serving.batched import Batched
from perfit.serving.engine import Request
from perfit.serving.piecewise import NAME, attend_piecewise

PIECES = ((3, 5), (1, 9), (4, 4), (1, 2))  # tokens that run, tokens that are kept with them


class Kept:
    """Keys and values of all requests, whatever runs."""

    def __init__(self, *kept: Tensor):
        self.kept = kept

    def update(self, key_states: Tensor, value_states: Tensor, layer_idx: int, kwargs: dict[str, Any]) -> Any:
        kwargs["cu_seq_lens_k"] = torch.tensor([0, *torch.tensor([kept for _, kept in PIECES]).cumsum(0).tolist()])
        return self.kept


def test_it_is_what_the_mask_leaves() -> None:
    generator = torch.Generator().manual_seed(0)
    run, kept = (sum(one) for one in zip(*PIECES, strict=True))
    query = torch.randn(1, 4, run, 8, generator=generator)
    keys, values = (torch.randn(1, 2, kept, 8, generator=generator) for _ in range(2))
    mask, begin, first = torch.full((1, 1, run, kept), -1e30), 0, 0
    for count, behind in PIECES:
        for token in range(count):
            mask[..., begin + token, first : first + behind - count + token + 1] = 0
        begin, first = begin + count, first + behind
    module: Any = nn.Module()
    module.layer_idx, module.num_key_value_groups = 0, 2
    whole, _ = sdpa_attention_forward(module, query, keys, values, mask, scaling=0.3)
    starts = torch.tensor([0, 3, 4, 8, 9])
    found, _ = attend_piecewise(
        module, query, keys[:, :, :1], values[:, :, :1], mask, Kept(keys, values), scaling=0.3, cu_seq_lens_q=starts
    )
    torch.testing.assert_close(found, whole)
    same, _ = attend_piecewise(module, query, keys, values, mask, scaling=0.3)  # no packed row
    torch.testing.assert_close(same, whole, rtol=0, atol=0)


@pytest.mark.parametrize("family", ["llama", "gemma3"])
def test_an_engine_uses_it_and_gives_what_the_whole_row_gives(family: str, monkeypatch: pytest.MonkeyPatch) -> None:
    world, backbone = World(), families.tiny(family)
    asked = [
        Request(str(n), prompt(n, 5 + 6 * n), world.train(f"user {n}"), max_new_tokens=5, n_logprobs=3)
        for n in range(4)
    ]
    calls: list[int] = []

    def counted(module: nn.Module, query: Tensor, *given: Any, **more: Any) -> Any:
        calls.append(query.shape[2])
        return sdpa_attention_forward(module, query, *given, **more)

    monkeypatch.setattr("transformers.integrations.sdpa_attention.sdpa_attention_forward", counted)
    found = []
    for known in (NAME, "sdpa"):
        engine = batched(world, backbone)
        core = core_of(engine)
        assert isinstance(core, Batched)
        config = core._pages.backbone.model.config
        assert config._attn_implementation == NAME
        config._attn_implementation = known
        found.append(answered(engine, asked))
    assert len(calls) > 4 * 5 * families.DEPTH
    for one, other in zip(*found, strict=True):
        for mine, theirs in zip(one[:-1], other[:-1], strict=True):
            assert mine.id == theirs.id  # type: ignore[union-attr]
            assert mine.logprob == pytest.approx(theirs.logprob, abs=1e-5)  # type: ignore[union-attr]


def test_other_attentions_and_devices_keep_their_own() -> None:
    eager = families.tiny("llama", attention="eager")
    assert continuous.Pages(eager, SMALL).backbone.model.config._attn_implementation != NAME
    assert eager.model.config._attn_implementation == "eager"
    assert families.tiny("llama").model.config._attn_implementation == "sdpa"  # of the base that is copied
