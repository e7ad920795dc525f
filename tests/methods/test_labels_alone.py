"""Answers among the task's labels alone: every method gives one, whatever it does to the base."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from method_world import ALL, ANNA, BEN, CONFIG, asks, base, make, ready, setting
from small_base import LABELS, TASK, person
from torch import Tensor

from perfit.backbone.model import Backbone
from perfit.backbone.taps import NOTHING, Changes, running
from perfit.comparison.bench import Bench, check_labels
from perfit.data.schema import Dataset
from perfit.errors import ConfigError
from perfit.inference.decoding import Decoding
from perfit.inference.fixed_rows import greedy
from perfit.inference.label_set import LabelSet, labels_after
from perfit.inference.log_probs import changed_label_log_probs
from perfit.methods.attention import find_attention
from perfit.methods.cos import steered, steered_logits
from perfit.methods.lofit import Lofit, changing_heads
from perfit.methods.method import Ask, Setting
from perfit.methods.prompts import Prompts
from perfit.methods.style_vector import StyleVector, adding
from perfit.personalizer import PerFit
from perfit.tasks import get_task
from perfit.tasks.label_scores import answers_from

# One label begins another, and the task's limit holds the longer one without its end.
MORE = (*LABELS, "river stone", "river stone lamp boat")
NARROW = replace(TASK, labels=MORE, max_new_tokens=4)
EOS = 2
TOKENS = ((40, 41, EOS), (50, EOS), (50, 51, 52, EOS), (50, 51, 53, EOS), (60, 61, 62, 63, EOS), (60, 61, 62, 64, EOS))
ANSWERS = LabelSet.of(TOKENS, "abcdef")
PAIRS = [((5, 9, 7, 30, 12, 8), (30, 12, 8)), ((11, 12, 13, 14), (14,)), ((70, 71, 9, 9, 3), (9, 3))]


def both(folder: Path) -> tuple[Setting, Setting]:
    """The same setting with free answers and with labels alone."""
    free = replace(setting(folder), task=NARROW)
    return free, replace(free, answers="labels")


@pytest.mark.parametrize("name", [name for name in ALL if name not in ("rag-2", "rag-4")])
def test_every_answer_is_a_label_and_training_the_same(name: str, tmp_path: Path) -> None:
    free, labels = both(tmp_path)
    asked = asks(ANNA, BEN)
    said = ready(name, free, [ANNA, BEN]).predict(asked)
    # What the first one learnt lies in the folder; floors keep nothing and learn anew.
    method = ready(name, labels, [ANNA, BEN]) if name.startswith("floor") else make(name, labels)
    told: list[int] = []
    together = method.predict(asked, told.append)
    assert set(together) <= set(MORE)
    assert sum(told) == len(asked)
    assert together == [method.predict([ask])[0] for ask in asked]
    assert method.predict([]) == []
    if name.startswith("floor"):
        assert together == said
    else:
        assert not set(said) <= set(MORE)


def test_the_answer_is_the_most_probable_label_as_evaluate_has_it(tmp_path: Path) -> None:
    _, labels = both(tmp_path)
    backbone, asked = labels.backbone, asks(person("dora", history=0, queries=24))
    prompts = Prompts(labels)
    tokens, within = [prompts.plain(ask) for ask in asked], prompts.decoding.within
    assert within is not None

    def score(prompt: tuple[int, ...], answer: tuple[int, ...]) -> float:
        with torch.no_grad():
            logits = backbone.model(input_ids=torch.tensor([[*prompt, *answer]])).logits[0].log_softmax(-1)
        return sum(float(logits[len(prompt) - 1 + place, token]) for place, token in enumerate(answer))

    wanted = []
    for prompt in tokens:
        given = within(prompt)
        wanted.append(given.text_of(max(given.answers, key=lambda answer: score(prompt, answer))))
    method = make("base", labels)
    assert method.predict(asked) == wanted
    assert greedy(backbone, tokens, prompts.decoding) != wanted  # a label's likely beginning is not all of it
    perfit = PerFit(backbone, NARROW, CONFIG, labels.identity)
    scores = perfit.score_labels([ask.query for ask in asked], ["base"] * len(asked), best_only=True)
    assert answers_from(scores, NARROW, "trie") == wanted


def test_labels_have_the_tokens_that_training_gives_them(tmp_path: Path) -> None:
    _, labels = both(tmp_path)
    prompts = Prompts(labels)
    row = prompts.maker.history_rows(ANNA)[0]
    assert prompts.decoding.within is not None
    assert prompts.decoding.within(row.prompt_ids).text_of(row.answer_ids) == ANNA.history[0].fields["folder"]
    assert sorted(prompts.decoding.within(row.prompt_ids).texts) == sorted(MORE)


@pytest.mark.parametrize("family", ["llama", "gpt2", "mistral"])
@pytest.mark.parametrize("strength", [-1.0, 0.0, 1.5])
def test_steered_answers_are_the_greedy_ones_of_all_steered_logits(family: str, strength: float) -> None:
    backbone = base(family)
    got = steered(backbone, PAIRS, strength, Decoding(9, within=lambda prompt: ANSWERS))
    for pair, text in zip(PAIRS, got, strict=True):
        said: tuple[int, ...] = ()
        while said not in TOKENS:
            with torch.no_grad():
                longer, shorter = (
                    backbone.model(input_ids=torch.tensor([[*prompt, *said]])).logits[0, -1] for prompt in pair
                )
            scores = longer + strength * (longer - shorter)
            said = max(
                {(*said, answer[len(said)]) for answer in TOKENS if answer[: len(said)] == said},
                key=lambda longer: float(scores[longer[-1]]),
            )
        assert text == ANSWERS.text_of(said)
    if strength == -1.0:
        shorter_rows = [shorter for _, shorter in PAIRS]
        assert got == greedy(backbone, shorter_rows, Decoding(9, within=lambda prompt: ANSWERS))


def whole(backbone: Backbone, prompt: Sequence[int], answer: Sequence[int], changes: Changes = NOTHING) -> Tensor:
    """Logits [tokens of the answer, vocabulary] of a forward of its own, without a cache."""
    ids = torch.tensor([[*prompt, *answer]])
    with torch.no_grad():
        logits: Tensor = running(lambda: backbone.model(input_ids=ids).logits[0], changes)
    return logits[len(prompt) - 1 : -1]


def log_prob(logits: Tensor, answer: Sequence[int]) -> float:
    return float(logits.log_softmax(-1)[torch.arange(len(answer)), torch.tensor(answer)].sum())


@pytest.mark.parametrize("family", ["llama", "gpt2", "mistral"])
@pytest.mark.parametrize("strength", [-1.0, 0.0, 1.5])
def test_steered_labels_have_the_probabilities_of_whole_forwards(family: str, strength: float) -> None:
    backbone = base(family)
    given = {"mixed": lambda logits: steered_logits(logits[0], logits[1], strength)}
    scores = changed_label_log_probs(backbone, PAIRS, ANSWERS, **given)
    for pair, row in zip(PAIRS, scores.tolist(), strict=True):
        wanted = [
            log_prob(steered_logits(*(whole(backbone, prompt, answer) for prompt in pair), strength), answer)
            for answer in TOKENS
        ]
        assert row == pytest.approx(wanted, abs=1e-3)
    best = changed_label_log_probs(backbone, PAIRS, ANSWERS, best_only=True, **given)
    assert torch.equal(best.argmax(1), scores.argmax(1))


@pytest.mark.parametrize("family", ["llama", "gpt2", "mistral"])
def test_labels_under_a_change_of_each_rows_heads_have_the_probabilities_of_whole_forwards(family: str) -> None:
    backbone = base(family)
    prompts = [prompt for prompt, _ in PAIRS]
    every = [attention.out for attention in find_attention(backbone)]
    outs, wide = [out.name for out in every], [out.inputs for out in every]
    drawn = torch.Generator().manual_seed(3)
    biases = [[3 * torch.randn(size, generator=drawn) for size in wide] for _ in prompts]

    def during(rows: Sequence[int]) -> Changes:
        return changing_heads(
            backbone, outs, lambda layer, z: z + torch.stack([biases[row][layer] for row in rows])[:, None]
        )

    scores = changed_label_log_probs(backbone, [(prompt,) for prompt in prompts], ANSWERS, during=during)
    for row, prompt in enumerate(prompts):
        wanted = [log_prob(whole(backbone, prompt, answer, during([row])), answer) for answer in TOKENS]
        assert scores[row].tolist() == pytest.approx(wanted, abs=1e-3)
    best = changed_label_log_probs(backbone, [(prompt,) for prompt in prompts], ANSWERS, during=during, best_only=True)
    assert torch.equal(best.argmax(1), scores.argmax(1))


@pytest.mark.parametrize("name", ["cos", "style-vector", "lofit"])
def test_methods_that_change_the_base_answer_with_the_label_they_make_most_probable(name: str, tmp_path: Path) -> None:
    _, labels = both(tmp_path)
    users = [ANNA, BEN, person("dora", history=3, queries=10)]
    method, asked = ready(name, labels, users), asks(*users)
    prompts, backbone = Prompts(labels), labels.backbone
    within, wanted = labels_after(MORE, backbone.tokenizer, False), []
    for ask in asked:
        prompt = prompts.plain(ask)
        given = within(prompt)
        logits = [_of_method(method, prompts, ask, prompt, answer) for answer in given.answers]
        scores = [log_prob(*pair) for pair in zip(logits, given.answers, strict=True)]
        wanted.append(given.texts[scores.index(max(scores))])
    assert method.predict(asked) == wanted
    assert len(set(wanted)) > 1


def _of_method(method: Any, prompts: Prompts, ask: Ask, prompt: Sequence[int], answer: Sequence[int]) -> Tensor:
    """The logits of an answer's tokens under the method's own change, made by hand for one row."""
    backbone = prompts.setting.backbone
    if isinstance(method, StyleVector):
        vectors = method._vectors(ask.user)[None]
        return whole(backbone, prompt, answer, adding(backbone, method.layers, vectors, [len(prompt) - 1]))
    if isinstance(method, Lofit):
        biases = method._biases(method.work.adapted(ask.user).tensors)
        moved = changing_heads(backbone, method._outs, lambda layer, z: z + biases[layer])
        return whole(backbone, prompt, answer, moved)
    longer = prompts.retrieved(ask, 4)
    return steered_logits(whole(backbone, longer, answer), whole(backbone, prompt, answer), 0.5)


def test_what_answers_cannot_be_is_refused(tmp_path: Path) -> None:
    free, labels = both(tmp_path)
    with pytest.raises(ConfigError, match="answers: 'label' is unknown; choose from free, sampled, labels"):
        replace(free, answers="label")
    with pytest.raises(ConfigError, match="answers: task 'news_headline' has no labels"):
        replace(labels, task=get_task("news_headline"))
    strange = replace(labels, task=replace(TASK, labels=("nobody", "ever", "said")))
    with pytest.raises(ConfigError, match="two labels have the same tokens"):
        make("base", strange).predict(asks(ANNA))
    bench = Bench(Dataset((ANNA,)), strange.task, strange.backbone, strange.identity, CONFIG, answers="labels")
    with pytest.raises(ConfigError, match="two labels have the same tokens"):
        check_labels(bench)
    check_labels(replace(bench, task=TASK))
