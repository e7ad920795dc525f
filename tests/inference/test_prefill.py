"""What comes before the edits is computed once, and the rows go on as if each had run whole."""

from __future__ import annotations

import copy
import gc
import random
import weakref
from functools import partial
from typing import Any

import pytest
import torch
from families import NAMES, VOCABULARY, random_shift, tiny

from perfit.backbone.model import Backbone
from perfit.backbone.padding import left_padded
from perfit.backbone.taps import running
from perfit.edits.edit_plan import EditPlan
from perfit.edits.positions import Positions
from perfit.inference import decode as decoding
from perfit.inference import prefill
from perfit.inference.decode import Choice, decode
from perfit.inference.decode_cache import DecodeCache
from perfit.inference.prefill import prefilled

families = pytest.mark.parametrize("family", NAMES)
LAYERS = (1, 2)
SLOTS = [(0, 0), (1, 1), (1, 2), (1, 1), (2, 3), (1, 2)]


def prompts(head: int = 4, seed: int = 0) -> list[tuple[int, ...]]:
    """Six prompts: two equal ones, one shorter than the window, the others with a common beginning."""
    rnd = random.Random(seed)

    def some(n: int) -> tuple[int, ...]:
        return tuple(rnd.randint(3, VOCABULARY - 1) for _ in range(n))

    lead = some(head)
    same = (*lead, *some(9))
    return [same, same, (*lead, *some(12)), (*lead, *some(3)), (*lead, *some(5)), some(2)]


@families
@pytest.mark.parametrize("head", [4, 0])
@torch.no_grad()
def test_logits_after_a_shared_prefill_are_those_of_the_whole_prompt(family: str, head: int) -> None:
    backbone, rule, shift, rows = tiny(family), Positions.parse("l3"), random_shift(LAYERS), prompts(head)
    ids, mask, starts = left_padded(rows, backbone.device)
    plan = EditPlan.for_prompts(rule, list(map(len, rows)), SLOTS, starts=starts)
    whole = backbone.logits(ids, mask, plan, shift)[:, -1]
    cache = prefilled(backbone, rows, 3)
    assert cache is not None
    assert cache.seen == ids.shape[1] - 3
    where = (mask.cumsum(-1) - 1).clamp(min=0)[:, cache.seen :]
    rest = ids[:, cache.seen :]
    forward = partial(backbone.model, input_ids=rest, attention_mask=mask, position_ids=where, past_key_values=cache)
    got = running(forward, backbone.edits(plan, shift)).logits[:, -1]
    torch.testing.assert_close(got, whole, rtol=1e-4, atol=2e-4)


def greedy(family: str, rows: list[tuple[int, ...]], rule: str, limit: int, stops: list[int]) -> list[list[int]]:
    """Each row alone, the whole sequence run again for each token."""
    backbone, positions, shift = tiny(family), Positions.parse(rule), random_shift(LAYERS)
    out = []
    for row, pair in zip(rows, SLOTS, strict=True):
        plan, tokens = EditPlan.for_prompts(positions, [len(row)], [pair]), []
        for _ in range(limit):
            ids = torch.tensor([[*row, *tokens]])
            with torch.no_grad():
                token = int(backbone.logits(ids, torch.ones_like(ids), plan, shift)[0, -1].argmax())
            if token in stops:
                break
            tokens.append(token)
        out.append(tokens)
    return out


@families
@pytest.mark.parametrize("rule", ["l3", "f2+l3"])
def test_rows_that_leave_early_do_not_change_the_others(
    family: str, rule: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    kept: list[int] = []
    keep = DecodeCache.keep

    def count(self: DecodeCache, rows: torch.Tensor) -> None:
        kept.append(len(rows))
        keep(self, rows)

    monkeypatch.setattr(DecodeCache, "keep", count)
    backbone, rows, limit = tiny(family), prompts(), 7
    free = greedy(family, rows, rule, limit, [])
    # The most frequent tokens of the free answers stop some rows early and others late.
    tokens = [token for answer in free for token in answer[1:]]
    stops = [max(set(tokens), key=tokens.count)]
    seen: list[int] = []
    got = decode(
        backbone,
        rows,
        SLOTS,
        random_shift(LAYERS),
        Positions.parse(rule),
        Choice(limit, stops),
        seen.append,
    )
    assert got == greedy(family, rows, rule, limit, stops)
    assert sum(seen) == len(rows)
    if any(stops[0] in answer[:-1] for answer in free):
        lengths = sorted(map(len, got))
        if lengths[1] < lengths[-1]:
            assert kept, "rows that were through stayed in the batch"


def test_room_is_claimed_ahead_and_grows() -> None:
    rows = prompts()
    limit = 50  # more than is claimed at a time
    got = decode(tiny("llama"), rows, SLOTS, random_shift(LAYERS), Positions.parse("l3"), Choice(limit))
    assert got == greedy("llama", rows, "l3", limit, [])


def test_a_base_whose_parts_are_not_the_whole_runs_whole(monkeypatch: pytest.MonkeyPatch) -> None:
    backbone, rows = tiny("llama"), prompts()
    expected = decode(backbone, rows, SLOTS, random_shift(LAYERS), Positions.parse("l3"), Choice(4))
    backbone.kept.clear()
    monkeypatch.setattr(prefill, "_aligned", lambda *args: torch.zeros(1))
    assert prefilled(backbone, rows, 3) is None
    whole: list[Any] = []
    forward = decoding._forward
    monkeypatch.setattr(decoding, "_forward", lambda *args: whole.append(args[1].shape) or forward(*args))
    assert decode(backbone, rows, SLOTS, random_shift(LAYERS), Positions.parse("l3"), Choice(4)) == expected
    assert whole[0] == (6, 16)
    backbone.kept.clear()


@pytest.mark.parametrize("side", [0, 1], ids=["keys", "values"])
def test_a_base_whose_parts_have_the_right_shapes_and_other_values_runs_whole(
    side: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    backbone, rows = Backbone(tiny("llama").model, tiny("llama").tokenizer), prompts()
    keys_of = prefill._keys_of

    def turned(*given: Any) -> Any:
        found = keys_of(*given)
        kv = list(found[2])
        kv[side] = kv[side].flip(1)  # the heads of one layer, exchanged
        return {**found, 2: tuple(kv)}

    monkeypatch.setattr(prefill, "_keys_of", turned)
    assert prefilled(backbone, rows, 3) is None


def test_a_base_that_answered_is_let_go() -> None:
    backbone = Backbone(copy.deepcopy(tiny("llama").model), tiny("llama").tokenizer)
    assert prefilled(backbone, prompts(), 3) is not None
    gone = weakref.ref(backbone.model)
    del backbone
    gc.collect()
    assert gone() is None


def test_scores_are_given_fp32_logits_on_a_bf16_base() -> None:
    # Temperature and noise on bf16 logits would draw from another distribution.
    seen: list[Any] = []

    def scores(logits: torch.Tensor, rows: torch.Tensor) -> torch.Tensor:
        seen.append(logits.dtype)
        return logits

    backbone, rule = tiny("llama", torch.bfloat16), Positions.parse("l3")
    decode(backbone, prompts(), SLOTS, random_shift(LAYERS), rule, Choice(2, scores=scores))
    assert seen == [torch.float32] * 2


def test_equal_prompts_are_computed_once(monkeypatch: pytest.MonkeyPatch) -> None:
    backbone, rows = tiny("llama"), prompts()[:1] * 5
    prefilled(backbone, rows, 3)
    seen: list[int] = []
    keys_of = prefill._keys_of
    monkeypatch.setattr(
        prefill, "_keys_of", lambda s, prefixes, w: seen.append(len(prefixes)) or keys_of(s, prefixes, w)
    )
    cache = prefilled(backbone, rows, 3)
    assert cache is not None
    assert seen == [1]
    assert cache._kept[0][0].shape[0] == 5
