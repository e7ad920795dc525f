"""LoFiT: pick attention heads by trained scales, then tune a bias at each picked head (paper, D.3 and D.5.3; Yin et
al., 2024). Both steps are each user's own, on the base, as the paper does.

    step 1    z ← (1 + a) ⊙ z at every head, loss + l1 Σ|a|;  the heads with the largest ‖a‖ are picked
    step 2    z ← z + v at the picked heads
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property, partial
from typing import Any

import torch
from torch import Tensor

from perfit.backbone.model import Backbone
from perfit.backbone.taps import Changes
from perfit.data.schema import User
from perfit.errors import ConfigError
from perfit.methods.answer import changed_answer, users_of
from perfit.methods.attention import find_attention, heads_of
from perfit.methods.method import Ask, Cost, Done, Setting, no_progress
from perfit.methods.options import check_counts, check_numbers
from perfit.methods.prompts import Prompts
from perfit.methods.stages import stage_of
from perfit.methods.tuning import Tuning
from perfit.methods.work import Work, history_of
from perfit.training.schedule import stable_random

_START = 1e-3  # standard deviation of fresh scales and biases, as LoFiT's code has it
_OF_1024 = {"candidates": 160, "heads": 32}  # the paper's numbers, for the 1,024 heads of Llama-2-7B


@dataclass(frozen=True)
class Options:
    """Options of LoFiT.

    Attributes:
        candidates: Heads kept by step 1, in order; None: 160 of 1,024, as many in proportion of another base.
        heads: The first of them that step 2 tunes; None: 32 of 1,024, in proportion.
        l1: Weight of the scales' absolute sum in step 1.
        epochs: Of each step; None: the config's stage 2, or 2 under the paper's preset (D.4).
        learning_rate: Peak rate of both steps; None: that of the config's stage 2.
    """

    candidates: int | None = None
    heads: int | None = None
    l1: float = 0.005
    epochs: int | None = None
    learning_rate: float | None = None

    def __post_init__(self) -> None:
        check_counts(self, "candidates", "heads", "epochs")
        check_numbers(self, "l1", "learning_rate")


Change = Callable[[int, Tensor], Tensor]


def changing_heads(backbone: Backbone, outs: Sequence[str], change: Change) -> Changes:
    """Change all heads' outputs [rows, t, heads · size] on their way into the output projection of each layer.

    Args:
        backbone: The base.
        outs: Names of the output projections, by layer.
        change: Gets the layer and the outputs, gives the changed ones.
    """

    def changed(layer: int, z: Tensor) -> Tensor:
        return change(layer, z).to(z.dtype)

    return {backbone.tap(name, "input"): partial(changed, layer) for layer, name in enumerate(outs)}


class Lofit:
    """See the module."""

    def __init__(self, name: str, label: str, setting: Setting, options: Options):
        self.name, self.label, self.setting, self.options = name, label, setting, options
        self.stage = stage_of(setting, 2, options.epochs, options.learning_rate)
        self.work = Work(setting.folder, setting, name, options)
        self.prompts = Prompts(setting)
        if self.heads > self.candidates:
            raise ConfigError(f"heads: {self.heads} of only {self.candidates} candidates; give at most as many")

    @cached_property
    def shape(self) -> tuple[int, int, int]:
        """Layers, heads of each, size of a head."""
        every = find_attention(self.setting.backbone)
        heads = heads_of(self.setting.backbone)
        return len(every), heads, every[0].out.inputs // heads

    @cached_property
    def _outs(self) -> list[str]:
        return [attention.out.name for attention in find_attention(self.setting.backbone)]

    @property
    def candidates(self) -> int:
        """Heads that step 1 keeps."""
        return self._count("candidates")

    @property
    def heads(self) -> int:
        """Heads that step 2 tunes."""
        return self._count("heads")

    def _count(self, name: str) -> int:
        layers, heads, _ = self.shape
        wanted = getattr(self.options, name)
        count = max(round(_OF_1024[name] * layers * heads / 1024), 1) if wanted is None else int(wanted)
        if count > layers * heads:
            raise ConfigError(f"{name}: {count} is more than the {layers * heads} heads of this base")
        return count

    def fit(self, others: Sequence[User]) -> None:
        """There is no stage 1: LoFiT is applied to users alone (D.5.3)."""

    def adapt(self, users: Sequence[User]) -> dict[str, str]:
        """Both steps for each user."""
        problems = self.work.adapt_each(users, self._adapt, passes=2 * self.stage.epochs)
        self.prompts.warn()
        return problems

    def _adapt(self, user: User) -> tuple[dict[str, Tensor], dict[str, Any]]:
        rows = self.prompts.maker.history_rows(user)
        setting, device = self.setting, self.setting.backbone.device
        tuning = Tuning(setting.backbone, self.stage, setting.seed, setting.config.step_tokens, setting.listener)
        layers, heads, size = self.shape
        belongs = self.work.context + user.id + history_of(user)

        scales = self._fresh(user, "scales", layers * heads, size).requires_grad_(True)

        def scaled(layer: int, z: Tensor) -> Tensor:
            return z * (1 + scales.view(layers, -1)[layer])

        first = tuning.run(
            {"scales": scales},
            rows,
            user.id,
            changes=lambda: changing_heads(setting.backbone, self._outs, scaled),
            penalty=lambda: self.options.l1 * scales.abs().sum(),
            checkpoint=self.work.checkpoint("scales"),
            context=belongs,
        )
        ranked = scales.detach().norm(dim=1).argsort(descending=True, stable=True)[: self.candidates]
        picked = ranked[: self.heads]

        biases = self._fresh(user, "biases", self.heads, size).requires_grad_(True)
        spread = torch.zeros(layers * heads, self.heads, device=device)
        spread[picked, torch.arange(self.heads, device=device)] = 1

        def moved(layer: int, z: Tensor) -> Tensor:
            return z + (spread @ biases).view(layers, -1)[layer]

        second = tuning.run(
            {"biases": biases},
            rows,
            user.id,
            changes=lambda: changing_heads(setting.backbone, self._outs, moved),
            checkpoint=self.work.checkpoint("biases"),
            context=belongs,
        )
        tensors = {"candidates": ranked.to(torch.int16), "biases": biases.detach().to(torch.bfloat16)}
        return tensors, {"steps": first["steps"] + second["steps"], "losses": second["losses"]}

    def _fresh(self, user: User, step: str, heads: int, size: int) -> Tensor:
        seed = stable_random(self.setting.seed, user.id, step).getrandbits(62)
        drawn = torch.randn(heads, size, generator=torch.Generator().manual_seed(seed)) * _START
        return drawn.to(self.setting.backbone.device)

    def predict(self, asks: Sequence[Ask], done: Done = no_progress) -> list[str]:
        """The base's answers with each row's own biases at its user's heads."""
        tokens = [self.prompts.plain(ask) for ask in asks]
        self.prompts.warn()
        kept = {user: self.work.adapted(one).tensors for user, one in users_of(asks).items()}

        def during(batch: Sequence[int]) -> Changes:
            biases = torch.stack([self._biases(kept[asks[i].user.id]) for i in batch])

            def moved(layer: int, z: Tensor) -> Tensor:
                return z + biases[:, layer, None, :]

            return changing_heads(self.setting.backbone, self._outs, moved)

        return changed_answer(self.setting.backbone, tokens, self.prompts, done, during)

    def _biases(self, tensors: dict[str, Tensor]) -> Tensor:
        """A user's biases at all heads, [layers, heads · size]; zeros where there are none."""
        layers, heads, size = self.shape
        every = torch.zeros(layers * heads, size)
        if tensors:
            every[tensors["candidates"][: self.heads].long()] = tensors["biases"].float()
        return every.view(layers, heads * size).to(self.setting.backbone.device)

    def cost(self) -> Cost:
        """The biases; at rest also the picked heads' numbers."""
        numbers = self.heads * self.shape[2]
        return Cost(personal_parameters=numbers, user_bytes=2 * numbers + 2 * self.candidates)


make = Lofit
