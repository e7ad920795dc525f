"""Answers out of a given set: against a loop that runs the whole sequence again and looks at all logits."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache

import pytest
import torch
from families import NAMES, VOCABULARY, alone, picked, random_shift, tiny
from hypothesis import given
from hypothesis import strategies as st

from perfit.backbone.model import Backbone
from perfit.edits.positions import Positions
from perfit.errors import ConfigError
from perfit.inference.decoding import Decoding
from perfit.inference.generate import generate
from perfit.inference.label_set import LabelSet, only

EOS = 2
PAIRS = ((1, 1), (0, 0), (1, 3), (2, 2), (0, 1), (2, 0))
LENGTHS = (9, 4, 12, 2, 7, 9)
RULE = "f2+l3"
LAYERS = (1, 2)
# One alone, one that begins two others, two that part late, and two that part at once.
TOKENS = ((40, 41, EOS), (50, EOS), (50, 51, 52, EOS), (50, 51, 53, EOS), (60, 61, 62, 63, EOS), (60, 61, 62, 64, EOS))
TEXTS = tuple("abcdef")
MANY = [tuple(row) for row in [[10 * n, 10 * n + 1, EOS] for n in range(1, 9)]]


@cache
def prompts() -> list[list[int]]:
    g = torch.Generator().manual_seed(4)
    return [torch.randint(3, VOCABULARY, (n,), generator=g).tolist() for n in LENGTHS]


def chosen_alone(
    backbone: Backbone, prompt: Sequence[int], pair: tuple[int, int], tokens: Sequence[Sequence[int]]
) -> tuple[int, ...]:
    """The answer, by running everything again for each token, its eos included."""
    said: list[int] = []
    while not said or said[-1] != EOS:
        where = picked(RULE, len(prompt))
        with torch.no_grad():
            logits = alone(backbone, [*prompt, *said], random_shift(LAYERS), pair, where)[-1]
        ranked = sorted(range(len(logits)), key=lambda token: -float(logits[token]))
        said.append(next(t for t in ranked if any(list(a[: len(said) + 1]) == [*said, t] for a in tokens)))
    return tuple(said)


@pytest.mark.parametrize("family", NAMES)
def test_the_answer_is_the_greedy_one_among_those_given(family: str) -> None:
    backbone, answers = tiny(family), LabelSet.of(TOKENS, TEXTS)
    expected = [chosen_alone(backbone, p, pair, TOKENS) for p, pair in zip(prompts(), PAIRS, strict=True)]
    decoding = Decoding(max_new_tokens=1, within=lambda prompt: answers)
    got = generate(backbone, prompts(), PAIRS, random_shift(LAYERS), Positions.parse(RULE), decoding)
    assert got == [answers.text_of(one) for one in expected]


def test_each_prompt_has_answers_of_its_own_and_rows_equal_rows_alone() -> None:
    backbone, shift, rule = tiny("llama"), random_shift(LAYERS), Positions.parse(RULE)
    few, many = LabelSet.of(TOKENS, TEXTS), LabelSet.of(MANY, [f"number {n}" for n in range(8)])
    decoding = Decoding(within=lambda prompt: few if len(prompt) < 8 else many)
    told: list[int] = []
    together = generate(backbone, prompts(), PAIRS, shift, rule, decoding, told.append)
    assert [text in TEXTS for text in together] == [length < 8 for length in LENGTHS]
    assert sum(told) == len(LENGTHS)
    assert len(set(together)) > 2
    for prompt, pair, text in zip(prompts(), PAIRS, together, strict=True):
        assert generate(backbone, [prompt], [pair], shift, rule, decoding) == [text]


LABELS = st.lists(st.lists(st.integers(3, 5), min_size=1, max_size=3).map(tuple), min_size=1, max_size=6, unique=True)


@given(LABELS, st.data())
def test_whatever_is_chosen_is_allowed_and_ends_as_an_answer(
    labels: list[tuple[int, ...]], data: st.DataObject
) -> None:
    whole = [(*label, EOS) for label in labels]
    answers = LabelSet.of(whole, [str(n) for n in range(len(whole))])
    said: list[int] = []
    for _ in range(answers.longest):
        before = list(said)
        scores = only(torch.arange(6.0)[None], [answers], [said])[0]
        allowed = {answer[len(said)] for answer in whole if list(answer[: len(said)]) == said}
        assert {token for token in range(6) if scores[token] > -torch.inf} == allowed
        token = data.draw(st.sampled_from(sorted(allowed)))
        ended = answers.take(said, token)
        going_on = [answer for answer in whole if list(answer[: len(before) + 1]) == [*before, token]]
        assert ended == (len(going_on) == 1)
        assert said == (list(going_on[0]) if ended else [*before, token])
        if ended:
            break
    assert ended
    assert tuple(said) in answers.answers
    assert bool((only(torch.zeros(1, 6), [answers], [said]) == -torch.inf).all())


@pytest.mark.parametrize(
    ("tokens", "says"),
    [((), "at least one token"), (((),), "at least one token"), (((4, 2), (4, 2)), "the same tokens")],
)
def test_sets_that_no_tokens_tell_apart_are_refused(tokens: tuple[tuple[int, ...], ...], says: str) -> None:
    with pytest.raises(ConfigError, match=says):
        LabelSet.of(tokens, TEXTS[: len(tokens)])


@pytest.mark.parametrize("values", [{"sample": True}, {"beams": 2}])
def test_given_answers_are_neither_drawn_nor_searched_for(values: dict[str, bool | int]) -> None:
    with pytest.raises(ConfigError, match="chosen greedily"):
        Decoding(within=lambda prompt: LabelSet.of(TOKENS, TEXTS), **values)  # type: ignore[arg-type]
