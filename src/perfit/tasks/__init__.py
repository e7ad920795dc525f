"""Tasks: what is asked of a user, as data. Six of LaMP, and your own from a small YAML file."""

from __future__ import annotations

import re
from pathlib import Path

from perfit.errors import ConfigError
from perfit.tasks.chat import CHAT
from perfit.tasks.custom import load_task
from perfit.tasks.encode import Encoded, encode
from perfit.tasks.lamp_2m import MOVIE_TAGGING
from perfit.tasks.lamp_2n import NEWS_CATEGORIZE
from perfit.tasks.lamp_3 import PRODUCT_RATING
from perfit.tasks.lamp_4 import NEWS_HEADLINE
from perfit.tasks.lamp_5 import SCHOLARLY_TITLE
from perfit.tasks.lamp_7 import TWEET_PARAPHRASE
from perfit.tasks.task import Example, Task

LAMP_TASKS: tuple[Task, ...] = (
    NEWS_CATEGORIZE,
    MOVIE_TAGGING,
    PRODUCT_RATING,
    NEWS_HEADLINE,
    SCHOLARLY_TITLE,
    TWEET_PARAPHRASE,
)
"""The tasks of the paper's Tables 2, 3 and 6."""

__all__ = ["CHAT", "LAMP_TASKS", "Encoded", "Example", "Task", "encode", "get_task", "load_task"]


def get_task(name: str | Path) -> Task:
    """A task by name ("news_categorize"), LaMP id ("LaMP_2N", "LaMP-2N", "2N", "chat") or path to a YAML file.

    Raises:
        ConfigError: No such task; the message lists the known ones. Or the file does not describe a task.
    """
    text = str(name)
    if isinstance(name, Path) or text.lower().endswith((".yaml", ".yml")):
        return load_task(name)
    if text == CHAT.name:
        return CHAT
    lamp_number = _lamp_number(text)
    for task in LAMP_TASKS:
        if text == task.name or (task.lamp_id is not None and lamp_number == _lamp_number(task.lamp_id)):
            return task
    known = ", ".join(f"{task.name} ({task.lamp_id})" for task in LAMP_TASKS)
    raise ConfigError(f"task is {text!r}; use one of {known}, {CHAT.name}, or the path of a YAML file (*.yaml)")


def _lamp_number(text: str) -> str:
    return re.sub(r"^lamp[_-]?", "", text.strip().lower())
