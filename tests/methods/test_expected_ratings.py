"""``answers="expected"``: every method that can score labels gives a rating's median and mean, exactly."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import torch
from method_world import ANNA, BEN, asks, base, make, setting
from small_base import TASK

from perfit.data.schema import User
from perfit.errors import ConfigError
from perfit.methods.method import Ask, Setting
from perfit.methods.prompts import Prompts
from perfit.methods.registry import METHODS, methods_for
from perfit.tasks.expected import Expected

RATES = replace(TASK, kind="rating", labels=("3", "1", "5", "2"))
SCORING = (
    *("base", "rag-1", "full-history", "cos", "style-vector", "lora-c", "lora-p", "lofit", "oppu", "reft-p"),
    *("perfit-stage-1", "perfit"),
)


def rated(user: User, *ratings: str) -> User:
    items = tuple(
        replace(item, fields={**item.fields, TASK.history_answer: rating})
        for item, rating in zip(user.history, ratings, strict=False)
    )
    queries = tuple(replace(query, gold="5" if query.gold else None) for query in user.queries)
    return User(user.id, items, queries)


USERS = [rated(ANNA, "1", "1", "2", "1"), rated(BEN, "5", "3", "5", "5")]
POOL = [rated(ANNA, "3", "1"), rated(BEN, "5", "2", "3")]


def where(folder: Path) -> Setting:
    return replace(setting(folder), task=RATES, answers="expected")


def test_the_base_s_ratings_are_those_of_whole_forwards(tmp_path: Path) -> None:
    here, backbone = where(tmp_path), base("llama")
    asked = asks(*USERS)
    texts = make("base", here).predict(asked)
    for ask, text in zip(asked, texts, strict=True):
        prompt, scores = Prompts(here).plain(ask), []
        for label in RATES.labels:
            tokens = [*prompt, *backbone.tokenizer.encode(label, add_special_tokens=False), 2]
            with torch.no_grad():
                logits = backbone.model(input_ids=torch.tensor([tokens])).logits[0].log_softmax(-1)
            scores.append(sum(float(logits[i - 1, tokens[i]]) for i in range(len(prompt), len(tokens))))
        expected, found = Expected.of(RATES.labels, scores), Expected.read(text)
        assert found is not None
        assert (found.median, found.mean) == (expected.median, pytest.approx(expected.mean, abs=1e-3))


@pytest.mark.parametrize("name", SCORING)
def test_methods_expect_ratings_for_each_user_as_if_alone(name: str, tmp_path: Path) -> None:
    method = make(name, where(tmp_path))
    method.fit(POOL)
    assert method.adapt(USERS) == {}
    same = [Ask(user, USERS[0].queries[0]) for user in USERS]
    told: list[int] = []
    texts = method.predict([*same, *asks(*USERS)], told.append)
    assert sum(told) == len(texts)
    found = [Expected.read(text) for text in texts]
    assert all(one is not None and 1 <= one.mean <= 5 for one in found)
    alone = Expected.read(method.predict([same[1]])[0])
    assert found[1] is not None
    assert alone is not None
    assert found[1].mean == pytest.approx(alone.mean, abs=1e-3)
    if name not in ("base", "lora-c", "perfit-stage-1"):
        assert texts[0] != texts[1]


def test_methods_that_cannot_score_labels_say_so(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="base: cannot score labels; leave it out"):
        replace(METHODS["base"], scores=False)(where(tmp_path))
    assert methods_for(RATES, "expected") == methods_for(RATES)  # all of perfit's own can
    assert set(SCORING) <= set(METHODS)


def test_it_is_for_ratings_alone(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="answers: 'expected' is for ratings, and task 'folders' is of kind 'label'"):
        replace(setting(tmp_path), answers="expected")
