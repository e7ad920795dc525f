"""Made-up users with known tastes: small, free of licences, and impossible to predict without knowing the user.

``news_categorize``: a writer has a *beat* of four categories and a ranking of them. About two thirds of the articles
mix words of two categories of the beat evenly; the one ranked higher is the writer's category. The other articles are
about one category, any of the fifteen, and follow their content. Writers come in pairs with opposite rankings, so over
all writers each of the two is right half of the time: without the user about two thirds can be predicted, with the user
everything, and always naming the user's favourite gives about two fifths.

``news_headline``: the headline says who did what, in words of the article; case, ending, template and length are the
writer's own.
"""

from __future__ import annotations

import datetime
import random
from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

from perfit.data import demo_words as words
from perfit.data.schema import Dataset, HistoryItem, Query, User
from perfit.errors import ConfigError

DemoTask = Literal["news_categorize", "news_headline"]

AMBIGUOUS_SHARE = 0.65
"""Share of the articles for categorisation that only the writer's leaning decides."""

CATEGORIZE_QUESTION = (
    "Which category does this article relate to among the following categories? Just answer with the category name "
    f"without further explanation. categories: [{', '.join(words.CATEGORY_WORDS)}] article: "
)
HEADLINE_QUESTION = "Generate a headline for the following article: "

CASES = ("lower", "title", "upper")
ENDINGS = ("", "!", "?", "...")
TEMPLATES = ("plain", "how", "why", "place")
LENGTHS = ("short", "long")

_MIXED = (
    "{place}: a story of {0} and {1} keeps {person} busy, with {2} here, {3} there, and talk of {4} and {5} since {day}.",
    "On {day} {person} of {place} brought together {0} and {1}, then {2} and {3}, and in the end {4} and {5}.",
    "What do {0}, {1} and {2} have to do with {3}, {4} and {5}? In {place}, {person} gave an answer on {day}.",
    "{person} spent {day} in {place} between {0} and {1}; neighbours asked about {2}, {3}, {4} and even {5}.",
)
_EVENTS = (
    "On {day} a {subject} from {place} {verb} {a} {adjective} {object}, and {person} said that nobody had expected it.",
    "The news from {place}: a {subject} {verb} {a} {adjective} {object} on {day}, as {person} told us with a smile.",
    "{person} could hardly believe it when on {day} a {subject} in {place} {verb} {a} {adjective} {object}.",
)


@dataclass(frozen=True, slots=True)
class CategoryTaste:
    """What decides a demo writer's categories.

    Attributes:
        ranking: The four categories of the beat, the favourite first; in a mixed article the earlier one wins.
    """

    ranking: tuple[str, ...]

    def choose(self, first: str, second: str) -> str:
        """The category this writer gives to an article that mixes two categories of the beat."""
        return min(first, second, key=self.ranking.index)


@dataclass(frozen=True, slots=True)
class HeadlineTaste:
    """What decides a demo writer's headlines; the values are those of ``CASES``, ``ENDINGS`` and so on."""

    case: str
    ending: str
    template: str
    length: str

    def headline(self, event: dict[str, str]) -> str:
        """The headline this writer gives to an event."""
        what = f"{event['subject']} {event['verb']} {event['a']} {event['adjective']} {event['object']}"
        if self.length == "long":
            what += f" on {event['day']}" if self.template == "place" else f" in {event['place']}"
        lead = {"plain": "", "how": "how a ", "why": "why a ", "place": f"{event['place']}: "}[self.template]
        text = lead + what
        cased = {"lower": text.lower(), "upper": text.upper()}.get(self.case) or " ".join(
            word[:1].upper() + word[1:] for word in text.split()
        )
        return cased + self.ending


Taste = CategoryTaste | HeadlineTaste


def demo_dataset(
    *,
    users: int = 8,
    others: int = 24,
    history: int = 40,
    queries: int = 10,
    seed: int = 0,
    task: DemoTask = "news_categorize",
) -> Dataset:
    """Makes users whose tastes are known (see ``demo_truth``); equal arguments give equal data.

    Args:
        users: Number of test users.
        others: Number of stage-1 users, with tastes from the same distribution.
        history: Past items of each user.
        queries: Queries of each user, dated after the history.
        seed: Seed of everything.
        task: What the users do.

    Raises:
        ConfigError: For numbers out of range or an unknown task.
    """
    truth = demo_truth(users=users, others=others, seed=seed, task=task)
    if history < 0 or queries < 0:
        raise ConfigError(f"history={history}, queries={queries}: neither can be below 0")
    taken: set[str] = set()
    made = [_make_user(user_id, taste, history, queries, seed, taken) for user_id, taste in truth.items()]
    return Dataset(
        tuple(made[:users]),
        tuple(made[users:]),
        task=task,
        source=f"demo data, seed {seed}",
        notes=(f"made-up users with known tastes: {users} test users, {others} others",),
    )


def demo_truth(
    *, users: int = 8, others: int = 24, seed: int = 0, task: DemoTask = "news_categorize"
) -> dict[str, Taste]:
    """The latent taste of every demo user by user id, test users first.

    Raises:
        ConfigError: For numbers out of range or an unknown task.
    """
    if users < 1 or others < 0:
        raise ConfigError(f"users={users}, others={others}: at least one test user is needed, and no number below 0")
    if task not in ("news_categorize", "news_headline"):
        raise ConfigError(f"task={task!r} has no demo data; take news_categorize or news_headline")
    make = _category_tastes if task == "news_categorize" else _headline_tastes
    truth: dict[str, Taste] = {}
    for group, count in (("demo-user", users), ("demo-other", others)):
        tastes = make(count, random.Random(f"{seed}/{task}/{group}"))
        truth |= {f"{group}-{index:03d}": taste for index, taste in enumerate(tastes)}
    return truth


def _category_tastes(count: int, chance: random.Random) -> list[Taste]:
    tastes: list[Taste] = []
    while len(tastes) < count:
        for beat in words.BEATS:
            ranking = tuple(chance.sample(beat, len(beat)))
            tastes += [CategoryTaste(ranking), CategoryTaste(ranking[::-1])]
    return tastes[:count]


def _headline_tastes(count: int, chance: random.Random) -> list[Taste]:
    tastes: list[Taste] = []
    while len(tastes) < count:
        # Four columns, each holding all its values equally often, in shuffled order: no style is the common one.
        size = len(CASES) * len(ENDINGS)
        columns = [list(values) * (size // len(values)) for values in (CASES, ENDINGS, TEMPLATES, LENGTHS)]
        for column in columns:
            chance.shuffle(column)
        tastes += [HeadlineTaste(*row) for row in zip(*columns, strict=True)]
    return tastes[:count]


def _make_user(user_id: str, taste: Taste, history: int, queries: int, seed: int, taken: set[str]) -> User:
    chance = random.Random(f"{seed}/{user_id}/{type(taste).__name__}")
    if isinstance(taste, CategoryTaste):
        articles = _category_articles(taste, history, chance, taken) + _category_articles(taste, queries, chance, taken)
        question, answer = CATEGORIZE_QUESTION, "category"
    else:
        articles = [_headline_article(taste, chance, taken) for _ in range(history + queries)]
        question, answer = HEADLINE_QUESTION, "title"
    first_day = datetime.date(2020, 1, 1)
    dates = [(first_day + datetime.timedelta(days=day)).isoformat() for day in range(len(articles))]
    items = tuple(
        HistoryItem(f"{user_id}-h{number:03d}", article, dates[number])
        for number, article in enumerate(articles[:history])
    )
    asked = tuple(
        Query(f"{user_id}-q{number:03d}", question + article["text"], article[answer], dates[history + number])
        for number, article in enumerate(articles[history:])
    )
    return User(user_id, items, asked)


def _category_articles(
    taste: CategoryTaste, count: int, chance: random.Random, taken: set[str]
) -> list[dict[str, str]]:
    # The share of ambiguous articles is kept exactly in each part, and all pairs come equally often: with ten queries
    # a user, chance alone would move the floors by tens of points.
    beat = sorted(taste.ranking)
    pairs = [(a, b) for place, a in enumerate(beat) for b in beat[place + 1 :]]
    chance.shuffle(pairs)
    ambiguous = round(count * AMBIGUOUS_SHARE)
    mixes = [pairs[number % len(pairs)] for number in range(ambiguous)]
    categories = list(words.CATEGORY_WORDS)
    chance.shuffle(categories)
    mixes += [(c, c) for c in (categories[number % len(categories)] for number in range(count - ambiguous))]
    chance.shuffle(mixes)
    return [_category_article(taste, first, second, chance, taken) for first, second in mixes]


def _category_article(
    taste: CategoryTaste, first: str, second: str, chance: random.Random, taken: set[str]
) -> dict[str, str]:
    def write() -> tuple[str, dict[str, str]]:
        if first == second:
            nouns, category = chance.sample(words.CATEGORY_WORDS[first], 6), first
        else:
            nouns = chance.sample(words.CATEGORY_WORDS[first], 3) + chance.sample(words.CATEGORY_WORDS[second], 3)
            category = taste.choose(first, second)
        chance.shuffle(nouns)
        text = chance.choice(_MIXED).format(*nouns, **_scene(chance))
        return text, {"text": text, "title": f"{nouns[0]} and {nouns[1]}".capitalize(), "category": category}

    return _new(write, taken)


def _headline_article(taste: HeadlineTaste, chance: random.Random, taken: set[str]) -> dict[str, str]:
    def write() -> tuple[str, dict[str, str]]:
        event = _scene(chance) | {
            "subject": chance.choice(words.SUBJECTS),
            "verb": chance.choice(words.VERBS),
            "adjective": chance.choice(words.ADJECTIVES),
            "object": chance.choice(words.OBJECTS),
        }
        event["a"] = "an" if event["adjective"][0] in "aeiou" else "a"
        text = chance.choice(_EVENTS).format(**event)
        # The event alone decides what is new: two users with one style must not get one headline.
        key = " ".join(event[name] for name in ("subject", "verb", "adjective", "object"))
        return key, {"text": text, "title": taste.headline(event)}

    return _new(write, taken)


def _scene(chance: random.Random) -> dict[str, str]:
    return {
        "person": chance.choice(words.PERSONS),
        "place": chance.choice(words.PLACES),
        "day": chance.choice(words.DAYS),
    }


def _new(write: Callable[[], tuple[str, dict[str, str]]], taken: set[str]) -> dict[str, str]:
    for _ in range(1000):
        key, article = write()
        if key not in taken:
            taken.add(key)
            return article
    raise ConfigError("the demo word lists are used up; ask for fewer users, history items or queries")
