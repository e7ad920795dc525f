"""Examples from records: what is extracted, what is cut, and which faults are named."""

from __future__ import annotations

from dataclasses import replace

import pytest

from perfit.data.schema import HistoryItem, Query
from perfit.errors import ConfigError, DataError
from perfit.tasks import Task, get_task
from perfit.tasks.template import fill
from perfit.words import first_words

SECRET = "a private sentence"
NEWS = get_task("news_categorize")
LAMP_QUESTION = f"categories: [travel, religion] article: {SECRET}"


def test_query_example_rewraps_the_article() -> None:
    example = NEWS.query_example(Query("q1", LAMP_QUESTION, gold=" politics\n"))
    assert (example.id, example.body, example.tail, example.answer) == ("q1", SECRET, " category:", "politics")
    assert example.prompt == NEWS.prompt.replace("{input}", SECRET)


def test_the_first_marker_counts() -> None:
    query = Query("q1", "x] article: one] article: two")
    assert NEWS.query_example(query).body == "one] article: two"


def test_without_gold_there_is_no_answer() -> None:
    assert NEWS.query_example(Query("q1", LAMP_QUESTION)).answer is None


def test_a_missing_marker_names_the_query_and_never_its_text() -> None:
    with pytest.raises(DataError, match="query q7") as caught:
        NEWS.query_example(Query("q7", SECRET))
    assert SECRET not in str(caught.value)


@pytest.mark.parametrize("gold", ["", "  ", SECRET, "Politics"])
def test_a_gold_outside_the_label_set_is_refused(gold: str) -> None:
    with pytest.raises(DataError, match="query q7") as caught:
        NEWS.query_example(Query("q7", LAMP_QUESTION, gold=gold))
    assert SECRET not in str(caught.value)


@pytest.mark.parametrize(("gold", "good"), [("3", "3"), ("4.0", "4"), ("6", None), ("nan", None), ("good", None)])
def test_ratings_are_checked_as_numbers(gold: str, good: str | None) -> None:
    task = get_task("product_rating")
    if good:
        assert task.check_gold(gold, "query q1") == good
    else:
        with pytest.raises(DataError, match="1, 2, 3, 4, 5"):
            task.check_gold(gold, "query q1")


def test_history_examples() -> None:
    item = HistoryItem("h1", {"text": SECRET, "title": "A {text} title"})
    example = get_task("LaMP_4").history_example(item)
    assert example.prompt == f"Generate a headline for the following article.\n article: {SECRET} headline:"
    assert (example.body, example.answer) == (SECRET, "A {text} title")
    tweet = get_task("LaMP_7").history_example(HistoryItem("h2", {"text": "so it goes"}))
    assert (tweet.head, tweet.body, tweet.tail, tweet.answer) == ("tweet:", "", "", "so it goes")


@pytest.mark.parametrize("missing", ["text", "category"])
def test_a_missing_history_field_is_named(missing: str) -> None:
    fields = {"text": SECRET, "category": "politics"}
    del fields[missing]
    with pytest.raises(DataError, match=f"history item h3.*'{missing}'") as caught:
        NEWS.history_example(HistoryItem("h3", fields))
    assert SECRET not in str(caught.value)


def test_word_limits_cut_training_text_but_never_evaluation_or_answers() -> None:
    words = " ".join(f"w{i}" for i in range(1000))
    query = Query("q1", f"categories: [x] article: {words}")
    assert NEWS.query_example(query).body == words
    assert NEWS.query_example(query, training=True).body.split()[-1] == "w767"
    title = get_task("LaMP_4").history_example(HistoryItem("h", {"text": words, "title": words}))
    assert (title.body.split()[-1], title.answer) == ("w767", words)
    assert len(get_task("LaMP_7").retrieval_document(HistoryItem("h", {"text": words})).split()) == 369


def test_first_words_keeps_the_spacing() -> None:
    assert first_words("  a  b\nc ", 3) == "  a  b\nc "
    assert first_words("  a  b\nc d", 2) == "  a  b"
    assert first_words("a b", None) == "a b"


def test_braces_in_texts_are_not_slots() -> None:
    assert fill('{"a": {x}} {}', lambda name: "{y}") == '{"a": {y}} {}'


def test_retrieval_texts() -> None:
    item = HistoryItem("h", {"text": "t", "category": "crime"})
    assert NEWS.retrieval_document(item) == "article: t category: crime\n"
    assert NEWS.retrieval_question(Query("q", LAMP_QUESTION)).endswith(f"categories? arcicle: {SECRET}")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"name": " "}, "name is empty"),
        ({"kind": "ranking"}, "kind is 'ranking'; use one of label, rating, text"),
        ({"prompt": "no slot"}, "prompt is 'no slot'"),
        ({"prompt": "{input} {input}"}, "prompt is"),
        ({"prompt": "{input} {text}"}, "prompt is"),
        ({"history_prompt": "{text} {category}"}, "shows the model the answer"),
        ({"history_prompt": "no field"}, "needs a field in braces"),
        ({"history_prompt": "{text} {text}"}, "use each field once"),
        ({"history_prompt": "{text} {title}"}, "history_input is None.*text, title"),
        ({"history_input": "title"}, "history_input is 'title'"),
        ({"history_answer": ""}, "history_answer is ''"),
        ({"labels": ()}, "needs at least two"),
        ({"labels": ("a", "a")}, "each label once"),
        ({"labels": ("a", " b")}, "' b'"),
        ({"kind": "rating"}, "are numbers"),
        ({"kind": "text"}, "takes none"),
        ({"metric": "mae"}, "metric is 'mae'.*accuracy"),
        ({"marker": ""}, "marker is ''"),
        ({"max_new_tokens": 0}, "max_new_tokens is 0"),
        ({"max_new_tokens": True}, "max_new_tokens is True"),
        ({"history_words": 0}, "history_words is 0"),
        ({"retrieval_query": "none"}, "retrieval_query is 'none'"),
    ],
)
def test_impossible_settings_are_named(change: dict[str, object], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        replace(NEWS, **change)  # type: ignore[arg-type]


def test_several_history_fields_with_one_body() -> None:
    task = Task(
        name="mail",
        lamp_id=None,
        kind="text",
        prompt="{input}",
        history_prompt="to: {to} mail: {body} subject:",
        history_answer="subject",
        history_input="body",
    )
    example = task.history_example(HistoryItem("h", {"to": "Ann", "body": "long", "subject": "s"}))
    assert (example.head, example.body, example.tail) == ("to: Ann mail: ", "long", " subject:")


@pytest.mark.parametrize(
    ("labels", "given", "spelled"),
    [
        (("1.0", "2.5", "4.0"), ("1", "2.50", "4"), ("1.0", "2.5", "4.0")),  # JSON's 4.0 is read as "4"
        (("1", "2", "4"), ("1.0", " 2e0\n", "４"), ("1", "2", "4")),
        (("0.5", "1"), (".50", "+1"), ("0.5", "1")),
    ],
)
def test_a_rating_is_spelled_as_the_task_spells_it(
    labels: tuple[str, ...], given: tuple[str, ...], spelled: tuple[str, ...]
) -> None:
    task = replace(get_task("product_rating"), labels=labels)
    items = [HistoryItem(str(n), {"text": "t", "score": answer}) for n, answer in enumerate(given)]
    marker = task.marker or ""
    assert tuple(task.answer_of(item) for item in items) == spelled
    assert tuple(task.history_example(item).answer for item in items) == spelled
    assert tuple(task.query_example(Query("q", f"{marker}t", answer)).answer for answer in given) == spelled
    assert [task.retrieval_document(item) for item in items] == [f"review: t score: {answer}\n" for answer in spelled]
    with pytest.raises(DataError, match="ratings"):
        task.check_gold("3", "query q")


NFC, NFD = "caf\u00e9 & bar", "cafe\u0301 & bar"


@pytest.mark.parametrize(("own", "given"), [(NFC, NFD), (NFD, NFC)])
def test_an_accent_of_either_form_is_the_same_label_in_the_task_s_own_spelling(own: str, given: str) -> None:
    task = replace(NEWS, labels=("crime", own))
    assert task.check_gold(f" {given} ", "query q") == own
    assert task.history_example(HistoryItem("h", {"text": "t", "category": given})).answer == own
    with pytest.raises(ConfigError, match="each label once"):
        replace(NEWS, labels=(own, given))


def test_ratings_of_one_number_are_one_label() -> None:
    with pytest.raises(ConfigError, match="each label once"):
        replace(get_task("product_rating"), labels=("1", "1.0", "2"))


def test_texts_are_composed_wherever_they_become_examples() -> None:
    task = get_task("news_headline")
    marker = task.marker or ""
    item = HistoryItem("h", {"text": NFD, "title": f" {NFD} "})
    example = task.history_example(item)
    assert (example.body, example.answer) == (NFC, NFC)
    assert task.query_example(Query("q", marker + NFD, NFD)).body == NFC
    assert NFC in task.retrieval_document(item)
    assert NFC in task.retrieval_question(Query("q", marker + NFD))


def test_an_answer_of_no_label_is_shown_by_retrieval_as_it_stands_and_never_learnt() -> None:
    item = HistoryItem("h", {"text": "t", "category": "gossip"})
    assert NEWS.retrieval_document(item) == "article: t category: gossip\n"
    with pytest.raises(DataError, match="history item h"):
        NEWS.history_example(item)


def test_word_limits_reach_scripts_without_blanks() -> None:
    text = "河边老茶馆里的陶艺展览" * 200
    task = replace(get_task("news_headline"), history_words=5)
    assert task.history_example(HistoryItem("h", {"text": text, "title": "t"})).body == text[:10]
