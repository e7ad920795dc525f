"""The demo users: known tastes, and floors that a counter cannot pass."""

from __future__ import annotations

from collections import Counter, defaultdict
from typing import Any, get_args

import pytest

from perfit.data import Dataset, audit, demo_dataset, demo_truth, read_dataset, write_oppu
from perfit.data.demo import (
    AMBIGUOUS_SHARE,
    CATEGORIZE_QUESTION,
    HEADLINE_QUESTION,
    CategoryTaste,
    DemoTask,
    HeadlineTaste,
)
from perfit.data.demo_words import BEATS, CATEGORY_WORDS
from perfit.errors import ConfigError

TASKS = get_args(DemoTask)


def article(text: str) -> list[str]:
    """The categories whose words stand in a text, the most frequent first."""
    words = text.replace(",", " ").replace(".", " ").replace("?", " ").replace(";", " ").split()
    of_word = {word: name for name, line in CATEGORY_WORDS.items() for word in line}
    return [name for name, _ in Counter(of_word[word] for word in words if word in of_word).most_common()]


@pytest.mark.parametrize("task", TASKS)
def test_the_seed_decides_everything(task: DemoTask) -> None:
    first, again, other = (demo_dataset(task=task, seed=seed) for seed in (3, 3, 4))
    assert first.fingerprint() == again.fingerprint() != other.fingerprint()
    assert (len(first.users), len(first.others), first.task) == (8, 24, task)
    assert all((len(u.history), len(u.queries)) == (40, 10) for u in first.users + first.others)


def test_the_default_data_does_not_change_between_versions() -> None:
    assert [demo_dataset(task=task).fingerprint()[:16] for task in TASKS] == FINGERPRINTS


@pytest.mark.parametrize("task", TASKS)
@pytest.mark.parametrize("seed", range(3))
def test_texts_are_short_unlike_each_other_and_pass_the_audit(task: DemoTask, seed: int) -> None:
    data = demo_dataset(task=task, seed=seed)
    question = CATEGORIZE_QUESTION if task == "news_categorize" else HEADLINE_QUESTION
    texts = [item.fields["text"] for user in data.users + data.others for item in user.history]
    asked = [query.input for user in data.users + data.others for query in user.queries]
    assert all(text.startswith(question) for text in asked)
    texts += [text.removeprefix(question) for text in asked]
    assert len(set(texts)) == len(texts)
    assert all(15 <= len(text.split()) <= 30 for text in texts)
    answer = "category" if task == "news_categorize" else "title"
    report = audit(data, answer_field=answer, text_fields=("text",), free_text=answer == "title", marker=question)
    assert report.findings == ()
    assert all(user.history[-1].date < user.queries[0].date for user in data.users)  # type: ignore[operator]


def test_words_belong_to_one_category_alone() -> None:
    words = [word for line in CATEGORY_WORDS.values() for word in line]
    assert len(set(words)) == len(words)
    assert len(CATEGORY_WORDS) == 15
    assert all(set(beat) <= set(CATEGORY_WORDS) for beat in BEATS)
    assert "categories: [travel, education, parents, style & beauty, " in CATEGORIZE_QUESTION
    assert CATEGORIZE_QUESTION.endswith("culture & arts, religion] article: ")


@pytest.mark.parametrize("seed", range(3))
def test_categories_follow_content_and_leaning_and_nothing_else(seed: int) -> None:
    data, truth = demo_dataset(seed=seed), demo_truth(seed=seed)
    for user in data.users + data.others:
        taste = truth[user.id]
        assert isinstance(taste, CategoryTaste)
        mixed = 0
        for item in user.history:
            found = article(item.fields["text"])
            assert item.fields["category"] == (found[0] if len(found) == 1 else taste.choose(*found))
            mixed += len(found) == 2
        assert mixed == round(40 * AMBIGUOUS_SHARE)


@pytest.mark.parametrize("seed", range(5))
def test_floors_of_categorisation(seed: int) -> None:
    data = demo_dataset(seed=seed)
    own, collective = majority_accuracy(data), collective_accuracy(data)
    assert 0.30 <= own <= 0.45
    assert 0.60 <= collective <= 0.75, "what a model without users can reach, given any amount of data"


def majority_accuracy(data: Dataset) -> float:
    """Always naming the user's most frequent category."""
    hits = total = 0
    for user in data.users:
        favourite = Counter(item.fields["category"] for item in user.history).most_common(1)[0][0]
        hits += sum(query.gold == favourite for query in user.queries)
        total += len(user.queries)
    return hits / total


def collective_accuracy(data: Dataset) -> float:
    """The best fixed answer for each set of categories found in a text, chosen on the answers themselves."""
    answers: dict[frozenset[str], Counter[str | None]] = defaultdict(Counter)
    for user in data.users:
        for query in user.queries:
            answers[frozenset(article(query.input.removeprefix(CATEGORIZE_QUESTION)))][query.gold] += 1
    return sum(max(counter.values()) for counter in answers.values()) / sum(c.total() for c in answers.values())


@pytest.mark.parametrize("seed", range(3))
def test_headlines_are_made_of_the_article_in_the_users_style(seed: int) -> None:
    data, truth = demo_dataset(task="news_headline", seed=seed), demo_truth(task="news_headline", seed=seed)
    for user in data.users + data.others:
        taste = truth[user.id]
        assert isinstance(taste, HeadlineTaste)
        for item in user.history:
            title, text = item.fields["title"], item.fields["text"].lower()
            body = title.removesuffix(taste.ending)
            assert title.endswith(taste.ending)
            assert taste.ending or title[-1].isalnum()
            assert body == {"lower": body.lower(), "upper": body.upper()}.get(taste.case, body)
            words = body.lower().replace(":", "").split()
            assert all(word in text or word in ("how", "why", "on", "in") for word in words)
            assert (words[0] in ("how", "why")) == (taste.template in ("how", "why"))
    styles = Counter(taste.case for taste in truth.values() if isinstance(taste, HeadlineTaste))
    assert max(styles.values()) <= 13, "no style may be the common one"
    assert len({repr(taste) for taste in list(truth.values())[:8]}) == 8


def test_others_come_from_the_same_distribution() -> None:
    truth = demo_truth(users=400, others=400)
    groups = [list(truth.values())[:400], list(truth.values())[400:]]
    favourites = [Counter(t.ranking[0] for t in group if isinstance(t, CategoryTaste)) for group in groups]
    assert all(abs(favourites[0][name] - favourites[1][name]) < 30 for name in CATEGORY_WORDS)


def test_more_others_do_not_change_the_tastes_of_the_test_users() -> None:
    few, many = demo_truth(others=0), demo_truth(others=50)
    assert list(many.items())[:8] == list(few.items())


@pytest.mark.parametrize(
    "options", [{"users": 0}, {"others": -1}, {"history": -1}, {"queries": -1}, {"task": "movie_tagging"}]
)
def test_impossible_numbers_are_refused(options: dict[str, Any]) -> None:
    with pytest.raises(ConfigError):
        demo_dataset(**options)


def test_used_up_word_lists_are_an_error_and_no_endless_loop(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("VERBS", "ADJECTIVES", "OBJECTS"):
        monkeypatch.setattr(f"perfit.data.demo_words.{name}", ("one",))
    with pytest.raises(ConfigError, match="used up"):
        demo_dataset(task="news_headline")


def test_demo_data_can_be_written(tmp_path: Any) -> None:
    data = demo_dataset(users=2, others=1)
    write_oppu(data, tmp_path / "demo")
    assert read_dataset(tmp_path / "demo").fingerprint() == data.fingerprint()


FINGERPRINTS = ["74925bf99caa11d1", "e92e64f1f859ada5"]
