"""Made-up users of each of the paper's tasks for the smoke scale: few, short, without any text of a person."""

from __future__ import annotations

import random
from pathlib import Path

from perfit.data.jsonl import write_jsonl
from perfit.data.schema import Dataset, HistoryItem, Query, User
from perfit.tasks import get_task
from perfit.tasks.task import Task

_WORDS = ("harbour", "winter", "letter", "engine", "garden", "bridge", "market", "signal", "copper", "mountain", "river", "kitchen", "lantern", "paper", "orchard", "station", "window", "thunder", "captain", "teacher")  # fmt: skip
_ENDS = ("!", "?", "...", ".")


def smoke_dataset(name: str, *, users: int = 3, others: int = 6, history: int = 4, queries: int = 2) -> Dataset:
    """Users who each like a few labels, ratings, or one way to write; equal arguments give equal data."""
    task = get_task(name)
    made = [_user(task, f"{name}-{n}", history, queries) for n in range(users + others)]
    return Dataset(tuple(made[:users]), tuple(made[users:]), task=name, source="smoke")


def write_dataset(name: str, folder: Path) -> Path:
    """One task's users as ``<folder>/<task>.jsonl``."""
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f"{name}.jsonl"
    write_jsonl(smoke_dataset(name), path)
    return path


def smoke_texts() -> list[str]:
    """What the tiny tokenizers learn from: prompts and answers of every task."""
    from perfit.experiments.paper.entry import METRICS

    texts = []
    for name in METRICS:
        task = get_task(name)
        texts += [task.prompt, " ".join(task.labels), task.retrieval_item]
        texts += [query.input for user in smoke_dataset(name).users for query in user.queries]
    return texts


def _user(task: Task, name: str, history: int, queries: int) -> User:
    chance = random.Random(name)
    liked = chance.sample(task.labels, 2) if task.labels else ()
    end = chance.choice(_ENDS)

    def answer(body: str) -> str:
        return chance.choice(liked) if liked else " ".join(body.split()[:4]).title() + end

    items, asked = [], []
    for number in range(history):
        body = _sentence(chance)
        fields = {task.history_answer: answer(body)}
        if task.body_field is not None and task.body_field != task.history_answer:
            fields[task.body_field] = body
        items.append(HistoryItem(str(number), fields))
    for number in range(queries):
        body = _sentence(chance)
        asked.append(Query(f"{name}/{number}", f"{task.marker}{body}", answer(body)))
    return User(name, tuple(items), tuple(asked))


def _sentence(chance: random.Random) -> str:
    return " ".join(chance.choice(_WORDS) for _ in range(9))
