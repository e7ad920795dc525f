"""How probable users' known answers are, exactly: one log-probability per query and owner."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from perfit.backbone.room import check_room
from perfit.belonging import Belonging
from perfit.data.schema import Query, User
from perfit.errors import DataError
from perfit.inference.asked import prompts_of
from perfit.inference.edited import Edited
from perfit.inference.log_probs import answer_log_probs
from perfit.tasks.encode import label_ids
from perfit.training.examples import RowMaker


@dataclass(frozen=True)
class AnswerScore:
    """Log-probability of an answer, and over how many tokens, the closing eos included."""

    log_prob: float
    tokens: int


def answer_scores_of(
    edited: Edited,
    belonging: Belonging,
    queries: Sequence[Query],
    users: Sequence[str],
    askers: Sequence[User] | None,
    done: Callable[[int], None],
) -> list[AnswerScore]:
    """See ``PerFit.score_answers``."""
    backbone, task, config = belonging.backbone, belonging.task, belonging.config
    tokenizer, chat = backbone.tokenizer, config.chat_template
    maker = RowMaker(task, tokenizer, config)
    golds: dict[Query, str] = {}
    for query in dict.fromkeys(queries):
        if query.gold is None:
            raise DataError("the query has no known answer to score", record=f"query {query.id}")
        golds[query] = task.check_gold(query.gold, f"query {query.id}")
    # The prompts that generation asks, whatever the answers' length.
    tokens: list[tuple[tuple[int, ...], tuple[int, ...]]] = []
    for query, prompt in zip(queries, prompts_of(maker, queries, askers), strict=True):
        tokens.append((prompt, label_ids((golds[query],), tokenizer, prompt[-1], chat)[0]))
        check_room(backbone, len(prompt), len(tokens[-1][1]))
    scores = [AnswerScore(0.0, 1)] * len(queries)
    for group, shift, slots in edited.groups(users):
        asked = [tokens[i] for i in group]
        prompts, answers = [prompt for prompt, _ in asked], [answer for _, answer in asked]
        found = answer_log_probs(backbone, prompts, answers, slots, shift, edited.positions, done=done)
        for i, value, answer in zip(group, found, answers, strict=True):
            scores[i] = AnswerScore(value, len(answer))
    return scores
