"""What users type, and how it is to be answered: as prompts' tokens, and as a way to choose tokens."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace
from typing import Any, TypedDict, Unpack, cast

from perfit.belonging import Belonging
from perfit.data.schema import Query, User
from perfit.errors import ConfigError
from perfit.events import Listener, Warned
from perfit.inference.decoding import Decoding
from perfit.inputs import Prompt, as_query
from perfit.shown import shown
from perfit.training.examples import RowMaker, answer_limit


class HowToAnswer(TypedDict, total=False):
    """What ``PerFit.generate`` may be told of how tokens are chosen; None where it is not."""

    max_new_tokens: int | None
    temperature: float | None
    stop: str | Sequence[str] | None
    repetition_penalty: float | None
    no_repeat_ngram: int | None
    decoding: Decoding | None


def limit_of(belonging: Belonging) -> int:
    """Tokens an answer may take; see ``training.examples.answer_limit``."""
    return answer_limit(belonging.task, belonging.backbone.tokenizer, belonging.config.chat_template)


def decoding_of(belonging: Belonging, **how: Unpack[HowToAnswer]) -> Decoding:
    """How tokens are chosen, from what was said of it, and from the task where nothing was.

    Raises:
        ConfigError: A value is impossible, or ``decoding`` is given beside another.
    """
    told: dict[str, Any] = {name: value for name, value in how.items() if value is not None}
    if (given := told.pop("decoding", None)) is not None:
        if told:
            raise ConfigError(f"{next(iter(told))}: is given beside decoding, which says it too; give one of the two")
        return cast(Decoding, given)
    most = told.pop("max_new_tokens") if "max_new_tokens" in told else limit_of(belonging)
    if not isinstance(most, int) or isinstance(most, bool):
        raise ConfigError(f"max_new_tokens: {shown(repr(most))} is not possible; give a whole number of at least 1")
    warmth = told.pop("temperature", 0.0)
    if not isinstance(warmth, int | float) or isinstance(warmth, bool) or not 0 <= warmth < math.inf:
        raise ConfigError(
            f"temperature: {shown(repr(warmth))} is not possible; give 0 for the most probable token, or a number above it"
        )
    decoding = (Decoding(sample=True, temperature=warmth) if warmth else Decoding()).of(belonging.task, most)
    return replace(decoding, **told)


def tokens_of(
    belonging: Belonging, prompts: Sequence[Prompt], askers: Sequence[User] | None, listener: Listener
) -> list[tuple[int, ...]]:
    """Token ids of what users type, as prompts of the task; ``listener`` hears what had to be shortened."""
    if not prompts:
        return []
    task = belonging.task
    maker = RowMaker(task, belonging.backbone.tokenizer, belonging.config)
    tokens = prompts_of(maker, [as_query(prompt, marker=task.marker) for prompt in prompts], askers)
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
