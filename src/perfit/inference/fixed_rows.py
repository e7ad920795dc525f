"""Greedy answers while something of a method's own changes the base row by row: rows keep their places to the end.

``inference.generate`` may gather rows anew, or run what they share once; a change that belongs to rows would get lost.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from perfit.backbone.model import Backbone
from perfit.backbone.room import check_room
from perfit.backbone.taps import NOTHING, Changes
from perfit.inference.batches import Tokens, batches
from perfit.inference.decode import collected, steps
from perfit.inference.decoding import Decoding
from perfit.inference.generate import choice_of, finished
from perfit.inference.label_set import most_tokens


def greedy(
    backbone: Backbone,
    prompts: Sequence[Tokens],
    decoding: Decoding,
    changes: Changes = NOTHING,
) -> list[str]:
    """The text after each prompt of one batch, padded on the left.

    Args:
        backbone: The base.
        prompts: Token ids.
        decoding: Greedy: how long answers are, what ends them, and among which they are chosen.
        changes: What the method does to the base's states, in all forwards of this batch.
    """
    choice = choice_of(backbone, prompts, decoding)
    said = collected(len(prompts), steps(backbone, prompts, choice, always=changes, leave=False))
    return finished(backbone, prompts, said, decoding)


def answer_changed(
    backbone: Backbone,
    prompts: Sequence[Tokens],
    decoding: Decoding,
    done: Callable[[int], None],
    during: Callable[[Sequence[int]], Changes],
) -> list[str]:
    """The answer to each prompt, in order, batch by batch.

    Args:
        backbone: The base.
        prompts: Token ids.
        decoding: As for ``greedy``.
        done: Called with the number of prompts finished.
        during: What the method does in the forwards of a batch, from the indices of its rows in their order.

    Raises:
        ConfigError: A prompt and its answer do not fit the base.
    """
    if not prompts:
        return []
    check_room(backbone, max(map(len, prompts)), most_tokens(decoding.within, prompts, decoding.max_new_tokens))
    texts = [""] * len(prompts)
    for batch in batches(prompts):
        answers = greedy(backbone, [prompts[i] for i in batch], decoding, changes=during(batch))
        for index, text in zip(batch, answers, strict=True):
            texts[index] = text
        done(len(batch))
    return texts
