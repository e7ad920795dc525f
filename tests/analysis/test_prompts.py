"""What stands before a query, kind by kind."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace
from typing import Any

import pytest
import small_base

from perfit.analysis.prompts import Prompt, PromptMaker
from perfit.analysis.recipe import Recipe
from perfit.backbone.model import Backbone
from perfit.data.schema import HistoryItem, Query, User
from perfit.errors import ConfigError, DataError
from perfit.retrieval import HistoryIndex

RECIPE = Recipe(layers=(0,), items=2)


def made(backbone: Backbone, recipe: Recipe = RECIPE, **sizes: Any) -> tuple[PromptMaker, dict[str, list[Prompt]]]:
    users = small_base.dataset(**sizes).users
    maker = PromptMaker(small_base.TASK, backbone.tokenizer, users, recipe)
    by_kind: dict[str, list[Prompt]] = {}
    for prompt in maker.of(0):
        by_kind.setdefault(recipe.kinds[prompt.kind], []).append(prompt)
    return maker, by_kind


def text(backbone: Backbone, tokens: Any) -> str:
    return str(backbone.tokenizer.decode(tokens))


def test_history_is_what_bm25_finds_then_an_empty_line_then_the_query(backbone: Backbone) -> None:
    maker, prompts = made(backbone)
    user = maker.users[0]
    for query, bare, history in zip(user.queries, prompts["bare"], prompts["history"], strict=True):
        items = HistoryIndex(small_base.TASK, user).top(query, 2)
        documents = "".join(small_base.TASK.retrieval_document(item) for item in items)
        assert text(backbone, bare.tokens) == small_base.TASK.query_example(query).prompt
        assert text(backbone, history.tokens) == documents + "\n" + text(backbone, bare.tokens)


def test_all_kinds_end_in_the_query_and_controls_are_as_long(backbone: Backbone) -> None:
    _, prompts = made(backbone)
    for place, bare in enumerate(prompts["bare"]):
        long = len(prompts["history"][place].tokens)
        for kind in ("history", "random", "other", "shuffled", "half"):
            assert prompts[kind][place].tokens[-len(bare.tokens) :] == bare.tokens
        assert len(prompts["random"][place].tokens) == len(prompts["other"][place].tokens) == long


def test_other_is_the_end_of_the_next_users_items(backbone: Backbone) -> None:
    maker, prompts = made(backbone)
    lender, query = maker.users[1], maker.users[0].queries[0]
    items = HistoryIndex(small_base.TASK, lender).top(query, 9)
    found = text(backbone, prompts["other"][0].tokens).removesuffix(text(backbone, prompts["bare"][0].tokens))
    documents = [small_base.TASK.retrieval_document(item) for item in items]
    assert any(("".join(documents[:n]) + "\n").endswith(found) for n in (2, 3))


def test_shuffled_keeps_the_words(backbone: Backbone) -> None:
    _, prompts = made(backbone)
    for shuffled, history in zip(prompts["shuffled"], prompts["history"], strict=True):
        a, b = (text(backbone, p.tokens).split() for p in (shuffled, history))
        assert Counter(a) == Counter(b)
        assert a != b


def test_halves_share_no_past_item(backbone: Backbone) -> None:
    maker, prompts = made(backbone, history=8, queries=4)
    user = maker.users[0]
    for number, prompt in enumerate(prompts["half"]):
        assert prompt.half == number % 2
        before = text(backbone, prompt.tokens)
        texts = [item.fields["text"] for item in user.history]
        seen = {place % 2 for place, words in enumerate(texts) if words in before}
        assert seen == {number % 2}


def test_a_single_past_item_has_no_halves(backbone: Backbone) -> None:
    _, prompts = made(backbone, history=1)
    assert prompts.keys() == {"bare", "history", "random", "other", "shuffled"}


def test_the_same_seed_makes_the_same_prompts_and_another_seed_others(backbone: Backbone) -> None:
    (_, a), (_, b) = made(backbone), made(backbone)
    _, c = made(backbone, replace(RECIPE, seed=1))
    assert a == b
    assert a["random"] != c["random"]
    assert a["history"] == c["history"]


def test_limits_hold_and_what_was_cut_is_counted(backbone: Backbone) -> None:
    maker, prompts = made(backbone, replace(RECIPE, history_tokens=12, max_length=26))
    assert all(len(prompt.tokens) <= 26 for kind in ("bare", "history", "random") for prompt in prompts[kind])
    assert maker.counts["histories shortened"]
    assert maker.counts["queries shortened"]


def test_faults_name_the_user_and_never_the_text(backbone: Backbone) -> None:
    user = User("anna", (HistoryItem("0", {"words": "secret"}),), (Query("q", "a"),))
    with pytest.raises(DataError, match=r"user anna.*'text' is missing") as caught:
        PromptMaker(small_base.TASK, backbone.tokenizer, [user], RECIPE).of(0)
    assert "secret" not in str(caught.value)


@pytest.mark.parametrize(
    "change",
    [
        {"items": 0},
        {"queries": 0},
        {"max_length": 512},
        {"variants": ("random",)},
        {"variants": ("history", "noise")},
        {"layers": ()},
        {"layers": (1, 1)},
    ],
)
def test_impossible_recipes_are_refused(change: dict[str, Any]) -> None:
    with pytest.raises(ConfigError, match=next(iter(change))):
        replace(RECIPE, **change)


def test_shuffled_is_another_text_in_scripts_without_blanks(backbone: Backbone) -> None:
    notes = ["河边老茶馆里的陶艺展览", "冬天的山路上下了大雪"]
    items = tuple(HistoryItem(str(n), {"text": note, "folder": "work"}) for n, note in enumerate(notes))
    users = [User(name, items, (Query(name, "陶艺展览"),)) for name in ("anna", "ben")]
    maker = PromptMaker(small_base.TASK, backbone.tokenizer, users, RECIPE)
    kinds = {RECIPE.kinds[prompt.kind]: text(backbone, prompt.tokens) for prompt in maker.of(0)}
    assert notes[0] in kinds["history"]
    assert notes[0] not in kinds["shuffled"]
    assert Counter("".join(kinds["shuffled"].split())) == Counter("".join(kinds["history"].split()))
