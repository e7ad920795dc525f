"""Answers as a setting asks for them, and asks in batches and by user."""

from __future__ import annotations

from collections.abc import Sequence

from perfit.backbone.model import Backbone
from perfit.data.schema import User
from perfit.inference.batches import Tokens
from perfit.inference.edited import Edited, unedited
from perfit.methods.method import Ask, Done
from perfit.methods.prompts import Prompts
from perfit.pseudo_users import BASE
from perfit.tasks.label_scores import answers_from


def answer(backbone: Backbone, tokens: Sequence[Tokens], prompts: Prompts, done: Done) -> list[str]:
    """The base's answer to each prompt, in order; see ``edited_answer``."""
    return edited_answer(unedited(backbone), [BASE] * len(tokens), tokens, prompts, done)


def edited_answer(
    edited: Edited, users: Sequence[str], tokens: Sequence[Tokens], prompts: Prompts, done: Done
) -> list[str]:
    """The answer to each prompt, in order: free, the most probable of the labels, or what ratings' probabilities expect.

    Of labels it is what ``evaluate --answers trie`` and ``expected`` answer.

    Args:
        edited: The base with its owners' shifts.
        users: Each prompt's owner, or a pseudo-user.
        tokens: Of each prompt.
        prompts: Which answers there may be.
        done: Called with the number of prompts finished.

    Raises:
        ConfigError: A prompt and its answer do not fit the base, or two labels have the same tokens.
    """
    task, chat = prompts.setting.task, prompts.setting.config.chat_template
    if (wanted := prompts.setting.answers) in ("free", "sampled"):
        return edited.texts(tokens, users, prompts.decoding, done)
    best_only = wanted == "labels"
    scores = edited.label_scores(tokens, users, task.labels, done, chat_template=chat, best_only=best_only)
    return answers_from(scores, task, "trie" if best_only else wanted)


def users_of(asks: Sequence[Ask]) -> dict[str, User]:
    """Who asks, each once, by id."""
    return {ask.user.id: ask.user for ask in asks}


def by_user(asks: Sequence[Ask]) -> list[list[int]]:
    """Indices of each user's asks, users in the order in which they first ask."""
    groups: dict[str, list[int]] = {}
    for index, ask in enumerate(asks):
        groups.setdefault(ask.user.id, []).append(index)
    return list(groups.values())
