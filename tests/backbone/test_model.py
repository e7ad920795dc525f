"""The behaviour matrix: every family, padded and batched, against each row alone edited by hand."""

from __future__ import annotations

import copy
import gc
from collections.abc import Sequence
from functools import cache, partial
from typing import Any

import pytest
import torch
from families import (
    DEPTH,
    FAMILIES,
    NAMES,
    VOCABULARY,
    WIDTH,
    alone,
    dense,
    gradients,
    learnable,
    padded_batch,
    picked,
    random_shift,
    tiny,
    two_shifts,
)
from torch import Tensor

from perfit.backbone.model import Backbone
from perfit.backbone.taps import running
from perfit.edits.edit_plan import EditPlan, TwoStageShift
from perfit.edits.positions import Positions
from perfit.errors import BaseModelError, ConfigError

PAIRS = ((1, 1), (0, 0), (1, 3), (2, 2), (1, 0), (1, 1))
LENGTHS = (9, 5, 13, 7, 11, 2)
RULE = "f2+l3"
LAYERS = (1, 2)

families = pytest.mark.parametrize("family", NAMES)
sides = pytest.mark.parametrize("side", ["left", "right"])


@cache
def prompts() -> list[list[int]]:
    g = torch.Generator().manual_seed(1)
    return [torch.randint(3, VOCABULARY, (n,), generator=g).tolist() for n in LENGTHS]


def plan_for(starts: Sequence[int], rule: str = RULE, pairs: Sequence[tuple[int, int]] = PAIRS) -> EditPlan:
    return EditPlan.for_prompts(Positions.parse(rule), LENGTHS, pairs, starts=starts)


def real(logits: Tensor, starts: Sequence[int]) -> list[Tensor]:
    """Logits of each row's own tokens."""
    return [logits[row, start : start + n] for row, (start, n) in enumerate(zip(starts, LENGTHS, strict=True))]


def rows_alone(backbone: Backbone, shift: TwoStageShift, rule: str = RULE) -> list[Tensor]:
    return [alone(backbone, p, shift, pair, picked(rule, len(p))) for p, pair in zip(prompts(), PAIRS, strict=True)]


def wrong_plans(starts: Sequence[int], side: str) -> dict[str, EditPlan]:
    """Plans with the faults that the tolerance must tell from the right one."""
    where = [[s + i for i in picked(RULE, n)] for s, n in zip(starts, LENGTHS, strict=True)]
    width = max(LENGTHS)
    padding = [list(picked(RULE, n)) if side == "left" else [width - n + i for i in picked(RULE, n)] for n in LENGTHS]
    return {
        "off by one": EditPlan.build(
            [[max(p - 1, s) for p in row] for row, s in zip(where, starts, strict=True)], PAIRS
        ),
        "wrong slot": EditPlan.build(where, [PAIRS[i] for i in (2, 1, 0, 5, 4, 3)]),
        "padding instead of tokens": EditPlan.build(padding, PAIRS),
    }


def distance(got: Sequence[Tensor], expected: Sequence[Tensor]) -> float:
    """Largest relative error of a row."""
    return max(float((a - b).float().norm() / b.float().norm()) for a, b in zip(got, expected, strict=True))


@families
@sides
@pytest.mark.parametrize("rule", [RULE, "l7", "all", "-1,-4"])
@torch.no_grad()
def test_padded_rows_equal_each_row_alone(family: str, side: str, rule: str) -> None:
    backbone, shift = tiny(family), random_shift(LAYERS)
    ids, mask, starts = padded_batch(prompts(), side)
    got = backbone.logits(ids, mask, plan_for(starts, rule), shift)
    for mine, expected in zip(real(got, starts), rows_alone(backbone, shift, rule), strict=True):
        torch.testing.assert_close(mine, expected, rtol=1e-4, atol=2e-4)


@families
@sides
@torch.no_grad()
def test_bf16_rows_are_near_and_wrong_edits_are_not(family: str, side: str) -> None:
    backbone, shift = tiny(family, torch.bfloat16), random_shift(LAYERS)
    ids, mask, starts = padded_batch(prompts(), side)
    expected = rows_alone(backbone, shift)
    assert distance(real(backbone.logits(ids, mask, plan_for(starts), shift), starts), expected) < 0.05
    for name, plan in wrong_plans(starts, side).items():
        assert distance(real(backbone.logits(ids, mask, plan, shift), starts), expected) > 0.15, name


@pytest.mark.parametrize("family", ["llama", "gemma2", "gpt2"])
@sides
@torch.no_grad()
def test_eager_attention_gives_the_same(family: str, side: str) -> None:
    backbone, shift = tiny(family, attention="eager"), random_shift(LAYERS)
    ids, mask, starts = padded_batch(prompts(), side)
    got = backbone.logits(ids, mask, plan_for(starts), shift)
    for mine, expected in zip(real(got, starts), rows_alone(backbone, shift), strict=True):
        torch.testing.assert_close(mine, expected, rtol=1e-4, atol=2e-4)


@pytest.mark.parametrize("layers", [(0,), (3,), (0, 3), (2, 0, 1)])
@torch.no_grad()
def test_any_layers_in_any_order(layers: tuple[int, ...]) -> None:
    backbone, shift = tiny("llama"), random_shift(layers)
    ids, mask, starts = padded_batch(prompts(), "left")
    got = backbone.logits(ids, mask, plan_for(starts), shift)
    for mine, expected in zip(real(got, starts), rows_alone(backbone, shift), strict=True):
        torch.testing.assert_close(mine, expected, rtol=1e-4, atol=2e-4)


def weighted(logits: Sequence[Tensor]) -> Tensor:
    """A loss that every token of every row has a part in."""
    g = torch.Generator().manual_seed(5)
    parts = [(row.float().log_softmax(-1) * torch.randn(row.shape, generator=g)).sum() for row in logits]
    return torch.stack(parts).sum() / 50


def gap(got: Sequence[Tensor], expected: Sequence[Tensor]) -> float:
    a, b = (torch.cat([t.flatten() for t in ts]) for ts in (got, expected))
    return float((a - b).norm() / b.norm())


@families
@sides
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=["fp32", "bf16"])
def test_gradients_of_padded_rows_equal_each_row_alone(family: str, side: str, dtype: torch.dtype) -> None:
    backbone, shift = tiny(family, dtype), learnable(random_shift(LAYERS))
    ids, mask, starts = padded_batch(prompts(), side)
    # Slot 0 is the identity of rows without a user: no one steps it, so its gradient has no meaning.
    expected = [t[1:] for t in gradients(weighted(rows_alone(backbone, shift)), shift)]

    def run(plan: EditPlan) -> list[Tensor]:
        return gradients(weighted(real(backbone.logits(ids, mask, plan, shift), starts)), shift)

    got = [t[1:] for t in run(plan_for(starts))]
    if dtype == torch.float32:
        for mine, theirs in zip(got, expected, strict=True):
            torch.testing.assert_close(mine, theirs, rtol=1e-3, atol=1e-4 * float(theirs.abs().max()))
        return
    assert gap(got, expected) < 0.1
    for name, plan in wrong_plans(starts, side).items():
        assert gap([t[1:] for t in run(plan)], expected) > 0.3, name


@families
@sides
def test_gradient_checkpointing_gives_the_same_gradients(family: str, side: str) -> None:
    backbone, shift = tiny(family), learnable(random_shift(LAYERS))
    ids, mask, starts = padded_batch(prompts(), side)
    plan, model = plan_for(starts), backbone.model
    expected = gradients(weighted(real(backbone.logits(ids, mask, plan, shift, use_cache=False), starts)), shift)
    runs: list[int] = []
    handles = [part.register_forward_pre_hook(lambda *_: runs.append(1)) for part in backbone.layers[3].children()]
    model.gradient_checkpointing_enable()
    model.train()
    try:

        def forward_and_backward() -> list[Tensor]:
            loss = weighted(real(model(ids, **_with_positions(mask)).logits, starts))
            runs.clear()
            return gradients(loss, shift)

        got = running(forward_and_backward, backbone.edits(plan, shift))
        assert runs, "the backward pass runs the layer again"
    finally:
        for handle in handles:
            handle.remove()
        model.gradient_checkpointing_disable()
        model.eval()
    for mine, theirs in zip(got, expected, strict=True):
        torch.testing.assert_close(mine, theirs, rtol=1e-4, atol=1e-5 * float(theirs.abs().max()))


def _with_positions(mask: Tensor) -> dict[str, Any]:
    return {"attention_mask": mask, "position_ids": (mask.cumsum(-1) - 1).clamp(min=0), "use_cache": False}


@families
@pytest.mark.parametrize("size", [1, 3, 5])
@torch.no_grad()
def test_chunked_prefill_equals_the_whole(family: str, size: int) -> None:
    from transformers import DynamicCache

    backbone, shift = tiny(family), random_shift(LAYERS)
    ids, mask, starts = padded_batch(prompts(), "left")
    positions = (mask.cumsum(-1) - 1).clamp(min=0)
    cache = DynamicCache(config=backbone.model.config)
    parts = []
    edits = backbone.edits(plan_for(starts), shift)
    for begin in range(0, ids.shape[1], size):
        end = min(begin + size, ids.shape[1])
        forward = partial(
            backbone.model,
            ids[:, begin:end],
            attention_mask=mask[:, :end],
            position_ids=positions[:, begin:end],
            past_key_values=cache,
            use_cache=True,
        )
        parts.append(running(forward, edits).logits)
    for mine, expected in zip(real(torch.cat(parts, 1), starts), rows_alone(backbone, shift), strict=True):
        torch.testing.assert_close(mine, expected, rtol=1e-4, atol=2e-4)


def entering(
    backbone: Backbone, ids: Tensor, mask: Tensor, plan: EditPlan | None, shift: TwoStageShift
) -> list[Tensor]:
    """States entering each layer, and what the last layer put out: the residual stream by depth."""
    seen: list[Tensor] = []
    layers = backbone.model.get_submodule(FAMILIES[backbone.name][2])

    def enter(module: Any, args: Any, kwargs: Any) -> None:
        seen.append((args[0] if args else kwargs["hidden_states"]).clone())

    handles = [layer.register_forward_pre_hook(enter, with_kwargs=True) for layer in layers]
    try:
        backbone.logits(ids, mask, plan, shift if plan is not None else None)
    finally:
        for handle in handles:
            handle.remove()
    return seen


@families
@sides
@torch.no_grad()
def test_the_edit_stands_on_the_output_of_its_own_layer(family: str, side: str) -> None:
    backbone, shift = tiny(family), random_shift((1,))
    ids, mask, starts = padded_batch(prompts(), side)
    plain = entering(backbone, ids, mask, None, shift)
    edited = entering(backbone, ids, mask, plan_for(starts), shift)
    # What enters layers 0 and 1 is untouched; what enters layer 2 is the output of layer 1 with the patch on it.
    assert torch.equal(plain[0], edited[0])
    assert torch.equal(plain[1], edited[1])
    patched = plain[2].clone()
    for row, (pair, start, n) in enumerate(zip(PAIRS, starts, LENGTHS, strict=True)):
        for p in picked(RULE, n):
            patched[row, start + p] = dense(plain[2][row, start + p], two_shifts(shift, 1, pair))
    torch.testing.assert_close(edited[2], patched, rtol=1e-4, atol=1e-4)
    assert (edited[2] - plain[2]).abs().max() > 0.1


@families
@sides
@torch.no_grad()
def test_rows_of_the_base_keep_every_bit(family: str, side: str) -> None:
    backbone, shift = tiny(family), random_shift(LAYERS)
    ids, mask, starts = padded_batch(prompts(), side)
    plain, edited = backbone.logits(ids, mask), backbone.logits(ids, mask, plan_for(starts), shift)
    assert torch.equal(edited[1], plain[1])
    assert all(not torch.equal(edited[row], plain[row]) for row in (0, 2, 3, 4, 5))


@families
@torch.no_grad()
def test_the_tokens_behind_padding_change_nothing(family: str) -> None:
    backbone, shift = tiny(family), random_shift(LAYERS)
    for side in ("left", "right"):
        ids, mask, starts = padded_batch(prompts(), side)
        other = torch.where(mask.bool(), ids, 5)
        plan = plan_for(starts)
        for a, b in zip(
            real(backbone.logits(ids, mask, plan, shift), starts),
            real(backbone.logits(other, mask, plan, shift), starts),
            strict=True,
        ):
            torch.testing.assert_close(a, b, rtol=0, atol=1e-5)


@torch.no_grad()
def test_a_row_does_not_feel_its_neighbours_or_their_order() -> None:
    backbone, shift = tiny("llama"), random_shift(LAYERS)
    ids, mask, starts = padded_batch(prompts(), "left")
    whole = backbone.logits(ids, mask, plan_for(starts), shift)
    order = [3, 5, 0, 2, 4, 1]
    plan = EditPlan.for_prompts(
        Positions.parse(RULE), [LENGTHS[i] for i in order], [PAIRS[i] for i in order], starts=[starts[i] for i in order]
    )
    torch.testing.assert_close(backbone.logits(ids[order], mask[order], plan, shift), whole[order], rtol=0, atol=1e-5)


@torch.no_grad()
def test_a_call_leaves_the_base_as_it_was_even_after_a_fault() -> None:
    backbone, shift = tiny("llama"), random_shift(LAYERS)
    ids, mask, starts = padded_batch(prompts(), "left")
    before = backbone.logits(ids, mask)

    def fail() -> None:
        assert not torch.equal(backbone.model(ids, attention_mask=mask).logits, before)
        raise RuntimeError("on purpose")

    with pytest.raises(RuntimeError, match="on purpose"):
        running(fail, backbone.edits(plan_for(starts), shift))
    assert torch.equal(backbone.logits(ids, mask), before)


def test_hooks_go_with_the_backbone_though_the_model_stays() -> None:
    model = copy.deepcopy(tiny("llama").model)
    for layer in model.model.layers:
        layer._forward_hooks.clear()
    model._forward_pre_hooks.clear()
    backbone, shift = Backbone(model, tiny("llama").tokenizer), random_shift(LAYERS)
    ids, mask, starts = padded_batch(prompts(), "left")
    backbone.logits(ids, mask, plan_for(starts), shift)
    backbone.logits(ids, mask, plan_for(starts), shift)
    assert [len(layer._forward_hooks) for layer in model.model.layers] == [layer in LAYERS for layer in range(DEPTH)]
    assert len(model._forward_pre_hooks) == 1
    del backbone
    gc.collect()
    assert not any(layer._forward_hooks for layer in model.model.layers)
    assert not model._forward_pre_hooks


def test_the_base_is_frozen_and_in_eval_mode() -> None:
    backbone = tiny("llama")
    assert not backbone.model.training
    assert not any(p.requires_grad for p in backbone.model.parameters())
    assert (backbone.hidden_size, backbone.dtype, len(backbone.layers)) == (WIDTH, torch.float32, DEPTH)


@pytest.mark.parametrize("family", ["llama", "gemma3", "opt"])
def test_training_through_the_base_changes_none_of_its_bits(family: str) -> None:
    backbone, shift = tiny(family), learnable(random_shift(LAYERS))
    before = {name: t.clone() for name, t in backbone.model.state_dict().items()}
    ids, mask, starts = padded_batch(prompts(), "right")
    weighted(real(backbone.logits(ids, mask, plan_for(starts), shift), starts)).backward()
    assert all(torch.equal(t, before[name]) for name, t in backbone.model.state_dict().items())
    assert all(p.grad is None for p in backbone.model.parameters())


@pytest.mark.parametrize(
    ("layers", "message"),
    [((4,), "4 is not a layer"), ((-1,), "choose from 0 to 3"), ((1, 1), "each once"), ((), "at least one")],
)
def test_layers_the_base_does_not_have_are_refused(layers: tuple[int, ...], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        tiny("llama").check_layers(layers)


@torch.no_grad()
def test_a_batch_that_does_not_fit_the_plan_is_refused() -> None:
    backbone, shift = tiny("llama"), random_shift(LAYERS)
    ids, mask, starts = padded_batch(prompts(), "left")
    with pytest.raises(BaseModelError, match="a batch of 5 rows does not fit a plan of 6 rows"):
        backbone.logits(ids[:5], mask[:5], plan_for(starts), shift)
