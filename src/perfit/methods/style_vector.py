"""StyleVector: how a user's answers differ from generic ones, as one vector added at one layer (paper, D.3; Zhang et
al., 2025). Nothing is trained.

    s = mean over past items of  h(prompt + user's answer) − h(prompt + generic answer)    at the last token
    h ← h + strength · s       at the last prompt token and every token after it

The generic answers are the base's own. Layer and strength are those that make held-out past answers most likely.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
from torch import Tensor

from perfit.backbone.model import Backbone
from perfit.backbone.taps import Changes
from perfit.data.schema import User
from perfit.errors import ConfigError
from perfit.inference.batches import Tokens
from perfit.inference.decoding import Decoding
from perfit.inference.edited import unedited
from perfit.inference.last_states import last_states
from perfit.methods.answer import changed_answer, users_of
from perfit.methods.method import Ask, Cost, Done, Setting, no_progress
from perfit.methods.options import check_counts
from perfit.methods.prompts import Prompts
from perfit.methods.tuning import answer_loss, chunks
from perfit.methods.work import Work
from perfit.pseudo_users import BASE
from perfit.tasks.task import Example
from perfit.training.rows import TokenRow

_HELD_OUT = 4  # one item in so many chooses layer and strength


@dataclass(frozen=True)
class Options:
    """Options of StyleVector.

    Attributes:
        items: Most past items used, the latest.
        generic_tokens: Most tokens of a generic answer.
        layers: Zero-based layers to choose from; None: at a quarter, half and three quarters of the depth.
        strengths: Factors of the vector to choose from.
    """

    items: int = 32
    generic_tokens: int = 32
    layers: tuple[int, ...] | None = None
    strengths: tuple[float, ...] = (0.25, 0.5, 1.0, 2.0)

    def __post_init__(self) -> None:
        check_counts(self, "items", "generic_tokens")
        if not self.strengths:
            raise ConfigError("strengths: none given; name at least one, such as 1.0")


def adding(backbone: Backbone, layers: Sequence[int], vectors: Tensor, starts: Sequence[int]) -> Changes:
    """Add vectors to layers' outputs from each row's start on, whether tokens come at once or one by one.

    Args:
        backbone: The base.
        layers: Distinct layers, zero-based.
        vectors: [rows, len(layers), d].
        starts: Each row's first changed position in its padded row.
    """
    first = torch.tensor(starts, device=vectors.device)[:, None]
    offset = 0

    def measure(kwargs: dict[str, Any]) -> None:
        nonlocal offset
        cache = kwargs.get("past_key_values")
        offset = int(cache.get_seq_length()) if cache is not None else 0

    def add(place: int, hidden: Tensor) -> Tensor:
        reached = (offset + torch.arange(hidden.shape[1], device=hidden.device)) >= first
        return (hidden + vectors[:, place, None] * reached[:, :, None]).to(hidden.dtype)

    outputs = {backbone.output_of(layer): partial(add, place) for place, layer in enumerate(layers)}
    return {backbone.tap("", "start"): measure} | outputs


class StyleVector:
    """See the module."""

    def __init__(self, name: str, label: str, setting: Setting, options: Options):
        self.name, self.label, self.setting, self.options = name, label, setting, options
        depth = len(setting.backbone.layers)
        quarters = sorted({depth // 4, depth // 2, 3 * depth // 4})
        self.layers = tuple(quarters) if options.layers is None else tuple(sorted(options.layers))
        setting.backbone.check_layers(self.layers)
        self.work = Work(setting.folder, setting, name, options)
        self.prompts = Prompts(setting)

    def fit(self, others: Sequence[User]) -> None:
        """There is no stage 1."""

    def adapt(self, users: Sequence[User]) -> dict[str, str]:
        """Each user's vector, its layer and its strength."""
        problems = self.work.adapt_each(users, self._adapt)
        self.prompts.warn()
        return problems

    def _adapt(self, user: User) -> tuple[dict[str, Tensor], dict[str, Any]]:
        items = user.history[-self.options.items :]
        examples = [self.setting.task.history_example(item) for item in items]
        rows = [self.prompts.row(example) for example in examples]
        differences = self._differences(examples, rows)
        held_out = [i for i in range(len(rows)) if i % _HELD_OUT == _HELD_OUT - 1] or [len(rows) - 1]
        kept = [i for i in range(len(rows)) if i not in held_out] or held_out
        guess = differences[kept].mean(0)
        place, strength = self._choose(guess, [rows[i] for i in held_out])
        vector = strength * differences.mean(0)[place]
        notes = {"layer": self.layers[place], "strength": strength, "items": len(items)}
        return {"vector": vector.to(torch.bfloat16)}, notes

    def _differences(self, examples: Sequence[Example], rows: Sequence[TokenRow]) -> Tensor:
        """[items, layers to choose from, d]."""
        backbone = self.setting.backbone
        limit = min(self.options.generic_tokens, self.prompts.limit)
        prompts = [row.prompt_ids for row in rows]
        generic = unedited(backbone).texts(prompts, [BASE] * len(prompts), Decoding().of(self.setting.task, limit))
        theirs = [self.prompts.answered(example, text) for example, text in zip(examples, generic, strict=True)]
        own = [(*row.prompt_ids, *row.answer_ids[:-1]) for row in rows]
        return self._last_states(own) - self._last_states(theirs)

    def _last_states(self, sequences: Sequence[Tokens]) -> Tensor:
        """[sequences, layers to choose from, d], sequences of like length together."""
        backbone = self.setting.backbone
        states = torch.empty(len(sequences), len(self.layers), backbone.hidden_size)
        for batch, found in last_states(backbone, sequences, self.layers, self.setting.config.step_tokens):
            states[batch] = found
        return states.to(backbone.device)

    @torch.no_grad()
    def _choose(self, vectors: Tensor, rows: Sequence[TokenRow]) -> tuple[int, float]:
        """The place of the layer, and the strength, under which held-out answers are most likely."""
        losses = {
            (place, strength): self._loss(place, strength * vectors[place], rows)
            for place in range(len(self.layers))
            for strength in self.options.strengths
        }
        return min(losses, key=losses.__getitem__)

    def _loss(self, place: int, vector: Tensor, rows: Sequence[TokenRow]) -> float:
        backbone, total = self.setting.backbone, 0.0
        for chunk in chunks(rows, self.setting.config.step_tokens):
            many = vector.expand(len(chunk), 1, -1)
            starts = [len(row.prompt_ids) - 1 for row in chunk]
            added = adding(backbone, [self.layers[place]], many, starts)
            total += float(answer_loss(backbone, chunk, added).sum())
        return total

    def predict(self, asks: Sequence[Ask], done: Done = no_progress) -> list[str]:
        """The base's answers with each row's own vector at its user's layer."""
        tokens = [self.prompts.plain(ask) for ask in asks]
        self.prompts.warn()
        backbone = self.setting.backbone
        vectors = {user: self._vectors(one) for user, one in users_of(asks).items()}

        def during(batch: Sequence[int]) -> Changes:
            width = max(len(tokens[i]) for i in batch)
            stacked = torch.stack([vectors[asks[i].user.id] for i in batch])
            # Padding is on the left, so that all prompts end at the same place.
            return adding(backbone, self.layers, stacked, [width - 1] * len(batch))

        return changed_answer(backbone, tokens, self.prompts, done, during)

    def _vectors(self, user: User) -> Tensor:
        """What a user adds at each layer to choose from, [layers, d]: zeros but at their own."""
        kept = self.work.adapted(user)
        every = torch.zeros(len(self.layers), self.setting.backbone.hidden_size)
        if kept.tensors:
            every[self.layers.index(kept.notes["layer"])] = kept.tensors["vector"].float()
        return every.to(self.setting.backbone.device)

    def cost(self) -> Cost:
        """Nothing trained; one vector, and the number of its layer."""
        return Cost(user_bytes=2 * self.setting.backbone.hidden_size + 2)


make = StyleVector
