"""PerFit's stage 1: both shared shifts, trained once on other users and shared by the methods that stand on them."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence

from safetensors.torch import load
from torch import Tensor

from perfit.belonging import Belonging
from perfit.config import PerFitConfig
from perfit.data.schema import User
from perfit.edits.shift import parameter_count
from perfit.fitting import collective_of
from perfit.inference.edited import Edited
from perfit.methods.answer import edited_answer
from perfit.methods.method import Ask, Done, Setting
from perfit.methods.prompts import Prompts
from perfit.methods.work import Work
from perfit.owners import Owners
from perfit.pseudo_users import COLLECTIVE
from perfit.run import RunDirectory
from perfit.store.collective_file import Collective, collective_shifts, collective_tensors
from perfit.training.stages import train_collective
from perfit.training.user_rows import pool_rows


class CollectiveStage:
    """Trains it once, or takes a run's where the setting names one, and reads it back.

    Args:
        setting: The setting.
        config: Layers, positions, ranks and stages; its stage 2 decides nothing here.

    Raises:
        StoreError: The named run is unfinished, of another base, or edits elsewhere or with other ranks.
    """

    def __init__(self, setting: Setting, config: PerFitConfig):
        setting.backbone.check_layers(config.layers)
        self.setting, self.config = setting, config
        personal = ("stage2", "strength", "held_out", "strength_prior")
        decides = {name: value for name, value in config.deciding().items() if name not in personal}
        decides["format"] = 2  # R, D and b as runs keep them; W in place of D before
        self.given = None
        if setting.collective is not None:
            belonging = Belonging(setting.backbone, setting.identity, setting.task, config)
            self.given = collective_of(RunDirectory(setting.collective), belonging)
            decides["given"] = hashlib.sha256(self.given.file).hexdigest()
        self.work = Work.shared(setting, "collective-shift", decides)

    @property
    def parameters(self) -> int:
        """Trained numbers of the first shift, the one that acts beside users' own."""
        width = self.setting.backbone.hidden_size
        return parameter_count(len(self.config.layers), self.config.collective_rank, width)

    @property
    def parameters_alone(self) -> int:
        """Trained numbers of both shifts, which act where nothing is personal."""
        ranks = (self.config.collective_rank, self.config.personal_rank)
        width = self.setting.backbone.hidden_size
        return sum(parameter_count(len(self.config.layers), rank, width) for rank in ranks)

    def fit(self, others: Sequence[User]) -> None:
        """Train on other users' rows, or find it trained; see ``Method.fit``."""
        setting, prompts = self.setting, Prompts(self.setting, self.config.retrieved)

        def train(pool: str) -> dict[str, Tensor]:
            if self.given is not None:
                given: dict[str, Tensor] = load(self.given.file)
                return given
            rows = pool_rows(prompts.maker, others)
            shifts = train_collective(
                setting.backbone,
                rows,
                self.config,
                checkpoint=self.work.checkpoint("collective"),
                context={"work": self.work.context, "pool": pool},
                listener=setting.listener,
            )
            prompts.warn()
            return collective_tensors(shifts)

        self.work.fit_once(others, train)

    def shared(self) -> Collective:
        """Both shared shifts.

        Raises:
            StoreError: ``fit`` has not been called.
        """
        return Collective.of_shifts(collective_shifts(self.work.collective().tensors))

    def predict(self, asks: Sequence[Ask], done: Done) -> list[str]:
        """Answers with both shared shifts."""
        prompts = Prompts(self.setting, self.config.retrieved)
        tokens = [prompts.asked(ask) for ask in asks]
        prompts.warn()
        edited = Edited.by(self.config, self.setting.backbone, Owners(self.shared()))
        return edited_answer(edited, [COLLECTIVE] * len(tokens), tokens, prompts, done)
