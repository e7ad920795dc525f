"""Label scores against one forward per prompt and label, with hooks that edit vector by vector."""

from __future__ import annotations

import copy
from collections.abc import Sequence
from itertools import pairwise

import pytest
import torch
from families import NAMES, VOCABULARY, alone, picked, random_shift, tiny
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from perfit.backbone.model import Backbone
from perfit.edits.edit_plan import TwoStageShift
from perfit.edits.positions import Positions
from perfit.errors import ConfigError
from perfit.inference.label_set import LabelSet
from perfit.inference.log_probs import _Asked, answer_log_probs, label_log_probs

LAYERS = (1, 2)
EOS = 2
# One label begins another, one is a lone eos, two share a beginning, and one is longer than the families' window.
ANSWERS = [(7, EOS), (7, 8, EOS), (7, 9, 10, EOS), (EOS,), (11, EOS), (12, 13, 14, 15, 16, 17, 18, EOS)]
PAIRS = ((1, 1), (0, 0), (1, 3), (2, 2), (1, 0))
LENGTHS = (9, 4, 12, 2, 9)


def one_by_one(
    backbone: Backbone,
    prompts: Sequence[Sequence[int]],
    pairs: Sequence[tuple[int, int]],
    shift: TwoStageShift,
    rule: str,
    answers: Sequence[Sequence[int]],
) -> Tensor:
    scores = torch.zeros(len(prompts), len(answers))
    for row, (prompt, pair) in enumerate(zip(prompts, pairs, strict=True)):
        for label, answer in enumerate(answers):
            with torch.no_grad():
                logits = alone(backbone, [*prompt, *answer[:-1]], shift, pair, picked(rule, len(prompt)))
            log_probs = logits[len(prompt) - 1 :].double().log_softmax(-1)
            scores[row, label] = sum(log_probs[step, token] for step, token in enumerate(answer))
    return scores


def some_prompts(lengths: Sequence[int], seed: int = 3) -> list[list[int]]:
    g = torch.Generator().manual_seed(seed)
    return [torch.randint(3, VOCABULARY, (n,), generator=g).tolist() for n in lengths]


@pytest.mark.parametrize("rule", ["f2+l3", "l2"])
@pytest.mark.parametrize("family", NAMES)
def test_scores_are_those_of_separate_forwards_in_every_family(family: str, rule: str) -> None:
    backbone, shift, prompts = tiny(family), random_shift(LAYERS), some_prompts(LENGTHS)
    wanted = one_by_one(backbone, prompts, PAIRS, shift, rule, ANSWERS)
    finished: list[int] = []
    trie = LabelSet.of(ANSWERS)
    found = label_log_probs(backbone, prompts, PAIRS, shift, Positions.parse(rule), trie, done=finished.append)
    torch.testing.assert_close(found, wanted, rtol=1e-4, atol=1e-4)
    assert sum(finished) == len(prompts)
    best = label_log_probs(backbone, prompts, PAIRS, shift, Positions.parse(rule), trie, best_only=True)
    assert best.argmax(1).tolist() == wanted.argmax(1).tolist()


@pytest.mark.parametrize("batch_rows", [1, 3, 64])
@pytest.mark.parametrize("rule", ["f2+l3", "l2"])
@pytest.mark.parametrize("family", NAMES)
def test_each_prompts_own_answer_has_the_score_of_a_separate_forward(family: str, rule: str, batch_rows: int) -> None:
    backbone, shift, prompts = tiny(family), random_shift(LAYERS), some_prompts(LENGTHS)
    own = [5, 0, 1, 3, 0]  # of the answers; two prompts share one, one answer begins another
    wanted = one_by_one(backbone, prompts, PAIRS, shift, rule, ANSWERS)
    finished: list[int] = []
    found = answer_log_probs(
        backbone,
        prompts,
        [ANSWERS[n] for n in own],
        PAIRS,
        shift,
        Positions.parse(rule),
        batch_rows=batch_rows,
        done=finished.append,
    )
    assert found == pytest.approx([float(wanted[row, n]) for row, n in enumerate(own)], rel=1e-4, abs=1e-4)
    assert sum(finished) == len(prompts)


@given(
    lengths=st.lists(st.integers(1, 14), min_size=1, max_size=5),
    answers=st.sets(st.lists(st.integers(3, 9), max_size=4).map(tuple), min_size=1, max_size=6),
    owner=st.integers(0, 3),
    batch_tokens=st.sampled_from([1, 40, 10_000]),
    seed=st.integers(0, 99),
)
@settings(max_examples=25, deadline=None)
def test_any_labels_and_batches_give_the_same_scores(
    lengths: list[int], answers: set[tuple[int, ...]], owner: int, batch_tokens: int, seed: int
) -> None:
    backbone, shift, prompts = tiny("gemma3"), random_shift(LAYERS, seed), some_prompts(lengths, seed)
    closed = [(*answer, EOS) for answer in sorted(answers)]
    pairs = [(1, owner) if owner else (0, 0)] * len(prompts)
    trie = LabelSet.of(closed)
    rule = Positions.parse("l3")
    found = label_log_probs(backbone, prompts, pairs, shift, rule, trie, batch_tokens=batch_tokens, batch_rows=2)
    torch.testing.assert_close(found, one_by_one(backbone, prompts, pairs, shift, "l3", closed), rtol=1e-4, atol=1e-4)
    best = label_log_probs(
        backbone, prompts, pairs, shift, rule, trie, best_only=True, batch_tokens=batch_tokens, batch_rows=2
    )
    assert best.argmax(1).tolist() == found.argmax(1).tolist()
    ran = best > -torch.inf
    torch.testing.assert_close(best[ran], found[ran], rtol=1e-4, atol=1e-4)
    # Closed by eos no label begins another, so that together they are at most everything.
    assert (found.exp().sum(1) <= 1 + 1e-4).all()


@given(st.sets(st.lists(st.integers(0, 3), min_size=1, max_size=5).map(tuple), min_size=1, max_size=12))
def test_no_path_begins_another_and_each_label_lies_on_its_own(answers: set[tuple[int, ...]]) -> None:
    trie = LabelSet.of(sorted(answers))
    for path, after in pairwise(sorted(trie.paths)):
        assert after[: len(path)] != path
    for answer, path in zip(trie.answers, trie.path_of, strict=True):
        assert len(answer) == 1 if path == -1 else trie.paths[path][: len(answer) - 1] == answer[:-1]
    read = [entry for path in range(len(trie.paths)) for entry in trie.read(path)]
    assert len(read) == sum(len(answer) - 1 for answer in answers)


def test_bf16_scores_are_near_those_of_fp32() -> None:
    prompts, shift, trie = some_prompts(LENGTHS), random_shift(LAYERS), LabelSet.of(ANSWERS)
    scores = [
        label_log_probs(tiny("llama", dtype), prompts, PAIRS, shift, Positions.parse("l2"), trie)
        for dtype in (torch.float32, torch.bfloat16)
    ]
    assert scores[1].dtype == torch.float32
    torch.testing.assert_close(scores[0], scores[1], rtol=0.05, atol=0.2)


@pytest.mark.parametrize("answers", [[], [()], [(1, 2), (1, 2)]])
def test_labels_that_cannot_be_told_apart_are_refused(answers: list[tuple[int, ...]]) -> None:
    with pytest.raises(ConfigError, match="labels"):
        LabelSet.of(answers)


def sure_base() -> Backbone:
    """A base that is sure of what it says."""
    model = copy.deepcopy(tiny("llama").model)
    with torch.no_grad():
        model.lm_head.weight.mul_(30)
    return Backbone(model, tiny("llama").tokenizer, name="llama")


def test_a_label_is_left_out_only_where_its_first_token_is_less_likely_than_a_whole_other() -> None:
    backbone, shift, rule = sure_base(), random_shift(LAYERS), "l2"
    (prompt,) = some_prompts((9,))
    every = [(first, second) for first in range(3, VOCABULARY) for second in range(3, VOCABULARY)]
    scores = one_by_one(backbone, [prompt], [(1, 3)], shift, rule, [(token,) for token in range(VOCABULARY)])[0]
    whole = label_log_probs(
        backbone, [prompt], [(1, 3)], shift, Positions.parse(rule), LabelSet.of(every), batch_tokens=10_000
    )[0].view(VOCABULARY - 3, VOCABULARY - 3)
    likeliest, tried = int(scores[3:].argmax()) + 3, 0
    for token in range(3, VOCABULARY):
        # The likeliest first token with an end that makes it just less likely than this one with its best end.
        good = int(whole[token - 3].argmax()) + 3
        least = float(whole[token - 3].max())
        for end in range(3, VOCABULARY):
            reached = float(whole[likeliest - 3, end - 3])
            if token != likeliest and reached < least and scores[token] - reached < 0.5:
                labels = [(likeliest, end), (token, good)]
                found = label_log_probs(
                    backbone, [prompt], [(1, 3)], shift, Positions.parse(rule), LabelSet.of(labels), best_only=True
                )[0]
                assert int(found.argmax()) == 1
                tried += 1
    assert tried >= 3


def test_bf16_bases_give_log_probabilities_of_fp32() -> None:
    # One token each, all of the vocabulary: rounded to bf16 their probabilities would not add up.
    trie = LabelSet.of([(token,) for token in range(VOCABULARY)])
    backbone = tiny("llama", torch.bfloat16)
    found = label_log_probs(backbone, some_prompts(LENGTHS), PAIRS, random_shift(LAYERS), Positions.parse("l2"), trie)
    torch.testing.assert_close(
        found.double().exp().sum(1), torch.ones(len(PAIRS), dtype=torch.float64), atol=1e-5, rtol=0
    )
    longer = LabelSet.of([(7, token) for token in range(VOCABULARY)])
    scores = label_log_probs(
        backbone, some_prompts(LENGTHS), PAIRS, random_shift(LAYERS), Positions.parse("l2"), longer
    )
    torch.testing.assert_close(scores.exp().sum(1), found[:, 7].exp(), atol=0, rtol=1e-5)


def test_for_the_best_label_few_paths_run(monkeypatch: pytest.MonkeyPatch) -> None:
    backbone, shift, prompts = sure_base(), random_shift(LAYERS), some_prompts(LENGTHS)
    ran: list[int] = []
    add = _Asked._add

    def count(self: _Asked, scores: Tensor, pairs: list[tuple[int, int]], trie: LabelSet, size: int) -> None:
        ran.append(len(pairs))
        add(self, scores, pairs, trie, size)

    monkeypatch.setattr(_Asked, "_add", count)
    rule, trie = Positions.parse("l2"), LabelSet.of([(n, m) for n in range(10, 90) for m in range(VOCABULARY)])
    every = label_log_probs(backbone, prompts, PAIRS, shift, rule, trie)
    scores = label_log_probs(backbone, prompts, PAIRS, shift, rule, trie, best_only=True)
    assert scores.argmax(1).tolist() == every.argmax(1).tolist()
    whole, first, second = ran
    assert (whole, first) == (80 * len(prompts), len(prompts))
    assert second < whole / 4
