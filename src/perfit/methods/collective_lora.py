"""A LoRA on q, k and v trained on other users: stage 1 of LoRA-C, OPPU and the LoRA hybrids of Table 12."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

from torch import Tensor

from perfit.backbone.model import Backbone
from perfit.data.schema import User
from perfit.events import StageBegun
from perfit.methods.adapters import COLLECTIVE, LoraShape, adapted
from perfit.methods.answer import answer
from perfit.methods.attention import Projection, find_attention
from perfit.methods.method import Ask, Done, Setting
from perfit.methods.prompts import Prompts
from perfit.methods.stages import stage_of
from perfit.methods.tuning import Tuning
from perfit.methods.work import Work
from perfit.training.user_rows import pool_rows


@dataclass(frozen=True)
class CollectiveLoraOptions:
    """What decides a collective LoRA.

    Attributes:
        shape: Rank, alpha, dropout.
        epochs, learning_rate: None for the config's stage 1.
        layers: Zero-based layers it changes; None for all.
    """

    shape: LoraShape
    epochs: int | None = None
    learning_rate: float | None = None
    layers: tuple[int, ...] | None = None


class CollectiveLora:
    """Trains it once, and puts it into a copy of the base when asked to."""

    def __init__(self, setting: Setting, options: CollectiveLoraOptions):
        if options.layers is not None:
            setting.backbone.check_layers(options.layers)
        self.setting, self.options = setting, options
        self.stage = stage_of(setting, 1, options.epochs, options.learning_rate)
        self.work = Work.shared(setting, "collective-lora", options)

    @cached_property
    def targets(self) -> list[Projection]:
        """The projections it changes."""
        layers = self.options.layers
        every = find_attention(self.setting.backbone)
        return [p for i, attention in enumerate(every) if layers is None or i in layers for p in attention.only("qkv")]

    @property
    def parameters(self) -> int:
        """Its trained numbers."""
        return self.options.shape.parameters(self.targets)

    @property
    def parameters_alone(self) -> int:
        """The same: all of it acts below a user's own."""
        return self.parameters

    def fit(self, others: Sequence[User]) -> None:
        """Train on other users' rows, or find it trained; see ``Method.fit``."""
        setting, prompts = self.setting, Prompts(self.setting)

        def train(pool: str) -> dict[str, Tensor]:
            rows = pool_rows(prompts.maker, others)
            setting.listener(StageBegun(stage=1, rows=len(rows), rows_total=len(rows) * self.stage.epochs))
            adapters = adapted(setting.backbone, {COLLECTIVE: self.targets}, self.options.shape)
            adapters.start(COLLECTIVE, setting.seed, COLLECTIVE)
            adapters.train(COLLECTIVE)
            parameters = adapters.parameters(COLLECTIVE)
            tuning = Tuning(adapters.backbone, self.stage, setting.seed, setting.config.step_tokens, setting.listener)
            tuning.run(
                parameters,
                rows,
                COLLECTIVE,
                reseed=adapters.reseed,
                checkpoint=self.work.checkpoint("collective"),
                context=self.work.context + pool,
            )
            prompts.warn()
            return {name: parameter.detach().clone() for name, parameter in parameters.items()}

        self.work.fit_once(others, train)

    def tensors(self) -> dict[str, Tensor]:
        """The trained matrices.

        Raises:
            StoreError: ``fit`` has not been called.
        """
        return self.work.collective().tensors

    def at_work(self) -> Backbone:
        """A copy of the base with this LoRA, frozen, in it."""
        tensors = self.tensors()
        adapters = adapted(self.setting.backbone, {COLLECTIVE: self.targets}, self.options.shape)
        adapters.load(COLLECTIVE, tensors)
        adapters.backbone.model.requires_grad_(False)
        return adapters.backbone

    def predict(self, asks: Sequence[Ask], done: Done) -> list[str]:
        """The base's answers with the LoRA in it."""
        prompts = Prompts(self.setting)
        tokens = [prompts.plain(ask) for ask in asks]
        prompts.warn()
        return answer(self.at_work(), tokens, prompts, done)
