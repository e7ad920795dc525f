"""PerFit, and its first stage alone (paper, section 4 and Table 4's @Stage-1)."""

from __future__ import annotations

from collections.abc import Sequence

from perfit.data.schema import User
from perfit.edits.shift import parameter_count
from perfit.inference.edited import Edited
from perfit.methods.answer import edited_answer
from perfit.methods.collective_shift import CollectiveStage
from perfit.methods.method import Ask, Cost, Done, Setting, no_progress
from perfit.methods.perfit_config import Options
from perfit.methods.personal_shift import ShiftMethod
from perfit.methods.prompts import Prompts
from perfit.owners import Owners
from perfit.pseudo_users import COLLECTIVE

__all__ = ["Options", "Stage1", "make", "make_stage_1"]


def make(name: str, label: str, setting: Setting, options: Options) -> ShiftMethod:
    """Both stages: shared shifts from other users, then each user's own second shift."""
    config = options.config(setting)
    return ShiftMethod(name, label, setting, options, config, CollectiveStage(setting, config, options.collective))


class Stage1:
    """Both shared shifts and nothing personal."""

    def __init__(self, name: str, label: str, setting: Setting, options: Options):
        self.name, self.label, self.setting = name, label, setting
        self.config = options.config(setting)
        setting.backbone.check_layers(self.config.layers)
        self.stage1 = CollectiveStage(setting, self.config, options.collective)

    def fit(self, others: Sequence[User]) -> None:
        """Train the shared shifts, or take PerFit's."""
        self.stage1.fit(others)

    def adapt(self, users: Sequence[User]) -> dict[str, str]:
        """Nothing is personal."""
        return {}

    def predict(self, asks: Sequence[Ask], done: Done = no_progress) -> list[str]:
        """Answers with both shared shifts."""
        prompts = Prompts(self.setting, self.config.retrieved)
        tokens = [prompts.asked(ask) for ask in asks]
        prompts.warn()
        edited = Edited.by(self.config, self.setting.backbone, Owners(self.stage1.shared()))
        return edited_answer(edited, [COLLECTIVE] * len(tokens), tokens, prompts, done)

    def cost(self) -> Cost:
        """Both shared shifts."""
        layers, width = len(self.config.layers), self.setting.backbone.hidden_size
        ranks = (self.config.collective_rank, self.config.personal_rank)
        return Cost(collective_parameters=sum(parameter_count(layers, rank, width) for rank in ranks))


make_stage_1 = Stage1
