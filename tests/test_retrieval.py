"""BM25 against its formula said again by hand, and prompts with history that always fit."""

from __future__ import annotations

import copy
import math
import sys
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
import small_base
from hypothesis import given
from hypothesis import strategies as st

from perfit.data import read_dataset
from perfit.data.schema import HistoryItem, Query, User
from perfit.errors import ConfigError, MissingExtraError
from perfit.retrieval import HistoryIndex, prompt_with_history
from perfit.tasks import get_task
from perfit.tasks.encode import encode
from perfit.tasks.task import Task

WORDS = st.lists(st.sampled_from(["a", "b", "c", "d", "e", "f", "g", ""]), min_size=1, max_size=6).map(" ".join)


def by_hand(documents: Sequence[str], question: str) -> list[float]:
    """Okapi's BM25; a negative idf becomes a quarter of the mean of all words'."""
    words = [Counter(document.split(" ")) for document in documents]
    mean = sum(sum(w.values()) for w in words) / len(words)
    idf = {}
    for word in {word for own in words for word in own}:
        df = sum(word in own for own in words)
        idf[word] = math.log((len(words) - df + 0.5) / (df + 0.5))
    usual = sum(idf.values()) / len(idf)
    weights = {word: value if value >= 0 else 0.25 * usual for word, value in idf.items()}
    scores = []
    for own in words:
        norm = 1.5 * (0.25 + 0.75 * sum(own.values()) / mean)
        asked = question.split(" ")
        scores.append(sum(weights.get(word, 0.0) * own[word] * 2.5 / (own[word] + norm) for word in asked))
    return scores


def user_of(texts: Sequence[str]) -> User:
    return User("u", tuple(HistoryItem(str(i), {"text": text, "folder": "work"}) for i, text in enumerate(texts)))


@given(st.lists(WORDS, min_size=1, max_size=8), WORDS, st.integers(0, 9), st.none() | st.integers(0, 9))
def test_top_is_bm25_of_the_visible_items(texts: list[str], question: str, k: int, before: int | None) -> None:
    user = user_of(texts)
    visible = user.history[:before]
    found = HistoryIndex(small_base.TASK, user).top(Query("q", question), k, before=before)
    assert len(found) == min(k, len(visible))
    if not visible:
        return
    scores = by_hand([small_base.TASK.retrieval_document(item) for item in visible], question)
    assert [scores[int(item.id)] for item in found] == pytest.approx(sorted(scores, reverse=True)[:k], abs=1e-5)


def test_an_index_asked_about_other_parts_of_a_history_answers_as_a_fresh_one() -> None:
    # "a" is rare among the first items and common later: an index that is kept too long ranks otherwise.
    user = user_of(["b b", "a c", "b d", "a", "a a", "a e", "a b"])
    index = HistoryIndex(small_base.TASK, user)
    for before in (3, 7, 4, None, 2, 3):
        asked = Query("q", "a b")
        assert index.top(asked, 7, before=before) == HistoryIndex(small_base.TASK, user).top(asked, 7, before=before)


@given(st.lists(WORDS, min_size=1, max_size=8), WORDS)
def test_the_reference_finds_the_same_but_for_the_order_of_equals(texts: list[str], question: str) -> None:
    from rank_bm25 import BM25Okapi

    user = user_of(texts)
    reference = BM25Okapi([small_base.TASK.retrieval_document(item).split(" ") for item in user.history])
    scores = reference.get_scores(question.split(" "))
    theirs = reference.get_top_n(question.split(" "), [scores[i] for i in range(len(texts))], n=len(texts))
    ours = HistoryIndex(small_base.TASK, user).top(Query("q", question), len(texts))
    assert [scores[int(item.id)] for item in ours] == theirs


def test_a_word_of_every_item_still_counts() -> None:
    rare = [f"one{i} two{i} three{i}" for i in range(9)]
    index = HistoryIndex(small_base.TASK, user_of([f"the {'the ' * (i == 1)}{text}" for i, text in enumerate(rare)]))
    assert index.top(Query("q", "the"), 1)[0].id == "1"


def test_of_equals_the_later_one_comes_first() -> None:
    index = HistoryIndex(small_base.TASK, user_of(["same words", "other", "same words", "a third", "a fourth"]))
    assert [item.id for item in index.top(Query("q", "same"), 2)] == ["2", "0"]


def test_a_past_item_asks_like_a_query_and_sees_only_what_was_before() -> None:
    user = user_of(["red fox", "blue bird", "green frog", "red fox again"])
    index = HistoryIndex(small_base.TASK, user)
    assert index.top(user.history[3], 1, before=3)[0].id == "0"
    assert index.top(user.history[3], 9, before=0) == []


def test_bad_counts_and_tasks_without_templates_are_refused() -> None:
    from dataclasses import replace

    with pytest.raises(ConfigError, match="neither may be negative"):
        HistoryIndex(small_base.TASK, user_of(["a"])).top(Query("q", "a"), -1)
    with pytest.raises(ConfigError, match="retrieval_item"):
        HistoryIndex(replace(small_base.TASK, retrieval_item=""), user_of(["a"]))


def test_without_rank_bm25_the_extra_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "rank_bm25", None)
    with pytest.raises(MissingExtraError, match=r"rank-bm25.*perfit\[retrieval\]"):
        HistoryIndex(small_base.TASK, user_of(["a"])).top(Query("q", "a"), 1)


@pytest.fixture(scope="module")
def tokenizer(tmp_path_factory: pytest.TempPathFactory) -> Any:
    from transformers import AutoTokenizer

    return AutoTokenizer.from_pretrained(small_base.write_base(tmp_path_factory.mktemp("base")))


def test_the_prompt_is_the_items_an_empty_line_and_the_query(tokenizer: Any) -> None:
    task, user = get_task("news_categorize"), User("u", (HistoryItem("0", {"text": "goal", "category": "sports"}),))
    query = Query("q", "x] article: A match", gold="sports")
    prompt = prompt_with_history(task, query, user.history, tokenizer, max_length=1000)
    assert prompt.example.prompt == "article: goal category: sports\n\n" + task.prompt.replace("{input}", "A match")
    assert prompt.example.answer == "sports"
    assert (prompt.items, prompt.shortened) == (user.history, False)
    bare = prompt_with_history(task, query, [], tokenizer, max_length=1000)
    assert (bare.example, bare.shortened) == (task.query_example(query), False)


@pytest.mark.parametrize("task", [small_base.TASK, get_task("tweet_paraphrase")], ids=lambda task: task.name)
@pytest.mark.parametrize("spare", [0, 1, 6, 20, 60, 200])
def test_the_history_gives_way_and_nothing_else(tokenizer: Any, task: Task, spare: int) -> None:
    texts = ["river stone lamp boat paper garden winter song bread street " * 2, "letter window", "mountain clock"]
    items = user_of(texts).history
    query = Query("q", f"{task.marker or ''}market bridge")
    bare = task.query_example(query)
    limit = len(tokenizer.encode(bare.prompt)) + spare + 5
    prompt = prompt_with_history(task, query, items, tokenizer, max_length=limit, answer_room=5)
    assert prompt.example.prompt.endswith(bare.prompt)
    encoded = encode(prompt.example, tokenizer, max_length=limit, with_answer=False, answer_room=5)
    assert not encoded.truncated
    assert prompt.items == items[: len(prompt.items)]
    whole = "".join(task.retrieval_document(item) for item in items)
    history = prompt.example.prompt.removesuffix(bare.prompt).removesuffix("\n")
    assert prompt.shortened == (history != whole)
    if spare == 200:
        assert not prompt.shortened
    if spare == 20:
        assert 0 < len(prompt.items) < 3
    if spare == 0:
        assert history == ""


def test_real_authors_find_their_own_words() -> None:
    from needed_data import data_folder, without

    folder: Path = data_folder() / "news_categorize"
    if not folder.is_dir():
        without("no real data")
    task = get_task("news_categorize")
    user = read_dataset(folder).users[0]
    index = HistoryIndex(task, user)
    # A past item asked for as it stands is found first among all items.
    hits = sum(index.top(item, 1)[0].fields["text"] == item.fields["text"] for item in user.history[:30])
    assert hits >= 28


NOTES = {
    "chinese": ["河边老茶馆里的陶艺展览", "冬天的山路上下了大雪", "公司预算会议推迟到周五", "孩子们在花园里种番茄"],
    "japanese": [
        "川辺の古い茶屋で陶芸展",
        "冬の山道に大雪が降った",
        "会社の予算会議は金曜日に延期",
        "子どもたちが庭でトマトを植える",
    ],
    "thai": ["นิทรรศการเครื่องปั้นดินเผาริมแม่น้ำ", "หิมะตกหนักบนถนนภูเขา", "ประชุมงบประมาณเลื่อนไปวันศุกร์", "เด็กๆปลูกมะเขือเทศในสวน"],
}
ASKED = {"chinese": "陶艺展览什么时候开", "japanese": "陶芸展はいつですか", "thai": "เครื่องปั้นดินเผาแสดงเมื่อไร"}


@pytest.mark.parametrize("script", list(NOTES))
def test_scripts_without_blanks_are_searched_by_what_they_say(script: str) -> None:
    found = HistoryIndex(small_base.TASK, user_of(NOTES[script])).top(Query("q", ASKED[script]), 2)
    assert found[0].id == "0"


@pytest.mark.parametrize("script", list(NOTES))
def test_an_item_without_blanks_loses_its_end_and_not_everything(tokenizer: Any, script: str) -> None:
    task, text = small_base.TASK, "".join(NOTES[script]) * 3
    items, query = user_of([text]).history, Query("q", "market bridge")
    limit = len(tokenizer.encode(task.query_example(query).prompt)) + len(tokenizer.encode(text)) // 2
    prompt = prompt_with_history(task, query, items, tokenizer, max_length=limit)
    assert prompt.shortened
    kept = prompt.example.prompt.split(" answer:")[0]
    assert text.startswith(kept)
    assert len(kept) > len(text) // 3


LOG = "export </s></s><s> of a chat </s> " * 12


@pytest.mark.parametrize("chat", [False, True])
@pytest.mark.parametrize("spare", [0, 10, 60, 150, 400])
def test_what_is_counted_is_what_is_fed(tokenizer: Any, chat: bool, spare: int) -> None:
    chatty = copy.deepcopy(tokenizer)
    chatty.chat_template = "you are a helper that files notes </s> {{ messages[0]['content'] }}</s>\nbot:"
    items, query = user_of([LOG, LOG, "pack the tent"]).history, Query("q", "sort this chat export " * 3)
    bare = small_base.TASK.query_example(query)
    limit = len(encode(bare, chatty, max_length=10_000, chat_template=chat, with_answer=False).prompt_ids) + spare + 5
    prompt = prompt_with_history(
        small_base.TASK, query, items, chatty, max_length=limit, chat_template=chat, answer_room=5
    )
    encoded = encode(prompt.example, chatty, max_length=limit, chat_template=chat, with_answer=False, answer_room=5)
    assert not encoded.truncated
    assert prompt.items or spare < 60
