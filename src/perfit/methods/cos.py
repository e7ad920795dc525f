"""CoS, context steering: logits with the user's context, pushed further away from those without (paper, Appendix A).

    steered = with + λ (with − without)

λ = 0 is RAG, λ = −1 the base. The context is what BM25 finds in the history; He et al. (2024) write it by hand.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from perfit.backbone.model import Backbone
from perfit.backbone.room import check_room
from perfit.data.schema import User
from perfit.inference.batches import BATCH_TOKENS, Tokens, batches
from perfit.inference.decode import collected, steps
from perfit.inference.decoding import Decoding
from perfit.inference.generate import choice_of, finished
from perfit.inference.label_set import most_tokens
from perfit.methods.history_bytes import history_bytes
from perfit.methods.method import Ask, Cost, Done, Setting, no_progress
from perfit.methods.options import check_counts, check_numbers
from perfit.methods.prompts import Prompts


@dataclass(frozen=True)
class Options:
    """Options of CoS.

    Attributes:
        k: Past items that make the context.
        strength: λ.
    """

    k: int = 4
    strength: float = 0.5

    def __post_init__(self) -> None:
        check_counts(self, "k")
        check_numbers(self, "strength", least=-1.0)


class Cos:
    """See the module."""

    def __init__(self, name: str, label: str, setting: Setting, options: Options):
        self.name, self.label, self.setting, self.options = name, label, setting, options
        self._user_bytes = 0

    def fit(self, others: Sequence[User]) -> None:
        """Nothing is learnt."""

    def adapt(self, users: Sequence[User]) -> dict[str, str]:
        """The history is all there is."""
        self._user_bytes = history_bytes(self.setting.task, users)
        return {user.id: "has no history to retrieve from" for user in users if not user.history}

    def predict(self, asks: Sequence[Ask], done: Done = no_progress) -> list[str]:
        """Greedy answers from the steered logits."""
        backbone, prompts = self.setting.backbone, Prompts(self.setting)
        pairs = [(prompts.retrieved(ask, self.options.k), prompts.plain(ask)) for ask in asks]
        prompts.warn()
        if not pairs:
            return []
        decoding, longer = prompts.decoding, [with_context for with_context, _ in pairs]
        longest = most_tokens(decoding.within, longer, decoding.max_new_tokens)
        check_room(backbone, max(map(len, longer)), longest)
        texts = [""] * len(pairs)
        for batch in batches(longer, BATCH_TOKENS // 2):
            answers = steered(backbone, [pairs[i] for i in batch], self.options.strength, decoding)
            for index, text in zip(batch, answers, strict=True):
                texts[index] = text
            done(len(batch))
        return texts

    def cost(self) -> Cost:
        """The texts that are searched."""
        return Cost(user_bytes=self._user_bytes)


@torch.no_grad()
def steered(
    backbone: Backbone, pairs: Sequence[tuple[Tokens, Tokens]], strength: float, decoding: Decoding
) -> list[str]:
    """Greedy text after each pair of prompts (with context, without) from their steered logits.

    Both prompts of a pair run as two rows of one batch and go on with the same tokens; which answers there may be, and
    what repeats, is the first's.
    """
    count = len(pairs)
    longer, shorter = [first for first, _ in pairs], [second for _, second in pairs]

    choice = choice_of(backbone, longer, decoding)
    control, within = choice.control, choice.within

    def both(logits: Tensor, said: Sequence[Sequence[int]]) -> Tensor:
        steered = logits[:count] + strength * (logits[:count] - logits[count:])
        if control is not None:
            steered = control(steered, said[:count])
        return torch.cat([steered, steered])

    choice = replace(choice, control=both, within=None if within is None else [*within, *within])
    said = collected(2 * count, steps(backbone, longer + shorter, choice, leave=False))
    return finished(backbone, longer, said[:count], decoding)


make = Cos
