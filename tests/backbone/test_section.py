"""Partial runs of the base, over a constant prefix or not, equal the whole."""

from __future__ import annotations

import pytest
import torch
from families import DEPTH, FAMILIES, NAMES, VOCABULARY, WIDTH, random_shift, tiny
from torch import Tensor

from perfit.backbone import section
from perfit.backbone.model import Backbone
from perfit.backbone.prefix_cache import PrefixCache
from perfit.backbone.section import Sections
from perfit.backbone.taps import looking, running, untouched
from perfit.edits.edit_plan import EditPlan, SlotGroups
from perfit.edits.positions import Positions

ROWS, LENGTH, SHORT = 3, 20, 15

families = pytest.mark.parametrize("family", NAMES)


def batch() -> tuple[Tensor, Tensor, Tensor]:
    """Token ids, mask (row 1 is shorter) and positions."""
    ids = torch.randint(3, VOCABULARY, (ROWS, LENGTH), generator=torch.Generator().manual_seed(3))
    mask = torch.ones(ROWS, LENGTH, dtype=torch.long)
    mask[1, SHORT:] = 0
    return ids, mask, torch.arange(LENGTH).expand(ROWS, -1)


def streams(backbone: Backbone, ids: Tensor, mask: Tensor) -> list[Tensor]:
    """Output of each layer in a run of the whole base."""
    seen: list[Tensor] = []
    layers = backbone.model.get_submodule(FAMILIES[backbone.name][2])
    handles = [
        layer.register_forward_hook(lambda m, a, out: seen.append(out[0] if isinstance(out, tuple) else out))
        for layer in layers
    ]
    try:
        backbone.logits(ids, mask)
    finally:
        for handle in handles:
            handle.remove()
    return seen


@families
@pytest.mark.parametrize("cut", range(DEPTH + 1))
@torch.no_grad()
def test_two_sections_equal_the_whole(family: str, cut: int) -> None:
    backbone = tiny(family)
    ids, mask, positions = batch()
    expected, own = streams(backbone, ids, mask), mask.bool()
    sections = Sections(backbone)
    where = {"attention_mask": mask, "position_ids": positions}
    if cut == 0:
        end = sections.run(0, DEPTH, tokens=ids, **where)
    else:
        states = sections.run(0, cut, tokens=ids, **where)
        torch.testing.assert_close(states[own], expected[cut - 1][own], rtol=1e-4, atol=1e-5)
        end = sections.run(cut, DEPTH, states=states, **where)
    torch.testing.assert_close(end[own], expected[-1][own], rtol=1e-4, atol=1e-4)


@families
@pytest.mark.parametrize("apart", [False, True])
@pytest.mark.parametrize("prefix", [1, 8])
@torch.no_grad()
def test_a_constant_prefix_stands_for_its_tokens(family: str, apart: bool, prefix: int) -> None:
    backbone, start = tiny(family), 2
    ids, mask, positions = batch()
    logits, own = backbone.logits(ids, mask), mask.bool()
    sections = Sections(backbone)
    states = sections.run(0, start, tokens=ids, attention_mask=mask, position_ids=positions)
    whole = PrefixCache(record=True)
    sections.run(start, DEPTH, states=states, attention_mask=mask, position_ids=positions, cache=whole)
    assert whole.recorded is not None
    assert sorted(whole.recorded) == list(range(start, DEPTH))
    cache = PrefixCache({i: (k[:, :, :prefix], v[:, :, :prefix]) for i, (k, v) in whole.recorded.items()}, apart=apart)
    final = sections.run(
        start,
        DEPTH,
        states=states[:, prefix:],
        attention_mask=mask,
        position_ids=positions[:, prefix:],
        cache=cache,
        finish=True,
    )
    got = sections.head(final[own[:, prefix:]])
    torch.testing.assert_close(got, logits[:, prefix:][own[:, prefix:]], rtol=1e-4, atol=2e-4)


@families
@torch.no_grad()
def test_a_prefix_padded_at_the_front_keeps_the_true_distances(family: str) -> None:
    # Two rows share a batch though their prefixes are 8 and 3 long; sliding windows are 6 wide.
    backbone, start, lengths, run = tiny(family), 1, (8, 3), 7
    ids = torch.randint(3, VOCABULARY, (2, 15), generator=torch.Generator().manual_seed(4))
    sections = Sections(backbone)
    keys, values, states, expected = {}, {}, [], []
    for row, n in enumerate(lengths):
        one = ids[row : row + 1, : n + run]
        where = {"attention_mask": torch.ones_like(one), "position_ids": torch.arange(n + run)[None]}
        below = sections.run(0, start, tokens=one, **where)
        cache = PrefixCache(record=True)
        expected.append(sections.run(start, DEPTH, states=below, cache=cache, finish=True, **where)[0, n:])
        states.append(below[0, n:])
        assert cache.recorded is not None
        for i, (k, v) in cache.recorded.items():
            for kept, new in ((keys, k), (values, v)):
                front = new.new_zeros(1, new.shape[1], max(lengths) - n, new.shape[3])
                kept.setdefault(i, []).append(torch.cat([front, new[:, :, :n]], dim=2))
    before = torch.tensor([[int(p >= max(lengths) - n) for p in range(max(lengths))] for n in lengths])
    for apart in (False, True):
        got = sections.run(
            start,
            DEPTH,
            states=torch.stack(states),
            attention_mask=torch.cat([before, torch.ones(2, run, dtype=torch.long)], dim=1),
            position_ids=torch.tensor(lengths)[:, None] + torch.arange(run),
            cache=PrefixCache({i: (torch.cat(keys[i]), torch.cat(values[i])) for i in keys}, apart=apart),
            finish=True,
        )
        torch.testing.assert_close(got, torch.stack(expected), rtol=1e-4, atol=1e-4)


@families
@pytest.mark.parametrize("apart", [False, True])
@torch.no_grad()
def test_groups_of_rows_attend_to_their_groups_shared_tokens(family: str, apart: bool) -> None:
    # Rows 0, 2 and 3 begin like the first row, row 1 like the second; six tokens lie within every sliding window.
    backbone, start, shared, run = tiny(family), 1, 3, 3
    ids = torch.randint(3, VOCABULARY, (4, shared + run), generator=torch.Generator().manual_seed(5))
    groups = SlotGroups.of([7, 9, 7, 7])
    ids[:, :shared] = ids[:2, :shared][groups.group]
    where = {"attention_mask": torch.ones_like(ids), "position_ids": torch.arange(shared + run).expand(4, -1)}
    sections, record = Sections(backbone), PrefixCache(record=True)
    states = sections.run(0, start, tokens=ids, **where)
    expected = sections.run(start, DEPTH, states=states, cache=record, finish=True, **where)[:, shared:]
    assert record.recorded is not None
    kept = {i: (k[:2, :, :shared], v[:2, :, :shared]) for i, (k, v) in record.recorded.items()}
    got = sections.run(
        start,
        DEPTH,
        states=states[:, shared:],
        attention_mask=where["attention_mask"],
        position_ids=where["position_ids"][:, shared:],
        cache=PrefixCache(shared=kept, groups=groups, apart=apart),
        finish=True,
    )
    torch.testing.assert_close(got, expected, rtol=1e-4, atol=1e-4)


@families
@torch.no_grad()
def test_a_forward_may_end_with_the_keys_of_its_last_layer(family: str) -> None:
    backbone = tiny(family)
    ids, mask, positions = batch()
    sections = Sections(backbone)
    whole, short = PrefixCache(record=True), PrefixCache(record=True, last=2)
    sections.run(0, DEPTH, tokens=ids, attention_mask=mask, position_ids=positions, cache=whole)
    out = sections.run(0, DEPTH, tokens=ids, attention_mask=mask, position_ids=positions, cache=short)
    assert out.shape == (ROWS, 0, WIDTH)
    assert whole.recorded is not None
    assert short.recorded is not None
    assert sorted(short.recorded) == [0, 1, 2]
    for layer, kv in short.recorded.items():
        assert all(torch.equal(a, b) for a, b in zip(kv, whole.recorded[layer], strict=True))


@families
@torch.no_grad()
def test_the_head_alone_gives_the_familys_logits(family: str) -> None:
    backbone = tiny(family)
    ids, mask, positions = batch()
    sections = Sections(backbone)
    final = sections.run(0, DEPTH, tokens=ids, attention_mask=mask, position_ids=positions, finish=True)
    got = sections.head(final.reshape(-1, WIDTH)).view(ROWS, LENGTH, VOCABULARY)
    torch.testing.assert_close(got[mask.bool()], backbone.logits(ids, mask)[mask.bool()], rtol=1e-4, atol=1e-4)


@families
@torch.no_grad()
def test_sections_leave_the_base_as_it_was(family: str) -> None:
    backbone = tiny(family)
    ids, mask, positions = batch()
    before, names = backbone.logits(ids, mask), [name for name, _ in backbone.model.named_modules()]
    attention = backbone.model.config._attn_implementation
    sections = Sections(backbone)
    states = sections.run(0, 2, tokens=ids, attention_mask=mask, position_ids=positions)
    cache = PrefixCache(apart=True)
    sections.run(2, DEPTH, states=states, attention_mask=mask, position_ids=positions, cache=cache, finish=True)
    sections.head(states[0])
    assert torch.equal(backbone.logits(ids, mask), before)
    assert [name for name, _ in backbone.model.named_modules()] == names
    assert backbone.model.config._attn_implementation == attention


@torch.no_grad()
def test_a_section_that_fails_keeps_no_states() -> None:
    backbone = tiny("llama")
    ids, mask, positions = batch()
    sections = Sections(backbone)
    with pytest.raises((RuntimeError, ValueError)):
        sections.run(2, DEPTH, states=torch.zeros(1, 3, WIDTH + 1), attention_mask=mask, position_ids=positions)
    assert all(skip.given is None and skip.taken is None for skip in sections._decoder(False).skips)
    states = sections.run(0, 2, tokens=ids, attention_mask=mask, position_ids=positions)
    own = mask.bool()
    torch.testing.assert_close(states[own], streams(backbone, ids, mask)[1][own], rtol=1e-4, atol=1e-5)


@torch.no_grad()
def test_a_section_in_the_middle_of_another_takes_its_own_states() -> None:
    backbone = tiny("llama")
    ids, mask, positions = batch()
    other = ids.flip(1)
    sections = Sections(backbone)
    where = {"attention_mask": mask, "position_ids": positions}
    expected = [sections.run(0, 2, tokens=tokens, **where) for tokens in (ids, other)]
    assert not torch.equal(*expected)
    found: list[Tensor] = []

    def ask(hidden: Tensor) -> None:
        if not found:
            found.append(torch.empty(0))
            found[0] = untouched(lambda: sections.run(0, 2, tokens=other, **where))

    asking = {backbone.output_of(0): looking(ask)}
    assert torch.equal(running(lambda: sections.run(0, 2, tokens=ids, **where), asking), expected[0])
    assert torch.equal(found[0], expected[1])
    assert all(skip.given is None and skip.taken is None for skip in sections._decoder(False).skips)


@torch.no_grad()
def test_sections_may_be_made_while_edits_are_in_force() -> None:
    backbone, layers = tiny("llama"), (1, 2)
    plan = EditPlan.for_prompts(Positions.parse("all"), [3, 3], [(1, 2), (2, 1)])
    section._TUPLES.pop(backbone.model, None)  # what a base's layers answer with is asked once
    made = running(lambda: Sections(backbone), backbone.edits(plan, random_shift(layers)))
    section._TUPLES.pop(backbone.model)
    assert made._tuples == Sections(backbone)._tuples
