"""A small set of general tasks made here, which needs no hub: multiple choice, acceptability, likeness of sentences.

They are easy, and few: they show that personal answers leave them alone, not how able a base is.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

_OPPOSITES = (
    "hot cold, big small, early late, open closed, happy sad, full empty, fast slow, light dark, up down, left right, "
    "old young, wet dry, strong weak, rich poor, high low, hard soft"
)
_CAPITALS = (
    "France Paris, Italy Rome, Spain Madrid, Germany Berlin, Japan Tokyo, Egypt Cairo, Greece Athens, Norway Oslo, "
    "Portugal Lisbon, Poland Warsaw, Ireland Dublin, Austria Vienna"
)
_GOOD = (
    "The dog sleeps on the mat.",
    "She gave him a book.",
    "They have been waiting for an hour.",
    "Who did you see yesterday?",
    "The letter was written by Anna.",
    "I think that he left early.",
    "We are going to the market.",
    "Nobody knows the answer.",
)
_BAD = (
    "The dog sleep on mat the.",
    "She gave a book him to.",
    "They has been wait for an hour.",
    "Who did you see him yesterday?",
    "The letter were wrote by Anna.",
    "I think that left he early.",
    "We is going the market to.",
    "Nobody know answer the.",
)
_ALIKE = (
    ("A man plays the guitar.", "A man is playing a guitar.", 5.0),
    ("A woman cuts an onion.", "A woman is slicing an onion.", 4.5),
    ("The boat leaves the harbour.", "A ship sails out of the port.", 4.0),
    ("Two children play football.", "Some kids are playing a ball game.", 3.5),
    ("A cat sits on a chair.", "A dog sits on a sofa.", 2.0),
    ("He writes a letter.", "He reads a newspaper.", 1.5),
    ("The sun is shining.", "The train was late again.", 0.0),
    ("A chef cooks soup.", "The bridge is closed today.", 0.0),
)


@dataclass(frozen=True)
class Item:
    """One question: a context, what may follow, and which of it is right, or how high the first should be scored."""

    context: str
    choices: tuple[str, ...]
    gold: float


@dataclass(frozen=True)
class LocalTask:
    """Items, and how answers are scored: "accuracy", "mcc" (two choices) or "pearson" (log-odds of the first choice)."""

    items: tuple[Item, ...]
    metric: str


def local_tasks() -> Mapping[str, LocalTask]:
    """All of them by name, always the same."""
    return {
        "opposites": LocalTask(
            _choices(_pairs(_OPPOSITES), "Question: What is the opposite of {}?\nAnswer:"), "accuracy"
        ),
        "capitals": LocalTask(_choices(_pairs(_CAPITALS), "Question: What is the capital of {}?\nAnswer:"), "accuracy"),
        "acceptable": LocalTask(
            tuple(
                Item(f"{text}\nQuestion: Is this sentence correct English?\nAnswer:", (" no", " yes"), gold)
                for texts, gold in ((_GOOD, 1.0), (_BAD, 0.0))
                for text in texts
            ),
            "mcc",
        ),
        "alike": LocalTask(
            tuple(
                Item(f"{a}\n{b}\nQuestion: Do both sentences mean the same?\nAnswer:", (" yes", " no"), gold)
                for a, b, gold in _ALIKE
            ),
            "pearson",
        ),
    }


def _pairs(text: str) -> list[tuple[str, str]]:
    return [(a, b) for a, b in (pair.split() for pair in text.split(", "))]


def _choices(pairs: Sequence[tuple[str, str]], question: str) -> tuple[Item, ...]:
    """Four choices each: the right one, and the answers of the next three, turned by the item's number."""
    items = []
    for number, (asked, _) in enumerate(pairs):
        four = [pairs[(number + step) % len(pairs)][1] for step in range(4)]
        turn = number % 4
        turned = four[-turn:] + four[:-turn] if turn else four
        items.append(Item(question.format(asked), tuple(f" {one}" for one in turned), float(turn)))
    return tuple(items)
