"""How far each user's shift may act, by a trial on the earlier part of the own history."""

from __future__ import annotations

import math
from dataclasses import replace

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from learners import LAYERS, assert_bitwise, assert_same, collective_bank, learner, new_loop, runner, start_shift, train

from perfit.config import StageConfig
from perfit.edits.edit_plan import TwoStageShift
from perfit.edits.shift import Shift, ShiftBank, blended
from perfit.training.evidence import Evidence, strengths_bank
from perfit.training.learner import Learner

CONFIG = StageConfig(epochs=3, batch_size=4, learning_rate=3e-2)
RULE = Evidence(share=0.25, strength=0.75, prior=0.0)
PEOPLE = [learner(name, count) for name, count in (("a", 9), ("b", 4), ("none", 0), ("c", 6), ("one", 1), ("d", 13))]
losses = st.lists(st.floats(0, 50), min_size=4, max_size=4)


@given(losses, st.floats(0, 20))
def test_evidence_takes_nobody_beyond_the_usual_strength_and_a_prior_only_back_to_it(
    found: list[float], prior: float
) -> None:
    free, held = RULE.choose(found), replace(RULE, prior=prior).choose(found)
    assert free in RULE.strengths()
    assert held >= free or math.isclose(held, free)
    assert replace(RULE, prior=1e6).choose(found) == 0.75


def test_what_the_later_history_says_counts_in_nats() -> None:
    assert RULE.strengths() == [0.0, 0.25, 0.5, 0.75]
    assert RULE.choose([10.0, 9.0, 8.5, 9.5]) == 0.5
    assert RULE.choose([10.0, 10.0, 10.0, 10.0]) == 0.75  # no evidence: the usual strength
    against = [10.0, 10.5, 11.0, 12.5]
    assert RULE.choose(against) == 0.0
    assert replace(RULE, prior=2.4).choose(against) == 0.5  # gains -.5, -1, -2.5; prior 1.33, 2.13, 2.4
    assert replace(RULE, prior=20.0).choose(against) == 0.75
    for_it = [10.0, 9.5, 9.2, 9.0]
    assert replace(RULE, prior=-0.9).choose(for_it) == 0.75  # gains .5, .8, 1; prior -.5, -.8, -.9
    assert replace(RULE, prior=-1.1).choose(for_it) == 0.0
    assert RULE.choose([10.0, math.nan, 1.0, 1.0]) == 0.0


@pytest.mark.parametrize(("rows", "earlier"), [(0, 0), (1, 0), (2, 1), (4, 3), (9, 7), (100, 75)])
def test_the_newest_share_is_held_out_one_item_at_least(rows: int, earlier: int) -> None:
    assert RULE.earlier(rows) == earlier


@given(st.integers(0, 50), st.floats(0.01, 0.99))
def test_who_has_two_items_has_one_for_each_side(rows: int, share: float) -> None:
    earlier = replace(RULE, share=share).earlier(rows)
    assert 1 <= earlier < rows if rows > 1 else earlier == 0


def test_without_a_trial_the_prior_decides_alone() -> None:
    assert RULE.without_trial() == replace(RULE, prior=2.0).without_trial() == 0.75
    assert replace(RULE, prior=-0.1).without_trial() == 0.0
    (one,) = train(new_loop(CONFIG, 1, evidence=replace(RULE, prior=-0.1)), [learner("one", 1)]).values()
    assert (one.strength, one.problem) == (0.0, None)


def test_a_user_s_shift_is_tried_on_the_device_where_it_trains() -> None:
    shared, own = start_shift(), Shift(*(tensor.to("meta") for tensor in start_shift(3).tensors().values()))
    assert strengths_bank(shared, own, RULE).shift.R.device.type == "meta"


@pytest.mark.parametrize("step", [1, 2])
def test_a_trial_that_diverges_leaves_its_user_alone_and_the_training_goes_on(
    step: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    one, surely = (
        PEOPLE[0],
        replace(RULE, prior=1e6),
    )  # at any step but a diverging one the prior gives the usual strength
    steps: list[str] = []
    loop = new_loop(CONFIG, 1, evidence=surely, listener=lambda event: steps.extend({event.kind} & {"step"}))
    norms = loop.optimiser.gradient_norms

    def diverging(slots: list[int]) -> torch.Tensor:
        return norms(slots) * (math.nan if len(steps) == step - 1 else 1.0)

    monkeypatch.setattr(loop.optimiser, "gradient_norms", diverging)
    (found,) = train(loop, [one]).values()
    (without,) = train(new_loop(CONFIG, 1), [one]).values()
    assert (found.strength, found.problem) == (0.0, None)
    assert len(steps) == step + without.steps  # the trial, of two steps, ended where it diverged
    assert_bitwise(found, without)


def strength_by_hand(one: Learner, kind: str, rule: str) -> float:
    """A training of its own on the earlier rows, then each strength asked row by row with the plain runner."""
    earlier = RULE.earlier(len(one.rows))
    trial = replace(one, rows=one.rows[:earlier])
    own = train(new_loop(replace(CONFIG, epochs=1), 1, runner(kind, rule=rule)), [trial])[one.name].shifts[0]
    plain, sums = runner("plain", rule=rule), []
    for strength in RULE.strengths():
        mixed = blended(one.start[0], own, strength)
        bank = ShiftBank.empty(1, *mixed.R.shape)
        bank.put(1, mixed)
        both = TwoStageShift(LAYERS, collective_bank(), bank)
        with torch.no_grad():
            sums.append(
                sum(float(plain.answer_loss(plain.prepare([row]), [(1, 1)], both)) for row in one.rows[earlier:])
            )
    return RULE.choose(sums)


@pytest.mark.parametrize(("kind", "rule"), [("frozen", "l3"), ("plain", "l3"), ("frozen", "f2+l3")])
def test_each_learner_trains_on_everything_and_has_the_strength_of_a_trial_of_its_own(kind: str, rule: str) -> None:
    how = runner(kind, rule=rule)
    found = train(new_loop(CONFIG, 3, how, evidence=RULE), PEOPLE)
    without = train(new_loop(CONFIG, 3, how), PEOPLE)
    for one in PEOPLE:
        assert_same(found[one.name], without[one.name])
        if one.rows:
            tried = len(one.rows) > 1
            assert found[one.name].strength == (strength_by_hand(one, kind, rule) if tried else 0.75)
        assert without[one.name].strength is None
    assert len({trained.strength for trained in found.values()}) > 2  # or this would show little


def test_a_learner_s_strength_does_not_depend_on_company() -> None:
    together = train(new_loop(CONFIG, 4, evidence=RULE), PEOPLE)
    for one in PEOPLE:
        (alone,) = train(new_loop(CONFIG, 1, evidence=RULE), [one]).values()
        assert alone.strength == together[one.name].strength
        assert_same(alone, together[one.name])


def test_a_trial_of_one_learner_leaves_nothing_behind() -> None:
    one = PEOPLE[0]
    (tried,) = train(new_loop(CONFIG, 1, evidence=RULE), [one]).values()
    (plain,) = train(new_loop(CONFIG, 1), [one]).values()
    assert_bitwise(tried, plain)
