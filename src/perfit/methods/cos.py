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
from perfit.inference.batches import BATCH_TOKENS, Tokens, batches
from perfit.inference.decode import collected, steps
from perfit.inference.decoding import Decoding
from perfit.inference.generate import choice_of, finished
from perfit.inference.label_set import LabelSet, most_tokens
from perfit.inference.log_probs import changed_label_log_probs
from perfit.methods.answer import answer_by_label
from perfit.methods.history_as_text import HistoryAsText
from perfit.methods.method import Ask, Done, Setting
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


def make(name: str, label: str, setting: Setting, options: Options) -> HistoryAsText[tuple[Tokens, Tokens]]:
    """Answers from the steered logits: the greedy text, or the label that they make most probable."""

    def asked(prompts: Prompts, ask: Ask) -> tuple[Tokens, Tokens]:
        return prompts.retrieved(ask, options.k), prompts.plain(ask)

    def answers(backbone: Backbone, pairs: Sequence[tuple[Tokens, Tokens]], prompts: Prompts, done: Done) -> list[str]:
        if not pairs:
            return []
        longer = [with_context for with_context, _ in pairs]
        if prompts.setting.answers != "free":

            def scored(labels: LabelSet, mine: Sequence[int], best_only: bool) -> Tensor:
                return changed_label_log_probs(
                    backbone,
                    [pairs[row] for row in mine],
                    labels,
                    mixed=lambda logits: steered_logits(logits[0], logits[1], options.strength),
                    best_only=best_only,
                    done=done,
                )

            return answer_by_label(backbone, longer, prompts, scored)
        decoding = prompts.decoding
        longest = most_tokens(decoding.within, longer, decoding.max_new_tokens)
        check_room(backbone, max(map(len, longer)), longest)
        texts = [""] * len(pairs)
        for batch in batches(longer, BATCH_TOKENS // 2):
            said = steered(backbone, [pairs[i] for i in batch], options.strength, decoding)
            for index, text in zip(batch, said, strict=True):
                texts[index] = text
            done(len(batch))
        return texts

    return HistoryAsText(name, label, setting, asked, answers, "has no history to retrieve from")


def steered_logits(with_context: Tensor, without: Tensor, strength: float) -> Tensor:
    """See the module; [..., vocabulary] of each."""
    return with_context + strength * (with_context - without)


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
        steered = steered_logits(logits[:count], logits[count:], strength)
        if control is not None:
            steered = control(steered, said[:count])
        return torch.cat([steered, steered])

    choice = replace(choice, control=both, within=None if within is None else [*within, *within])
    said = collected(2 * count, steps(backbone, longer + shorter, choice, leave=False))
    return finished(backbone, longer, said[:count], decoding)
