"""Prompts of many users to answers: tokens, banks with the users' shifts, batches, texts."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from perfit.backbone.generate import Decoding, generate
from perfit.backbone.label_trie import LabelTrie, label_log_probs
from perfit.backbone.room import check_room
from perfit.data.schema import Query, User
from perfit.errors import ConfigError
from perfit.inputs import check_asked
from perfit.positions import Positions
from perfit.shown import shown
from perfit.stop_strings import checked_stop
from perfit.tasks.encode import label_ids
from perfit.training.examples import RowMaker
from perfit.training.loop import Emit

if TYPE_CHECKING:
    from perfit.personalizer import PerFit

_GENERATE_USERS = 256


def answers_of(
    perfit: PerFit,
    prompts: Sequence[str | Query],
    users: Sequence[str],
    askers: Sequence[User] | None,
    decoding: Decoding | None,
    done: Callable[[int], None],
    emit: Emit,
) -> list[str]:
    """See ``PerFit.generate``."""
    if not prompts:
        return []
    limit = decoding if decoding is not None else Decoding(max_new_tokens=perfit.answer_limit(), stop=perfit.task.stop)
    tokens = _tokens(perfit, prompts, askers, limit.max_new_tokens, emit)
    positions = Positions.parse(perfit.config.positions)
    texts = [""] * len(tokens)
    owners = perfit.owners
    # So many users' shifts at once, and no more, whatever the number of users.
    for group in _groups(users, _GENERATE_USERS):
        shift, slots = owners.rows_of([users[i] for i in group], perfit.backbone, perfit.config.layers)
        answers = generate(perfit.backbone, [tokens[i] for i in group], slots, shift, positions, limit, done)
        for index, answer in zip(group, answers, strict=True):
            texts[index] = answer
    return texts


def decoding_of(
    perfit: PerFit,
    decoding: Decoding | None,
    max_new_tokens: int | None,
    temperature: float | None,
    stop: str | Sequence[str] | None,
) -> Decoding | None:
    """How tokens are chosen, from what ``PerFit.generate`` was told; None where it was told nothing.

    Raises:
        ConfigError: A value is impossible, or ``decoding`` is given beside another.
    """
    named = {"max_new_tokens": max_new_tokens, "temperature": temperature, "stop": stop}
    given = [name for name, value in named.items() if value is not None]
    if not given:
        return decoding
    if decoding is not None:
        raise ConfigError(f"{given[0]}: is given beside decoding, which says it too; give one of the two")
    most = perfit.answer_limit() if max_new_tokens is None else max_new_tokens
    if not isinstance(most, int) or isinstance(most, bool):
        raise ConfigError(f"max_new_tokens: {shown(repr(most))} is not possible; give a whole number of at least 1")
    warmth = 0.0 if temperature is None else temperature
    if not isinstance(warmth, int | float) or isinstance(warmth, bool) or not 0 <= warmth < math.inf:
        raise ConfigError(
            f"temperature: {shown(repr(warmth))} is not possible; give 0 for the most probable token, or a number above it"
        )
    ends = perfit.task.stop if stop is None else checked_stop(stop)
    if not warmth:
        return Decoding(max_new_tokens=most, stop=ends)
    return Decoding(max_new_tokens=most, sample=True, temperature=warmth, stop=ends)


def label_scores_of(
    perfit: PerFit,
    prompts: Sequence[str | Query],
    users: Sequence[str],
    askers: Sequence[User] | None,
    best_only: bool,
    done: Callable[[int], None],
    emit: Emit,
) -> Tensor:
    """See ``PerFit.score_labels``."""
    check_asked(prompts, users)
    labels, tokenizer, chat = perfit.task.labels, perfit.backbone.tokenizer, perfit.config.chat_template
    if not labels:
        raise ConfigError(f"labels: task {perfit.task.name!r} has none, its answers are free text; use generate")
    owners = perfit.owners
    scores = torch.empty(len(prompts), len(labels))
    tokens = _tokens(perfit, prompts, askers, perfit.answer_limit(), emit) if prompts else []
    # A label's tokens may depend on what they follow; in a task's prompts that is one and the same token.
    trie_after = {last: LabelTrie.of(label_ids(labels, tokenizer, last, chat)) for last in {t[-1] for t in tokens}}
    positions = Positions.parse(perfit.config.positions)
    for last, trie in trie_after.items():
        rows = [i for i, prompt in enumerate(tokens) if prompt[-1] == last]
        for group in _groups([users[i] for i in rows], _GENERATE_USERS):
            chosen = [rows[i] for i in group]
            shift, slots = owners.rows_of([users[i] for i in chosen], perfit.backbone, perfit.config.layers)
            asked = [tokens[i] for i in chosen]
            scores[chosen] = label_log_probs(
                perfit.backbone, asked, slots, shift, positions, trie, best_only=best_only, done=done
            )
    return scores


def _tokens(
    perfit: PerFit, prompts: Sequence[str | Query], askers: Sequence[User] | None, answer_room: int, emit: Emit
) -> list[tuple[int, ...]]:
    """Token ids of the prompts, which have room for an answer of so many tokens."""
    maker = RowMaker(perfit.task, perfit.backbone.tokenizer, perfit.config)
    asked = [p if isinstance(p, Query) else perfit.query(p) for p in prompts]
    tokens = prompts_of(maker, asked, askers)
    check_room(perfit.backbone, max(map(len, tokens)), answer_room)
    for line in maker.warnings():
        emit({"event": "warning", "text": line})
    return tokens


def prompts_of(maker: RowMaker, queries: Sequence[Query], askers: Sequence[User] | None) -> list[tuple[int, ...]]:
    """Token ids of queries' prompts, behind past items of who asks where the settings want them.

    Raises:
        ConfigError: They want them and nobody is given, or not one for each query.
    """
    if askers is not None and len(askers) != len(queries):
        raise ConfigError(f"askers: {len(askers)} given for {len(queries)} prompts; give one for each prompt")
    if not maker.config.retrieved:
        askers = None
    whose = askers if askers is not None else [None] * len(queries)
    # Asked several times for different shifts, a query is one prompt, shortened (and counted) once.
    # Who asks is told by the object: two with one id may have different histories.
    once: dict[tuple[Query, int], tuple[int, ...]] = {}
    tokens = []
    for query, asker in zip(queries, whose, strict=True):
        if (query, id(asker)) not in once:
            once[query, id(asker)] = maker.prompt(query, asker).prompt_ids
        tokens.append(once[query, id(asker)])
    return tokens


def _groups(users: Sequence[str], size: int) -> list[list[int]]:
    """Row numbers, gathered so that each group has at most ``size`` different users."""
    number = {user: place // size for place, user in enumerate(dict.fromkeys(users))}
    groups: dict[int, list[int]] = {}
    for row, user in enumerate(users):
        groups.setdefault(number[user], []).append(row)
    return list(groups.values())
