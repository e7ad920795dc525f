"""A LoRA on q and v for each user, on the base (LoRA-P) or on top of a collective LoRA (OPPU)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import torch
from torch import Tensor

from perfit.data.schema import User
from perfit.events import Warned
from perfit.methods.adapters import COLLECTIVE, PERSONAL, Adapters, LoraShape, adapted
from perfit.methods.answer import answer, by_user
from perfit.methods.attention import Projection, find_attention
from perfit.methods.collective_lora import CollectiveLora
from perfit.methods.method import Ask, Done, Setting
from perfit.methods.prompts import Prompts
from perfit.methods.stages import stage_of
from perfit.methods.tuning import Tuning
from perfit.methods.work import Work, history_of


@dataclass(frozen=True)
class PersonalLoraOptions:
    """What decides the users' LoRAs.

    Attributes:
        shape: Rank, alpha, dropout.
        epochs, learning_rate: None for the config's stage 2.
        retrieved: Past items before each prompt, earlier ones only while training.
    """

    shape: LoraShape
    epochs: int | None = None
    learning_rate: float | None = None
    retrieved: int = 0


class PersonalLora:
    """Trains one user after the other, each from a fresh LoRA of their own.

    Args:
        setting: The setting.
        what: Whose work it is.
        options: Of the personal LoRAs.
        below: The collective LoRA they stand on, active and frozen; None for the bare base.
    """

    def __init__(self, setting: Setting, what: str, options: PersonalLoraOptions, below: CollectiveLora | None = None):
        self.setting, self.options, self.below = setting, options, below
        self.stage = stage_of(setting, 2, options.epochs, options.learning_rate)
        under = below.work if below is not None else None
        self.work = Work(setting.folder, setting, what, options, below=under)
        self.prompts = Prompts(setting)

    @cached_property
    def targets(self) -> list[Projection]:
        """The projections a personal LoRA changes."""
        every = find_attention(self.setting.backbone)
        return [projection for attention in every for projection in attention.only("qv")]

    @property
    def parameters(self) -> int:
        """Trained numbers of one user."""
        return self.options.shape.parameters(self.targets)

    def _targets(self) -> dict[str, list[Projection]]:
        return ({COLLECTIVE: self.below.targets} if self.below is not None else {}) | {PERSONAL: self.targets}

    def _load_below(self, adapters: Adapters) -> None:
        if self.below is not None:
            adapters.load(COLLECTIVE, self.below.tensors())

    def adapt(self, users: Sequence[User]) -> dict[str, str]:
        """See ``Method.adapt``."""
        setting = self.setting
        if any("qkv" in attention.parts for attention in find_attention(setting.backbone)):
            text = "q, k and v are one projection in this base: the personal LoRA changes k too"
            setting.listener(Warned(text))
        adapters = adapted(setting.backbone, self._targets(), self.options.shape)
        self._load_below(adapters)
        adapters.train(PERSONAL)
        parameters = adapters.parameters(PERSONAL)
        tuning = Tuning(adapters.backbone, self.stage, setting.seed, setting.config.step_tokens, setting.listener)

        def one(user: User) -> tuple[dict[str, Tensor], dict[str, Any]]:
            rows = self._rows(user)
            adapters.start(PERSONAL, setting.seed, user.id)
            notes = tuning.run(
                parameters,
                rows,
                user.id,
                reseed=adapters.reseed,
                checkpoint=self.work.checkpoint("user"),
                context=self.work.context + user.id + history_of(user),
            )
            return {name: tensor.detach().to(torch.bfloat16) for name, tensor in parameters.items()}, notes

        problems = self.work.adapt_each(users, one, self.stage.epochs)
        self.prompts.warn()
        return problems

    def _rows(self, user: User) -> list[Any]:
        if self.options.retrieved:
            return list(self.prompts.retrieved_rows(user, self.options.retrieved))
        return list(self.prompts.maker.history_rows(user))

    def predict(self, asks: Sequence[Ask], done: Done) -> list[str]:
        """See ``Method.predict``; one user's rows after the other's, for weights are one user's at a time."""
        k = self.options.retrieved
        tokens = [self.prompts.retrieved(ask, k) if k else self.prompts.plain(ask) for ask in asks]
        self.prompts.warn()
        texts = [""] * len(asks)
        adapters = adapted(self.setting.backbone, self._targets(), self.options.shape)
        self._load_below(adapters)
        for group in by_user(asks):
            adapters.load(PERSONAL, self.work.adapted(asks[group[0]].user).tensors)
            rows = [tokens[i] for i in group]
            answers = answer(adapters.backbone, rows, self.prompts, done)
            for index, text in zip(group, answers, strict=True):
                texts[index] = text
        return texts
