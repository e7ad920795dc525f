"""What is shared of a beginning, with whom, and what is never shared."""

from __future__ import annotations

from dataclasses import replace

import families
from hypothesis import given
from hypothesis import strategies as st
from served_world import (
    SMALL,
    Stepped,
    World,
    answered,
    batched,
    core_of,
    end_of,
    prompt,
    reference,
    same,
    tokens_of,
    told,
)

from perfit.serving.batched import Batched
from perfit.serving.block_keys import BlockKeys, Edits
from perfit.serving.continuous import Paging
from perfit.serving.engine import Request

LLAMA = families.tiny("llama")


def chain(keys: BlockKeys, tokens: list[int], edits: Edits) -> list[bytes]:
    found, key = [], keys.root(edits)
    for number in range(len(tokens) // keys.size):
        key = keys.next(key, number, tokens[number * keys.size : (number + 1) * keys.size], edits)
        found.append(key)
    return found


EDITS = st.builds(
    Edits,
    tenant=st.sampled_from(["t", "u"]),
    version=st.sampled_from(["", "a", "b"]),
    positions=st.sets(st.integers(0, 13)).map(lambda places: tuple(sorted(places))),
)


@given(
    st.lists(st.integers(0, 1), min_size=12, max_size=12),
    st.lists(st.integers(0, 1), min_size=12, max_size=12),
    EDITS,
    EDITS,
)
def test_keys_agree_where_all_that_decides_a_block_agrees(
    one: list[int], other: list[int], mine: Edits, theirs: Edits
) -> None:
    keys = BlockKeys(4)
    for number, (a, b) in enumerate(zip(chain(keys, one, mine), chain(keys, other, theirs), strict=True)):
        end = 4 * (number + 1)
        before = [tuple(p for p in edits.positions if p < end) for edits in (mine, theirs)]
        agree = mine.tenant == theirs.tenant and one[:end] == other[:end] and before[0] == before[1]
        assert (a == b) == (agree and (not before[0] or mine.version == theirs.version))


def test_keys_are_long_and_secret() -> None:
    edits = Edits("t", "", ())
    one, other = chain(BlockKeys(4), [1, 2, 3, 4], edits), chain(BlockKeys(4), [1, 2, 3, 4], edits)
    assert len(one[0]) == 16
    assert one != other


def shared_ends(engine: Stepped, requests: list[Request]) -> list[int]:
    return [end_of(answered(engine, [request])[0]).cached_tokens for request in requests]


def test_users_of_suffix_shifts_share_all_before_the_suffix() -> None:
    world = World()
    owners = [world.train(f"user {n}", positions="l3") for n in range(5)]
    asked = [Request(f"{n}", (*prompt(0, 24), *prompt(n, 5)), who, max_new_tokens=3) for n, who in enumerate(owners)]
    plain = answered(reference(world, LLAMA), asked)
    engine = batched(world, LLAMA)
    assert shared_ends(engine, asked) == [0, 24, 24, 24, 24]
    again = [replace(request, id=f"again {request.id}") for request in asked]
    found = answered(engine, again)
    assert all(same(one, other) for one, other in zip(found, plain, strict=True))
    assert [end_of(one).cached_tokens for one in found] == [28] * 5  # each its own edited tokens too, but the last


def test_users_of_prefix_shifts_share_nothing_with_one_another() -> None:
    world = World()
    owners = [world.train(f"user {n}", positions="f2+l3") for n in range(3)]
    asked = [
        Request(f"{n}", prompt(0, 24), who, max_new_tokens=1) for n, who in enumerate((*owners, owners[1], None, None))
    ]
    assert shared_ends(batched(world, LLAMA), asked) == [0, 0, 0, 20, 0, 20]


def test_a_next_turn_computes_the_old_suffix_anew_and_no_more() -> None:
    world = World()
    engine, who = batched(world, LLAMA), world.train("anna", positions="l3")
    first = Request("1", prompt(0, 22), who, max_new_tokens=6)
    (events,) = answered(engine, [first])
    said = tuple(token.id for token in tokens_of(events))
    second = Request("2", (*first.prompt, *said, *prompt(1, 4)), who, max_new_tokens=4)
    (found,) = answered(engine, [second])
    assert end_of(found).cached_tokens == 16  # the suffix was at 19 to 21, in the block that begins at 16 and the next
    assert same(found, answered(reference(world, LLAMA), [second])[0])


def test_a_new_version_reads_nothing_of_the_old_one() -> None:
    world = World()
    engine = batched(world, LLAMA)
    for number in range(2):
        who = world.train("anna", positions="f1")
        request = Request(f"{number}", prompt(0, 20), who, max_new_tokens=2)
        (found,) = answered(engine, [request])
        assert end_of(found).cached_tokens == 0
        assert same(found, answered(reference(world, LLAMA), [request])[0])


def test_tenants_never_share() -> None:
    world = World()
    engine = batched(world, LLAMA)
    asked = [
        Request("1", prompt(0, 20), world.train("anna", "t"), max_new_tokens=1),
        Request("2", prompt(0, 20), world.train("anna", "u"), max_new_tokens=1),
        Request("3", prompt(0, 20), None, max_new_tokens=1, tenant="v"),
        Request("4", prompt(0, 20), None, max_new_tokens=1, tenant="v"),  # the control
    ]
    assert shared_ends(engine, asked) == [0, 0, 0, 16]


def test_nothing_is_shared_where_it_is_switched_off_or_attention_slides() -> None:
    world = World()
    asked = [Request(f"{n}", prompt(0, 20), max_new_tokens=1) for n in range(2)]
    assert shared_ends(batched(world, LLAMA, replace(SMALL, share=False)), asked) == [0, 0]
    assert shared_ends(batched(world, families.tiny("gemma3")), asked) == [0, 0]


def test_a_forgotten_user_leaves_no_byte() -> None:
    world = World()
    for family in ("llama", "gemma3"):
        engine = batched(world, families.tiny(family), Paging(rows=4, page=4, tokens=128, step=16))
        anna, ben = world.train("anna"), world.train("ben")
        asked = [
            Request("1", prompt(1, 20), anna, max_new_tokens=2),
            Request("2", prompt(2, 20), ben, max_new_tokens=9),
        ]
        expected = answered(reference(world, families.tiny(family)), asked[1:])[0]
        core = core_of(engine)
        assert isinstance(core, Batched)
        cache = core._pages._processor.cache
        ben_waits, anna_asks = engine.submit(asked[1]), engine.submit(asked[0])
        while anna_asks.request.id in (*engine._waiting, *engine._running):
            engine.step()
        before = cache.cache_tensor.clone()
        assert engine.wipe("t", anna.user) == 1
        in_use = [one.block_table.values() for one in cache.cache_allocators.values()]
        assert any(map(any, in_use)), "ben is still being answered"
        assert (cache.cache_tensor != before).any()
        engine.run()
        assert same(told(ben_waits), expected)
        assert engine.wipe("t", ben.user) == 1
        assert not cache.cache_tensor.any()
        assert not core._pages._processor.inputs_and_outputs.input_ids.any()
        assert not core._seconds.bank.shift.b[core._seconds._free].any()
