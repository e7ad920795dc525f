"""The frozen runner gives the plain one's losses and gradients, and both give those of each row alone."""

from __future__ import annotations

import random
from functools import cache

import pytest
import torch
from families import NAMES, VOCABULARY, gradients, learnable, random_shift, tiny
from learners import naive_loss
from torch import Tensor

from perfit.edits.edit_plan import TwoStageShift
from perfit.edits.positions import Positions
from perfit.errors import ConfigError, DataError
from perfit.training.frozen import FrozenRunner
from perfit.training.plain import PlainRunner
from perfit.training.rows import Runner, TokenRow, common_prefix, label_places, row_loss

HEAD = (5, 6, 7, 8, 9)
SLOTS = ((0, 0), (1, 1), (2, 2), (1, 1), (1, 3), (1, 2), (0, 0))
RULES = ("l3", "f2+l3", "all", "f2", "-1,-4", "l7")
LAYER_SETS = ((1, 2), (0,), (3,), (0, 3))

families = pytest.mark.parametrize("family", NAMES)
THROUGHOUT = ("llama", "gemma3")
"""Families that meet every rule at every set of layers; the others every rule once, and with that every set of layers, and
all of both where there is time."""
ALL = [
    (family, rule, layers, family in THROUGHOUT or n == (f + r) % len(LAYER_SETS))
    for f, family in enumerate(NAMES)
    for r, rule in enumerate(RULES)
    for n, layers in enumerate(LAYER_SETS)
]
MET = [(family, rule, layers) for family, rule, layers, quick in ALL if quick]
CASES = [pytest.param(*case, marks=[] if quick else pytest.mark.slow) for *case, quick in ALL]


@cache
def rows() -> tuple[TokenRow, ...]:
    """Seven rows; the prompt of the fourth is the shared prefix and nothing else, the second is shorter than l7."""
    rnd = random.Random(0)
    own = (12, 1, 7, 0, 15, 3, 9)
    return tuple(
        TokenRow(
            (*HEAD, *(rnd.randint(10, VOCABULARY - 1) for _ in range(n))),
            (*(rnd.randint(3, VOCABULARY - 1) for _ in range(rnd.randint(1, 4))), 2),
        )
        for n in own
    )


def losses_and_gradients(
    runner: Runner, shift: TwoStageShift, order: list[int] | None = None
) -> tuple[Tensor, list[Tensor]]:
    order = order if order is not None else list(range(len(SLOTS)))
    items = runner.prepare([rows()[i] for i in order])
    loss = runner.answer_loss(items, [SLOTS[i] for i in order], shift)
    back = loss[torch.tensor(order).argsort()]
    weights = torch.arange(1, len(SLOTS) + 1)
    return back.detach(), [t[1:] for t in gradients((back / weights).sum(), shift)]


def assert_like(
    got: tuple[Tensor, list[Tensor]], expected: tuple[Tensor, list[Tensor]], tolerance: float = 2e-5
) -> None:
    torch.testing.assert_close(got[0], expected[0], rtol=tolerance, atol=tolerance)
    for a, b in zip(got[1], expected[1], strict=True):
        torch.testing.assert_close(a, b, rtol=1e-3, atol=tolerance * max(1.0, float(b.abs().max())))


def test_each_family_meets_every_rule_and_every_set_of_layers() -> None:
    assert {(family, rule) for family, rule, _ in MET} == {(family, rule) for family in NAMES for rule in RULES}
    assert {(family, layers) for family, _, layers in MET} == {(f, layers) for f in NAMES for layers in LAYER_SETS}


@pytest.mark.parametrize(("family", "rule", "layers"), CASES, ids=lambda value: str(value).replace(" ", ""))
def test_the_frozen_runner_equals_the_plain_one(family: str, rule: str, layers: tuple[int, ...]) -> None:
    backbone, positions, shift = tiny(family), Positions.parse(rule), learnable(random_shift(layers))
    expected = losses_and_gradients(PlainRunner(backbone, positions), shift)
    shared = common_prefix(rows())
    for runner in (
        FrozenRunner(backbone, positions, layers),
        FrozenRunner(backbone, positions, layers, shared=shared, batch_tokens=40),
        FrozenRunner(backbone, positions, layers, shared=shared, apart=False),
        FrozenRunner(backbone, positions, layers, shared=shared, keep_prefix=False),
    ):
        assert_like(losses_and_gradients(runner, shift), expected)


@families
@pytest.mark.parametrize("rule", ["l3", "f2+l3"])
def test_the_plain_runner_equals_each_row_alone(family: str, rule: str) -> None:
    shift = learnable(random_shift((1, 2)))
    losses = torch.stack([naive_loss(row, shift, pair, family, rule) for row, pair in zip(rows(), SLOTS, strict=True)])
    expected = losses.detach(), [t[1:] for t in gradients((losses / torch.arange(1, 8)).sum(), shift)]
    assert_like(losses_and_gradients(PlainRunner(tiny(family), Positions.parse(rule)), shift), expected, 1e-4)


@pytest.mark.parametrize("family", ["llama", "gemma3"])
@pytest.mark.parametrize("rule", ["l3", "f2+l3"])
def test_batching_and_order_change_nothing(family: str, rule: str) -> None:
    backbone, positions, shift = tiny(family), Positions.parse(rule), learnable(random_shift((1, 2)))
    expected = losses_and_gradients(FrozenRunner(backbone, positions, (1, 2), shared=HEAD), shift)
    for batch_tokens in (1, 25, 1000):
        runner = FrozenRunner(backbone, positions, (1, 2), shared=HEAD, batch_tokens=batch_tokens)
        assert_like(losses_and_gradients(runner, shift), expected)
        assert_like(losses_and_gradients(runner, shift, [6, 2, 4, 0, 1, 5, 3]), expected)
    runner = FrozenRunner(backbone, positions, (1, 2), shared=HEAD)
    items = runner.prepare(rows())
    for item, pair, loss in zip(items, SLOTS, expected[0], strict=True):
        torch.testing.assert_close(runner.answer_loss([item], [pair], shift)[0].detach(), loss, rtol=2e-5, atol=2e-5)


@families
@pytest.mark.parametrize("rule", ["l3", "f2+l3"])
def test_bf16_runners_are_near_each_other_and_far_from_a_wrong_slot(family: str, rule: str) -> None:
    backbone, positions, shift = tiny(family, torch.bfloat16), Positions.parse(rule), random_shift((1, 2))
    plain, frozen = PlainRunner(backbone, positions), FrozenRunner(backbone, positions, (1, 2), shared=HEAD)
    with torch.no_grad():
        expected = plain.answer_loss(plain.prepare(rows()), SLOTS, shift)
        got = frozen.answer_loss(frozen.prepare(rows()), SLOTS, shift)
        wrong = frozen.answer_loss(frozen.prepare(rows()), (*SLOTS[1:], SLOTS[0]), shift)
    assert (got - expected).norm() < 0.25
    assert (wrong - expected).norm() > 0.75


def test_a_prefix_that_not_all_rows_share_in_their_frozen_part_is_used_where_it_can() -> None:
    # The fourth row's prompt ends where the shared prefix ends: its window begins inside it.
    runner = FrozenRunner(tiny("llama"), Positions.parse("l3"), (1, 2), shared=HEAD)
    assert [runner.frozen.shared_of(row) for row in rows()] == [5, 0, 5, 0, 5, 5, 5]


def test_every_row_is_reported_once_while_it_is_prepared() -> None:
    for runner in (
        PlainRunner(tiny("llama"), Positions.parse("l3")),
        FrozenRunner(tiny("llama"), Positions.parse("l3"), (1, 2), batch_tokens=30),
    ):
        seen: list[int] = []
        assert len(runner.prepare(rows(), seen.append)) == 7
        assert sum(seen) == 7


@pytest.mark.parametrize("rule", ["l3", "f2+l3"])
@pytest.mark.parametrize("layers", [(1, 2), (3,)])
def test_the_size_announced_is_the_size_held(rule: str, layers: tuple[int, ...]) -> None:
    runner = FrozenRunner(tiny("llama"), Positions.parse(rule), layers, shared=HEAD)
    for item in runner.prepare(rows()):
        held = item.states.nbytes + (item.prefix.nbytes if item.prefix is not None else 0)
        assert held == runner.size(item.row)
        assert item.states.untyped_storage().nbytes() == item.states.nbytes, "a view keeps the whole batch alive"


def test_the_frozen_part_takes_no_gradient_and_is_not_changed_by_a_step() -> None:
    shift = learnable(random_shift((1, 2)))
    runner = FrozenRunner(tiny("llama"), Positions.parse("l3"), (1, 2), shared=HEAD)
    items = runner.prepare(rows())
    before = [(item.states.clone(), None if item.prefix is None else item.prefix.clone()) for item in items]
    first = runner.answer_loss(items, SLOTS, shift)
    first.sum().backward()
    for item, (states, prefix) in zip(items, before, strict=True):
        assert not item.states.requires_grad
        assert torch.equal(item.states, states)
        assert prefix is None or torch.equal(item.prefix, prefix)
    assert torch.equal(runner.answer_loss(items, SLOTS, shift), first)


def test_layers_the_base_does_not_have_are_refused() -> None:
    with pytest.raises(ConfigError, match="9 is not a layer"):
        FrozenRunner(tiny("llama"), Positions.parse("l3"), (9,))


def test_labels_are_predicted_from_the_token_before_them() -> None:
    cells, columns, labels = label_places([4, 1], [(7, 8, 2), (9, 2)], torch.device("cpu"))
    assert cells.tolist() == [0, 0, 0, 1, 1]
    assert columns.tolist() == [4, 5, 6, 1, 2]
    assert labels.tolist() == [7, 8, 2, 9, 2]


def test_loss_is_summed_per_row_in_fp32() -> None:
    logits, labels = torch.randn(5, 11).bfloat16(), torch.tensor([1, 2, 3, 4, 5])
    got = row_loss(logits, labels, torch.tensor([0, 0, 2, 2, 2]), 3)
    nll = -logits.float().log_softmax(-1)[torch.arange(5), labels]
    torch.testing.assert_close(got, torch.stack([nll[:2].sum(), torch.tensor(0.0), nll[2:].sum()]))


def test_the_model_reads_all_but_the_last_answer_token() -> None:
    assert TokenRow((5, 6), (7, 8, 2)).input_ids == (5, 6, 7, 8)


def test_the_common_prefix_is_what_all_prompts_begin_with() -> None:
    assert common_prefix([]) == ()
    assert common_prefix(rows()) == HEAD
    assert common_prefix([TokenRow((1, 2, 3), (2,)), TokenRow((1, 2), (2,)), TokenRow((1, 2, 9), (2,))]) == (1, 2)
    assert common_prefix([TokenRow((1, 2), (2,)), TokenRow((3, 2), (2,))]) == ()


@pytest.mark.parametrize(("prompt", "answer"), [((1, 2, 3), ()), ((), (2,))])
def test_a_row_without_prompt_or_answer_is_refused_where_it_is_made(
    prompt: tuple[int, ...], answer: tuple[int, ...]
) -> None:
    with pytest.raises(DataError, match=rf"{len(prompt)} prompt and {len(answer)} answer tokens"):
        TokenRow(prompt, answer)
