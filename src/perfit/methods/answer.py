"""Answers as a setting asks for them, and asks in batches and by user."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from perfit.backbone.model import Backbone
from perfit.backbone.room import check_room
from perfit.backbone.taps import Changes
from perfit.data.schema import User
from perfit.inference.batches import Tokens
from perfit.inference.edited import Edited, unedited
from perfit.inference.fixed_rows import answer_changed
from perfit.inference.label_set import LabelSet, by_label_set, labels_after
from perfit.inference.log_probs import changed_label_log_probs
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


def changed_answer(
    backbone: Backbone,
    tokens: Sequence[Tokens],
    prompts: Prompts,
    done: Done,
    during: Callable[[Sequence[int]], Changes],
) -> list[str]:
    """The answer to each prompt as ``edited_answer`` gives it, while a method changes the base in every forward.

    Args:
        backbone: The base.
        tokens: Of each prompt.
        prompts: Which answers there may be.
        done: Called with the number of prompts finished.
        during: What the method does in a forward, from the numbers of its rows in their order.

    Raises:
        ConfigError: As ``edited_answer``.
    """
    if prompts.setting.answers in ("free", "sampled"):
        return answer_changed(backbone, tokens, prompts.decoding, done, during)

    def scored(labels: LabelSet, mine: Sequence[int], best_only: bool) -> Tensor:
        return changed_label_log_probs(
            backbone,
            [(tokens[row],) for row in mine],
            labels,
            during=lambda rows: during([mine[row] for row in rows]),
            best_only=best_only,
            done=done,
        )

    return answer_by_label(backbone, tokens, prompts, scored)


def answer_by_label(
    backbone: Backbone,
    tokens: Sequence[Tokens],
    prompts: Prompts,
    scored: Callable[[LabelSet, Sequence[int], bool], Tensor],
) -> list[str]:
    """The answers that labels' exact probabilities mean.

    Args:
        backbone: The base.
        tokens: Each prompt, or the longest of those that run for it.
        prompts: Which answers there may be.
        scored: Log-probabilities [rows, labels] of the prompts of some numbers; of the most probable alone, where that is
            wanted.

    Raises:
        ConfigError: A prompt and its answer do not fit the base, or two labels have the same tokens.
    """
    task, wanted = prompts.setting.task, prompts.setting.answers
    scores = torch.empty(len(tokens), len(task.labels))
    within = labels_after(task.labels, backbone.tokenizer, prompts.setting.config.chat_template)
    for labels, mine in by_label_set(tokens, within):
        check_room(backbone, max(len(tokens[row]) for row in mine), labels.longest)
        scores[mine] = scored(labels, mine, wanted == "labels")
    return answers_from(scores, task, "trie" if wanted == "labels" else wanted)


def users_of(asks: Sequence[Ask]) -> dict[str, User]:
    """Who asks, each once, by id."""
    return {ask.user.id: ask.user for ask in asks}


def by_user(asks: Sequence[Ask]) -> list[list[int]]:
    """Indices of each user's asks, users in the order in which they first ask."""
    groups: dict[str, list[int]] = {}
    for index, ask in enumerate(asks):
        groups.setdefault(ask.user.id, []).append(index)
    return list(groups.values())
