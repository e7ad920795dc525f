"""Users' texts and queries to answers and scores: their tokens, and what the edited base makes of them."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

from torch import Tensor

from perfit.data.schema import Query, User
from perfit.errors import ConfigError
from perfit.events import Listener, Warned
from perfit.inference.decoding import Decoding
from perfit.inputs import Prompt, check_asked
from perfit.shown import shown
from perfit.training.examples import RowMaker

if TYPE_CHECKING:
    from perfit.personalizer import PerFit


def answers_of(
    perfit: PerFit,
    prompts: Sequence[Prompt],
    users: Sequence[str],
    askers: Sequence[User] | None,
    decoding: Decoding,
    done: Callable[[int], None],
    listener: Listener,
) -> list[str]:
    """See ``PerFit.generate``."""
    edited = perfit.edited()
    return edited.texts(_tokens(perfit, prompts, askers, listener), users, decoding, done)


def pieces_of(
    perfit: PerFit,
    prompts: Sequence[Prompt],
    users: Sequence[str],
    askers: Sequence[User] | None,
    decoding: Decoding,
    listener: Listener,
) -> Iterator[tuple[int, str]]:
    """See ``PerFit.stream``."""
    edited = perfit.edited()
    return edited.pieces(_tokens(perfit, prompts, askers, listener), users, decoding)


def decoding_of(
    perfit: PerFit,
    decoding: Decoding | None,
    *,
    max_new_tokens: int | None,
    temperature: float | None,
    stop: str | Sequence[str] | None,
    repetition_penalty: float | None,
    no_repeat_ngram: int | None,
) -> Decoding:
    """How tokens are chosen, from what ``PerFit.generate`` was told, and from the task where it was told nothing.

    Raises:
        ConfigError: A value is impossible, or ``decoding`` is given beside another.
    """
    named = {
        "max_new_tokens": max_new_tokens,
        "temperature": temperature,
        "stop": stop,
        "repetition_penalty": repetition_penalty,
        "no_repeat_ngram": no_repeat_ngram,
    }
    given = [name for name, value in named.items() if value is not None]
    if decoding is not None:
        if given:
            raise ConfigError(f"{given[0]}: is given beside decoding, which says it too; give one of the two")
        return decoding
    most = perfit.answer_limit() if max_new_tokens is None else max_new_tokens
    if not isinstance(most, int) or isinstance(most, bool):
        raise ConfigError(f"max_new_tokens: {shown(repr(most))} is not possible; give a whole number of at least 1")
    warmth = 0.0 if temperature is None else temperature
    if not isinstance(warmth, int | float) or isinstance(warmth, bool) or not 0 <= warmth < math.inf:
        raise ConfigError(
            f"temperature: {shown(repr(warmth))} is not possible; give 0 for the most probable token, or a number above it"
        )
    decoding = (Decoding(sample=True, temperature=warmth) if warmth else Decoding()).of(perfit.task, most)
    told = {name: named[name] for name in ("stop", "repetition_penalty", "no_repeat_ngram") if name in given}
    return replace(decoding, **told)  # type: ignore[arg-type]  # Decoding refuses what it cannot be


def label_scores_of(
    perfit: PerFit,
    prompts: Sequence[Prompt],
    users: Sequence[str],
    askers: Sequence[User] | None,
    best_only: bool,
    done: Callable[[int], None],
    listener: Listener,
) -> Tensor:
    """See ``PerFit.score_labels``."""
    check_asked(prompts, users, chat=perfit.task.chat)
    labels, chat = perfit.task.labels, perfit.config.chat_template
    if not labels:
        raise ConfigError(f"labels: task {perfit.task.name!r} has none, its answers are free text; use generate")
    edited = perfit.edited()
    tokens = _tokens(perfit, prompts, askers, listener)
    return edited.label_scores(tokens, users, labels, done, chat_template=chat, best_only=best_only)


def _tokens(
    perfit: PerFit, prompts: Sequence[Prompt], askers: Sequence[User] | None, listener: Listener
) -> list[tuple[int, ...]]:
    if not prompts:
        return []
    maker = RowMaker(perfit.task, perfit.backbone.tokenizer, perfit.config)
    tokens = prompts_of(maker, [perfit.query(prompt) for prompt in prompts], askers)
    for line in maker.warnings():
        listener(Warned(line))
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
