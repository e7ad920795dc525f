"""CoS, context steering: logits with the user's context, pushed further away from those without (paper, Appendix A).

    steered = with + λ (with − without)

λ = 0 is RAG, λ = −1 the base. The context is what BM25 finds in the history; He et al. (2024) write it by hand.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from transformers import DynamicCache

from perfit.backbone.generate import left_padded
from perfit.backbone.model import Backbone
from perfit.backbone.room import check_room
from perfit.data.schema import User
from perfit.methods.answer import batches
from perfit.methods.history_bytes import history_bytes
from perfit.methods.method import Ask, Cost, Done, Setting, no_progress
from perfit.methods.options import check_counts, check_numbers
from perfit.methods.prompts import Prompts
from perfit.methods.tuning import head_on

Tokens = tuple[int, ...]


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
        check_room(backbone, max(len(longer) for longer, _ in pairs), prompts.limit)
        texts = [""] * len(pairs)
        for batch in batches([2 * len(longer) for longer, _ in pairs]):
            answers = steered(backbone, [pairs[i] for i in batch], self.options.strength, prompts.limit)
            for index, text in zip(batch, answers, strict=True):
                texts[index] = text
            done(len(batch))
        return texts

    def cost(self) -> Cost:
        """The texts that are searched."""
        return Cost(user_bytes=self._user_bytes)


@torch.no_grad()
def steered(backbone: Backbone, pairs: Sequence[tuple[Tokens, Tokens]], strength: float, limit: int) -> list[str]:
    """Greedy text after each pair of prompts (with context, without) from their steered logits.

    Both prompts of a pair run as two rows of one batch and go on with the same tokens.
    """
    rows = [with_context for with_context, _ in pairs] + [without for _, without in pairs]
    ids, mask, _ = left_padded(rows, backbone.device)
    cache, stops, count = DynamicCache(config=backbone.model.config), _stops(backbone), len(pairs)
    texts: list[list[int]] = [[] for _ in pairs]
    going = [True] * count
    positions = (mask.cumsum(-1) - 1).clamp(min=0)
    for _ in range(limit):
        logits = _last_logits(backbone, ids, mask, positions, cache).float()
        chosen = (logits[:count] + strength * (logits[:count] - logits[count:])).argmax(-1)
        for place, token in enumerate(chosen.tolist()):
            going[place] = going[place] and token not in stops
            if going[place]:
                texts[place].append(token)
        if not any(going):
            break
        ids = torch.cat([chosen, chosen]).unsqueeze(1)
        mask = torch.cat([mask, torch.ones_like(ids)], 1)
        positions = positions[:, -1:] + 1
    return [backbone.tokenizer.decode(tokens, skip_special_tokens=True) for tokens in texts]


def _last_logits(backbone: Backbone, ids: Tensor, mask: Tensor, positions: Tensor, cache: Any) -> Tensor:
    """Logits [rows, vocabulary] of each row's last token."""
    with head_on(backbone, lambda states: states[:, -1:].contiguous()):
        out = backbone.model(
            input_ids=ids, attention_mask=mask, position_ids=positions, past_key_values=cache, use_cache=True
        )
    logits: Tensor = out.logits[:, -1]
    return logits


def _stops(backbone: Backbone) -> set[int]:
    own = backbone.model.generation_config.eos_token_id
    return {*(own if isinstance(own, list) else [own]), backbone.tokenizer.eos_token_id} - {None}


make = Cos
