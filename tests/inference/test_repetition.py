"""Repetition control against transformers' own generation of each prompt alone."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from families import NAMES, naive_editing, picked, random_shift, tiny
from small_base import CONFIG, TASK, dataset, write_base
from transformers import NoRepeatNGramLogitsProcessor, RepetitionPenaltyLogitsProcessor

from perfit.edits.positions import Positions
from perfit.errors import ConfigError
from perfit.inference.decoding import Decoding
from perfit.inference.generate import generate
from perfit.inference.label_set import LabelSet
from perfit.inference.repetition import Repetition
from perfit.personalizer import PerFit

PROMPTS = [[5, 9, 7, 30, 12, 8, 40, 9, 7], [11, 12], [0, 9, 0, 9], [60, 3, 4, 5]]
PAIRS = ((1, 1), (0, 0), (1, 3), (2, 2))
RULE, LAYERS, NEW = "f2+l3", (1, 2), 8
CONTROLS: list[tuple[float, int]] = [(1.8, 0), (0.6, 0), (1.0, 1), (1.0, 2)]


def alone(family: str, prompt: Sequence[int], pair: tuple[int, int], penalty: float, ngram: int, beams: int) -> str:
    """The answer of transformers, the prompt edited by simple hooks."""
    backbone, shift = tiny(family), random_shift(LAYERS)
    with torch.no_grad(), naive_editing(backbone, shift, pair, picked(RULE, len(prompt)), only_length=len(prompt)):
        out = backbone.model.generate(
            input_ids=torch.tensor([prompt]),
            attention_mask=torch.ones(1, len(prompt), dtype=torch.long),
            max_new_tokens=NEW,
            do_sample=False,
            num_beams=beams,
            repetition_penalty=penalty,
            no_repeat_ngram_size=ngram,
            pad_token_id=0,
        )
    return " ".join(map(str, out[0, len(prompt) :].tolist()))


@pytest.mark.parametrize("beams", [1, 3])
@pytest.mark.parametrize(
    ("family", "penalty", "ngram"), [(f, 1.4, 2) for f in NAMES] + [("llama", *control) for control in CONTROLS]
)
def test_a_batch_is_what_transformers_says_of_each_prompt_alone(
    family: str, penalty: float, ngram: int, beams: int
) -> None:
    # One prompt holds token 0, which is also the padding of the shorter ones.
    decoding = Decoding(NEW, beams=beams, repetition_penalty=penalty, no_repeat_ngram=ngram)
    got = generate(tiny(family), PROMPTS, PAIRS, random_shift(LAYERS), Positions.parse(RULE), decoding)
    assert got == [alone(family, p, pair, penalty, ngram, beams) for p, pair in zip(PROMPTS, PAIRS, strict=True)]
    free = generate(
        tiny(family), PROMPTS, PAIRS, random_shift(LAYERS), Positions.parse(RULE), Decoding(NEW, beams=beams)
    )
    assert got != free


@pytest.mark.parametrize(("penalty", "ngram"), CONTROLS)
def test_scores_are_those_of_transformers_rules(penalty: float, ngram: int) -> None:
    scores = torch.randn(3, 50, generator=torch.Generator().manual_seed(1))
    before = scores.clone()
    said = [[4, 7, 4, 9, 4], [1], [30, 31, 30]]
    got = Repetition(penalty, ngram)(scores, said)
    for row, tokens in enumerate(said):
        ids, expected = torch.tensor([tokens]), before[row : row + 1]
        if penalty != 1:
            expected = RepetitionPenaltyLogitsProcessor(penalty)(ids, expected)
        if ngram:
            expected = NoRepeatNGramLogitsProcessor(ngram)(ids, expected)
        assert torch.equal(got[row : row + 1], expected)
    assert torch.equal(scores, before)


def test_sampling_draws_from_what_control_leaves() -> None:
    shift, rule = random_shift(LAYERS), Positions.parse(RULE)
    how: dict[str, Any] = {"sample": True, "temperature": 2.0, "top_k": 90, "top_p": 1.0}
    repeated = 0
    for seed in range(8):
        free, once = (
            generate(tiny("llama"), PROMPTS, PAIRS, shift, rule, Decoding(NEW, seed=seed, no_repeat_ngram=n, **how))
            for n in (0, 1)
        )
        for prompt, loose, text in zip(PROMPTS, free, once, strict=True):
            said = [int(token) for token in text.split()]
            assert len({*said, *prompt}) == len(said) + len(set(prompt))
            repeated += len({*map(int, loose.split()), *prompt}) < NEW + len(set(prompt))
    assert repeated


def test_rows_that_are_through_leave_the_others_their_own_tokens() -> None:
    backbone, shift, rule = tiny("llama"), random_shift(LAYERS), Positions.parse(RULE)
    how: dict[str, Any] = {"repetition_penalty": 1.8, "no_repeat_ngram": 2}
    free = generate(backbone, PROMPTS, PAIRS, shift, rule, Decoding(NEW, **how))
    stop = tuple(text.split()[1] for text in free[:3])
    together = generate(backbone, PROMPTS, PAIRS, shift, rule, Decoding(NEW, stop=stop, **how))
    for prompt, pair, text in zip(PROMPTS, PAIRS, together, strict=True):
        assert generate(backbone, [prompt], [pair], shift, rule, Decoding(NEW, stop=stop, **how)) == [text]


@pytest.mark.parametrize(
    "values",
    [
        {"repetition_penalty": 0},
        {"repetition_penalty": float("inf")},
        {"repetition_penalty": float("nan")},
        {"repetition_penalty": True},
        {"repetition_penalty": "1.2"},
        {"no_repeat_ngram": -1},
        {"no_repeat_ngram": 1.5},
        {"no_repeat_ngram": False},
    ],
)
def test_what_is_no_control_is_refused(values: dict[str, Any]) -> None:
    (name,) = values
    with pytest.raises(ConfigError, match=f"{name}: .* is not possible; give"):
        Decoding(**values)
    with pytest.raises(ConfigError, match=f"{name}: .* is not possible; give"):
        replace(TASK, **values)


def test_given_answers_are_not_controlled() -> None:
    for values in ({"repetition_penalty": 1.2}, {"no_repeat_ngram": 2}):
        with pytest.raises(ConfigError, match="within: given answers are whole"):
            Decoding(within=lambda prompt: LabelSet.of([[5]], ["a"]), **values)  # type: ignore[arg-type]


def test_a_tasks_control_holds_unless_another_is_named(tmp_path: Path) -> None:
    task = replace(TASK, no_repeat_ngram=1, max_new_tokens=12)
    perfit = PerFit.from_pretrained(write_base(tmp_path / "base"), CONFIG, task=task)
    perfit.fit(dataset(), listener=lambda event: None)
    ask: tuple[list[str], list[str]] = (["river stone lamp"] * 2, ["anna", "base"])
    controlled = perfit.generate(*ask)
    free = perfit.generate(*ask, no_repeat_ngram=0)
    assert controlled == perfit.generate(*ask, decoding=Decoding(perfit.answer_limit(), no_repeat_ngram=1))
    assert free == perfit.generate(*ask, decoding=Decoding(perfit.answer_limit()))
    assert controlled != free
    penalised = perfit.generate(*ask, no_repeat_ngram=0, repetition_penalty=3.0)
    assert penalised == perfit.generate(*ask, decoding=Decoding(perfit.answer_limit(), repetition_penalty=3.0)) != free
