"""From users to token rows: the same prompts in training and generation, whole answers, counted losses."""

from __future__ import annotations

import copy
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from small_base import CONFIG, TASK, person, write_base

from perfit.backbone.load import load_base
from perfit.data import demo_dataset
from perfit.data.schema import HistoryItem, Query, User
from perfit.errors import ConfigError, DataError
from perfit.retrieval import HistoryIndex
from perfit.tasks import get_task
from perfit.tasks.encode import label_ids
from perfit.tasks.task import Task
from perfit.training.examples import RowMaker, answer_limit

LONG = "river " * 90


@pytest.fixture(scope="module")
def tokenizer(tmp_path_factory: pytest.TempPathFactory) -> Any:
    return load_base(write_base(tmp_path_factory.mktemp("base"))).tokenizer


def maker(tokenizer: Any, task: Task = TASK, **changes: Any) -> RowMaker:
    return RowMaker(task, tokenizer, CONFIG.with_options(**changes))


def test_a_row_is_prompt_and_answer_with_its_end(tokenizer: Any) -> None:
    anna = person("anna")
    rows = maker(tokenizer).history_rows(anna)
    assert len(rows) == len(anna.history)
    for row, item in zip(rows, anna.history, strict=True):
        assert tokenizer.decode(row.prompt_ids) == f"Which folder? note: {item.fields['text']} folder:"
        assert tokenizer.decode(row.answer_ids[:-1]) == f" {item.fields['folder']}"
        assert row.answer_ids[-1] == tokenizer.eos_token_id
        assert row.input_ids == (*row.prompt_ids, *row.answer_ids[:-1])


@pytest.mark.parametrize("task", [TASK, get_task("news_categorize"), get_task("news_headline")], ids=lambda t: t.name)
def test_the_prompt_of_training_is_the_prompt_of_generation(task: Task, tokenizer: Any) -> None:
    users = [person("anna"), person("ben")] if task is TASK else demo_dataset(users=2, others=0, task=task.name).users  # type: ignore[arg-type]
    make = maker(tokenizer, task, max_length=1024)
    for user in users:
        trained = [row.prompt_ids for row in make.query_rows(user)]
        assert trained == [make.prompt(query).prompt_ids for query in user.queries]
        # A past item asked as a query, too, where both stages share their template.
        if task is TASK:
            for row, item in zip(make.history_rows(user), user.history, strict=True):
                assert row.prompt_ids == make.prompt(Query("q", item.fields["text"])).prompt_ids
    assert make.counts["shortened prompts"] == 0


def test_over_long_prompts_are_cut_at_the_same_place_with_room_for_the_answer(tokenizer: Any) -> None:
    make = maker(tokenizer, max_length=40)
    (row,) = make.query_rows(User("u", (), (Query("q", LONG, "family"),)))
    prompt = make.prompt(Query("q", LONG))
    assert prompt.prompt_ids == row.prompt_ids
    assert prompt.truncated


@pytest.mark.parametrize("limit", [20, 31, 64])
def test_a_shortened_row_keeps_instruction_cue_and_the_whole_answer(limit: int, tokenizer: Any) -> None:
    make = maker(tokenizer, max_length=limit)
    item = HistoryItem("0", {"text": LONG, "folder": "family"})
    (row,) = make.history_rows(User("u", (item,)))
    assert len(row.prompt_ids) + len(row.answer_ids) <= limit
    text = tokenizer.decode(row.prompt_ids)
    assert text.startswith("Which folder? note: river")
    assert text.endswith(" folder:")
    assert tokenizer.decode(row.answer_ids) == " family</s>"
    assert make.warnings() == ["1 shortened prompts"]


def test_an_answer_that_cannot_fit_is_an_error_that_names_the_user_and_no_text(tokenizer: Any) -> None:
    task = replace(TASK, kind="text", labels=())
    user = User("zoe", (HistoryItem("7", {"text": "private", "folder": "secret " * 60}),))
    with pytest.raises(DataError, match=r"user zoe.*max_length 32") as caught:
        maker(tokenizer, task, max_length=32).history_rows(user)
    assert "secret" not in str(caught.value)
    assert "private" not in str(caught.value)


def test_words_beyond_the_tasks_limits_are_left_out_of_training_only(tokenizer: Any) -> None:
    make = maker(tokenizer, replace(TASK, query_words=3, history_words=2))
    text = "one two three four five"
    user = User("u", (HistoryItem("0", {"text": text, "folder": "work"}),), (Query("q", text, "work"),))
    assert tokenizer.decode(make.query_rows(user)[0].prompt_ids) == "Which folder? note: one two three folder:"
    assert tokenizer.decode(make.history_rows(user)[0].prompt_ids) == "Which folder? note: one two folder:"
    assert tokenizer.decode(make.prompt(user.queries[0]).prompt_ids) == f"Which folder? note: {text} folder:"


@pytest.mark.parametrize(("what", "count"), [("queries", 2), ("history", 10), ("both", 12)])
def test_stage_1_reads_what_stage1_data_says(what: str, count: int, tokenizer: Any) -> None:
    others = [person("x", queries=1), person("y", queries=1)]
    make = maker(tokenizer, stage1_data=what)
    rows = make.collective_rows(others)
    assert len(rows) == count == make.counts["rows"]
    queries = [row for user in others for row in maker(tokenizer).query_rows(user)]
    assert (set(queries) <= set(rows)) == (what != "history")


def test_queries_without_an_answer_are_counted_and_never_trained_on(tokenizer: Any) -> None:
    make = maker(tokenizer)
    user = User("u", (), (Query("a", "one", "work"), Query("b", "two"), Query("c", "three")))
    assert len(make.query_rows(user)) == 1
    assert make.warnings() == ["2 queries without an answer, left out"]


def test_a_known_answer_never_reaches_the_prompt(tokenizer: Any) -> None:
    make = maker(tokenizer)
    assert make.prompt(Query("q", "one", "work")) == make.prompt(Query("q", "one"))
    assert make.prompt(Query("q", "one", "no label at all")) == make.prompt(Query("q", "one"))
    assert make.warnings() == []


def test_text_that_looks_like_a_special_token_stays_text(tokenizer: Any, tmp_path: Path) -> None:
    prompt = maker(tokenizer).prompt(Query("q", "end </s> here")).prompt_ids
    assert tokenizer.eos_token_id not in prompt
    assert tokenizer.decode(prompt) == "Which folder? note: end </s> here folder:"


def test_training_and_label_scores_spell_a_rating_alike(tokenizer: Any) -> None:
    task = replace(TASK, kind="rating", labels=("2.0", "4.0"))
    make = maker(tokenizer, task)
    for given in ("4", "4.0", "4.00"):
        (row,) = make.history_rows(User("u", (HistoryItem("0", {"text": "a", "folder": given}),)))
        (asked,) = make.query_rows(User("u", (), (Query("q", "a", given),)))
        assert row.answer_ids == asked.answer_ids == label_ids(("4.0",), tokenizer, row.prompt_ids[-1])[0]


def test_a_label_beyond_max_new_tokens_is_refused_with_the_number_needed(tokenizer: Any) -> None:
    long = "returns, refunds and warranty claims"
    needed = len(tokenizer.encode(f" {long}", add_special_tokens=False))
    task = replace(TASK, labels=("work", long), max_new_tokens=needed - 1)
    with pytest.raises(ConfigError, match=rf"max_new_tokens is {needed - 1}.*at least {needed}$"):
        maker(tokenizer, task)
    assert answer_limit(replace(task, max_new_tokens=needed), tokenizer) == needed
    assert answer_limit(replace(task, max_new_tokens=needed + 9), tokenizer) == needed + 3


def test_the_names_of_special_tokens_in_a_label_are_counted_as_they_are_said(tokenizer: Any) -> None:
    task = replace(TASK, labels=("work", "</s></s></s>"), max_new_tokens=50)
    said = len(label_ids(task.labels, tokenizer, maker(tokenizer, task).prompt(Query("q", "a")).prompt_ids[-1])[1]) - 1
    assert said > 3
    assert answer_limit(task, tokenizer) == said + 3


def test_under_a_chat_template_an_answer_is_counted_without_its_blank(tokenizer: Any) -> None:
    chatty = copy.deepcopy(tokenizer)
    chatty.chat_template = "{{ messages[0]['content'] }}\nbot:"
    task = replace(TASK, labels=("work", "work and travel"), max_new_tokens=50)
    bare = max(len(chatty.encode(label, add_special_tokens=False)) for label in task.labels)
    blank = max(len(chatty.encode(f" {label}", add_special_tokens=False)) for label in task.labels)
    assert bare != blank
    assert answer_limit(task, chatty, chat_template=True) == bare + 3
    assert answer_limit(task, chatty) == blank + 3


def test_past_items_go_before_every_prompt_and_never_the_item_itself_or_a_later_one(tokenizer: Any) -> None:
    anna = person("anna")
    make, bare = maker(tokenizer, retrieved=2), maker(tokenizer)
    index = HistoryIndex(TASK, anna)
    for place, (row, alone) in enumerate(zip(make.history_rows(anna), bare.history_rows(anna), strict=True)):
        before = index.top(anna.history[place], 2, before=place)
        documents = "".join(TASK.retrieval_document(item) for item in before)
        prompt = tokenizer.decode(alone.prompt_ids)
        assert tokenizer.decode(row.prompt_ids) == (f"{documents}\n{prompt}" if before else prompt)
        assert row.answer_ids == alone.answer_ids
        assert len(before) == min(place, 2)
    asked = [make.prompt(query, anna).prompt_ids for query in anna.queries]
    assert asked == [row.prompt_ids for row in make.query_rows(anna)]
    for ids, query in zip(asked, anna.queries, strict=True):
        found = "".join(TASK.retrieval_document(item) for item in index.top(query, 2))
        assert tokenizer.decode(ids) == f"{found}\n{tokenizer.decode(bare.prompt(query).prompt_ids)}"


def test_past_items_of_nobody_are_refused(tokenizer: Any) -> None:
    with pytest.raises(ConfigError, match=r"retrieved is 2.*askers"):
        maker(tokenizer, retrieved=2).prompt(Query("q", "x"))
    with pytest.raises(ConfigError, match="retrieved: -1 is not possible"):
        CONFIG.with_options(retrieved=-1)
