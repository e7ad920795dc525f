"""Many requests at once give what each gives alone."""

from __future__ import annotations

from dataclasses import replace

import families
import pytest
import torch
from served_world import LAYERS, SMALL, World, answered, batched, core_of, end_of, prompt, reference, same, tokens_of

from perfit.errors import BaseModelError, ConfigError
from perfit.serving.batched import Batched
from perfit.serving.continuous import Paging
from perfit.serving.engine import Request

LLAMA = families.tiny("llama")


def mixed(world: World, count: int = 18, rule: str = "l3") -> list[Request]:
    """Requests of several users, the collective and the base, that begin alike and end otherwise."""
    owners = [world.train(f"user {n}", positions=rule, strength=(1.0, 0.4, 0.0)[n % 3]) for n in range(5)]
    owners += [world.train("other", "u", rule, which=1)]
    everybody = [*owners, world.shared(positions=rule), world.shared("u", rule, which=1), None]
    shared = prompt(0, 17)
    return [
        Request(f"{n}", shared + prompt(n, 1 + n % 7), everybody[n % len(everybody)], max_new_tokens=5, n_logprobs=2)
        for n in range(count)
    ]


@pytest.mark.parametrize("rule", ["l3", "f2+l3", "all", "0,3,-1"])
@pytest.mark.parametrize("step", [3, 16, 64])
def test_many_at_once_equal_each_alone(rule: str, step: int) -> None:
    world = World()
    asked = mixed(world, rule=rule)
    plain = answered(reference(world, LLAMA), asked)
    for paging in (replace(SMALL, step=step), replace(SMALL, step=step, share=False)):
        found = answered(batched(world, LLAMA, paging), asked)
        assert all(same(one, other) for one, other in zip(found, plain, strict=True))
    assert len({tuple(token.id for token in tokens_of(one)) for one in plain}) > 9  # owners matter


@pytest.mark.parametrize("family", families.NAMES)
def test_on_every_family(family: str) -> None:
    world, backbone = World(), families.tiny(family)
    asked = mixed(world, 9, "f2+l3")
    plain = answered(reference(world, backbone), asked)
    found = answered(batched(world, backbone), asked)
    assert all(same(one, other) for one, other in zip(found, plain, strict=True))


def test_the_base_is_left_as_it_was() -> None:
    world, backbone = World(), families.tiny("gemma2")  # its attention is exchanged in the copy that runs
    attention = backbone.model.config._attn_implementation
    ids = torch.tensor([prompt(3, 9)])
    before, drawn = backbone.logits(ids, torch.ones_like(ids)), torch.random.get_rng_state()
    engine = batched(world, backbone)
    assert torch.equal(torch.random.get_rng_state(), drawn)
    answered(engine, mixed(world, 6))
    assert backbone.model.config._attn_implementation == attention
    assert torch.equal(backbone.logits(ids, torch.ones_like(ids)), before)


def test_requests_that_are_put_out_and_taken_in_again_are_edited_where_their_prompt_was() -> None:
    world = World()
    who = [world.train(f"user {n}", positions="f2+l3") for n in range(6)]
    asked = [Request(f"{n}", prompt(n, 14), who[n], max_new_tokens=16) for n in range(6)]
    plain = answered(reference(world, LLAMA), asked)
    engine = batched(world, LLAMA, Paging(rows=6, page=4, tokens=64, step=16))
    pages = core_of(engine)._pages  # type: ignore[attr-defined]
    again = []
    create = pages._processor.scheduler.add_waiting_request
    pages._processor.scheduler.add_waiting_request = lambda state: (
        again.append(state._true_initial_tokens),
        create(state),
    )
    found = answered(engine, asked)
    assert any(again), "the pool is too large for this test"
    assert all(same(one, other) for one, other in zip(found, plain, strict=True))


def test_a_request_that_can_never_fit_is_refused_at_once() -> None:
    world = World()
    engine = batched(world, LLAMA, Paging(rows=2, page=4, tokens=32, step=16))
    with pytest.raises(ConfigError, match="room for"):
        engine.submit(Request("a", prompt(0, 30), max_new_tokens=8))
    with pytest.raises(ConfigError, match="positions"):
        engine.submit(Request("a", prompt(0, 100), max_new_tokens=60))
    with pytest.raises(BaseModelError, match="another base"):
        engine.submit(Request("a", prompt(0, 3), replace(world.shared(), base="another")))


def test_a_shift_of_a_larger_rank_is_refused_and_nobody_else() -> None:
    world = World()
    backbone = LLAMA
    engine = batched(world, backbone)
    engine._core = Batched(backbone, LAYERS, (4, 2), paging=SMALL)
    (broken,) = answered(engine, [Request("a", prompt(0, 5), world.train("user"), max_new_tokens=2)])
    assert end_of(broken).reason == "error"
    (fine,) = answered(engine, [Request("a", prompt(0, 5), max_new_tokens=2)])
    assert end_of(fine).reason == "length"
    assert engine.stats().pinned == 0
