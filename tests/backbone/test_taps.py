"""Changes of a base travel with the forward: threads, callbacks and interrupts."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor

import pytest
import torch
from families import DEPTH, NAMES, padded_batch, random_shift, tiny
from interrupts import interrupted_at_every_line
from torch import Tensor, nn

from perfit.backbone import model as backbone_model
from perfit.backbone import prefix_attention, section, taps, twin
from perfit.backbone.model import Backbone
from perfit.backbone.prefix_cache import PrefixCache
from perfit.backbone.section import Sections
from perfit.backbone.taps import Changes, Tap, looking, running, untouched
from perfit.edits.edit_plan import EditPlan
from perfit.edits.positions import Positions
from perfit.inference import generate as generating
from perfit.inference import last_states
from perfit.inference.decoding import Decoding
from perfit.inference.generate import generate
from perfit.methods import adapters as lora
from perfit.methods import lofit, style_vector
from perfit.methods.adapters import COLLECTIVE, LoraShape, adapted
from perfit.methods.attention import find_attention
from perfit.methods.lofit import changing_heads
from perfit.methods.style_vector import adding

LAYERS = (1, 2)
PROMPTS = ((5, 9, 7, 30, 12), (11, 3, 8))
PAIRS = ((1, 2), (2, 1))
RULE = Positions.parse("f1+l2")


def edits(backbone: Backbone, pairs: Sequence[tuple[int, int]]) -> Changes:
    _, _, starts = padded_batch(PROMPTS, "left")
    plan = EditPlan.for_prompts(RULE, list(map(len, PROMPTS)), pairs, starts=starts)
    return backbone.edits(plan, random_shift(LAYERS))


def logits(backbone: Backbone) -> Tensor:
    ids, mask, _ = padded_batch(PROMPTS, "left")
    with torch.no_grad():
        return backbone.logits(ids, mask)


@pytest.mark.parametrize("family", NAMES)
def test_one_thread_stands_still_inside_its_forward_while_another_runs(family: str) -> None:
    backbone = tiny(family)
    base = logits(backbone)
    alone = {pairs: running(lambda: logits(backbone), edits(backbone, pairs)) for pairs in (PAIRS, PAIRS[::-1])}
    assert not torch.equal(alone[PAIRS], alone[PAIRS[::-1]])
    inside, go = threading.Event(), threading.Event()

    def stop(hidden: Tensor) -> None:
        inside.set()
        assert go.wait(30)

    def first() -> Tensor:
        held = {backbone.output_of(LAYERS[0]): looking(stop)}
        return running(lambda: logits(backbone), held, edits(backbone, PAIRS))

    with ThreadPoolExecutor(1) as threads:
        waiting = threads.submit(first)
        assert inside.wait(30)
        assert torch.equal(logits(backbone), base)
        assert torch.equal(running(lambda: logits(backbone), edits(backbone, PAIRS[::-1])), alone[PAIRS[::-1]])
        go.set()
        assert torch.equal(waiting.result(30), alone[PAIRS])


def test_a_forward_inside_a_forward_has_its_own_changes() -> None:
    backbone = tiny("llama")
    base, alone = logits(backbone), running(lambda: logits(backbone), edits(backbone, PAIRS))
    found: list[Tensor] = []

    def ask(hidden: Tensor) -> None:
        if not found:
            found.append(torch.empty(0))
            found[0] = untouched(lambda: logits(backbone))

    asking = {backbone.output_of(LAYERS[0]): looking(ask)}
    assert torch.equal(running(lambda: logits(backbone), edits(backbone, PAIRS), asking), alone)
    assert torch.equal(found[0], base)


def test_changes_at_one_place_act_in_their_order_and_nested_ones_after_those_around() -> None:
    backbone = tiny("llama")
    tap = backbone.output_of(DEPTH - 1)
    seen: list[str] = []

    def note(name: str) -> Changes:
        return {tap: looking(lambda hidden: seen.append(name))}

    running(lambda: running(lambda: logits(backbone), note("c")), note("a"), note("b"))
    assert seen == ["a", "b", "c"]


def test_a_call_in_the_middle_of_another_counts_positions_in_its_own_cache() -> None:
    backbone = tiny("llama")
    alone = running(lambda: logits(backbone), edits(backbone, PAIRS))
    ids, mask, _ = padded_batch(PROMPTS, "left")
    found: list[Tensor] = []

    def in_two(changes: Changes) -> Tensor:
        """The same batch, three columns and then two over the cache; the base keeps a cache between the two."""
        positions = (mask.cumsum(-1) - 1).clamp(min=0)

        def both() -> Tensor:
            first = backbone.model(ids[:, :3], attention_mask=mask[:, :3], position_ids=positions[:, :3])
            over = first.past_key_values
            second = backbone.model(
                ids[:, 3:], attention_mask=mask, position_ids=positions[:, 3:], past_key_values=over
            )
            return torch.cat([first.logits, second.logits], 1)

        with torch.no_grad():
            return running(both, changes)

    def ask(hidden: Tensor) -> None:
        if not found:
            found.append(torch.empty(0))
            found[0] = untouched(lambda: in_two(edits(backbone, PAIRS)))

    asking = {backbone.output_of(0): looking(ask)}
    got = running(lambda: logits(backbone), asking, edits(backbone, PAIRS))
    assert torch.equal(got, alone)
    own = mask.bool()
    torch.testing.assert_close(found[0][own], alone[own], rtol=1e-4, atol=1e-4)
    # One set of edits for a forward over a cache and then one without.
    both = edits(backbone, PAIRS)
    in_two(both)
    assert torch.equal(running(lambda: logits(backbone), both), alone)


def test_the_other_parts_of_a_tuple_stay() -> None:
    class Pair(nn.Module):
        def forward(self, x: Tensor) -> tuple[Tensor, str, int]:
            return x, "more", 3

    module = Pair()
    tap = Tap(module, "output")
    assert running(lambda: module(torch.ones(2)), {tap: lambda hidden: hidden + 1})[1:] == ("more", 3)
    assert running(lambda: module(torch.ones(2)), {tap: lambda hidden: hidden + 1})[0].tolist() == [2, 2]


def test_a_thread_of_an_event_loop_takes_the_changes_of_its_own_call() -> None:
    backbone = tiny("llama")
    base, alone = logits(backbone), running(lambda: logits(backbone), edits(backbone, PAIRS))

    def edited() -> Tensor:
        return running(lambda: logits(backbone), edits(backbone, PAIRS))

    async def mixed() -> list[Tensor]:
        calls = [edited, lambda: logits(backbone)] * 8
        return await asyncio.gather(*(asyncio.to_thread(call) for call in calls))

    for number, got in enumerate(asyncio.run(mixed())):
        assert torch.equal(got, base if number % 2 else alone)


def _edited(backbone: Backbone) -> None:
    running(lambda: logits(backbone), edits(backbone, PAIRS))


def _vectors(backbone: Backbone) -> None:
    added = adding(backbone, LAYERS, torch.ones(2, 2, backbone.hidden_size), [0, 1])
    running(lambda: logits(backbone), added)
    list(last_states.last_states(backbone, PROMPTS, LAYERS, 1000))


def _heads(backbone: Backbone) -> None:
    outs = [attention.out.name for attention in find_attention(backbone)]
    running(lambda: logits(backbone), changing_heads(backbone, outs, lambda layer, z: z + 1))


@torch.no_grad()
def _sections(backbone: Backbone) -> None:
    sections, ids = Sections(backbone), torch.tensor([[5, 9, 7]])
    how = {"attention_mask": torch.ones_like(ids), "position_ids": torch.arange(3)[None]}
    states = sections.run(0, 2, tokens=ids, **how)
    final = sections.run(2, DEPTH, states=states, cache=PrefixCache(apart=True), finish=True, **how)
    sections.head(final[0])


def _lora(backbone: Backbone) -> None:
    adapters = adapted(backbone, {COLLECTIVE: find_attention(backbone)[0].only("q")}, LoraShape(rank=2))
    adapters.load(COLLECTIVE, {name: torch.ones_like(t) for name, t in adapters.parameters(COLLECTIVE).items()})
    logits(adapters.backbone)


def _beams(backbone: Backbone) -> None:
    generate(backbone, PROMPTS, PAIRS, random_shift(LAYERS), RULE, Decoding(max_new_tokens=2, beams=2))


SPANS: dict[Callable[[Backbone], None], tuple[object, ...]] = {
    _edited: (taps, backbone_model),
    _vectors: (taps, style_vector, last_states),
    _heads: (taps, lofit),
    _sections: (section, prefix_attention, twin),
    _lora: (lora,),
    _beams: (taps, generating),
}


@pytest.mark.parametrize("call", SPANS, ids=lambda call: call.__name__)
def test_an_interrupt_at_any_line_leaves_the_base_as_it_was(call: Callable[[Backbone], None]) -> None:
    backbone = tiny("llama")
    model = backbone.model
    before, usual, own = logits(backbone), model.config._attn_implementation, model.generation_config
    alone = running(lambda: logits(backbone), edits(backbone, PAIRS))

    def check() -> None:
        assert torch.equal(logits(backbone), before)
        assert model.config._attn_implementation == usual
        assert model.generation_config is own
        assert torch.is_grad_enabled()

    files = {str(module.__file__) for module in SPANS[call]}  # type: ignore[attr-defined]
    assert interrupted_at_every_line(files, lambda: call(backbone), check) > 10
    assert torch.equal(running(lambda: logits(backbone), edits(backbone, PAIRS)), alone)
    assert not any(parameter.requires_grad for parameter in model.parameters())
