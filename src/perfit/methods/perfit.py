"""PerFit, and its first stage alone (paper, section 4 and Table 4's @Stage-1)."""

from __future__ import annotations

from collections.abc import Sequence

from perfit.data.schema import User
from perfit.edited import Edited
from perfit.methods.answer import edited_answer
from perfit.methods.collective_shift import CollectiveStage
from perfit.methods.method import Ask, Cost, Done, Setting, no_progress
from perfit.methods.perfit_config import Options
from perfit.methods.personal_shift import PersonalStage
from perfit.methods.prompts import Prompts
from perfit.methods.work import Work
from perfit.owners import Owners
from perfit.pseudo_users import COLLECTIVE
from perfit.shift import parameter_count

__all__ = ["Options", "PerFitMethod", "Stage1", "make", "make_stage_1"]


class PerFitMethod:
    """Both stages: shared shifts from other users, then each user's own second shift."""

    def __init__(self, name: str, label: str, setting: Setting, options: Options):
        self.name, self.label = name, label
        self.config = options.config(setting)
        self.stage1 = CollectiveStage(setting, self.config)
        work = Work(setting.folder, setting, name, options, below=self.stage1.work)
        self.stage2 = PersonalStage(setting, self.config, work)

    def fit(self, others: Sequence[User]) -> None:
        """Train the shared shifts."""
        self.stage1.fit(others)

    def adapt(self, users: Sequence[User]) -> dict[str, str]:
        """Train each user's second shift."""
        return self.stage2.adapt(users, self.stage1.shared())

    def predict(self, asks: Sequence[Ask], done: Done = no_progress) -> list[str]:
        """Answers with the collective and each row's personal shift."""
        return self.stage2.predict(asks, self.stage1.shared(), COLLECTIVE, done)

    def cost(self) -> Cost:
        """The first shift is the collective's, the second the user's: the shared second is where users begin."""
        layers, width = len(self.config.layers), self.stage2.setting.backbone.hidden_size
        personal = parameter_count(layers, self.config.personal_rank, width)
        return Cost(parameter_count(layers, self.config.collective_rank, width), personal, 2 * personal)


class Stage1:
    """Both shared shifts and nothing personal."""

    def __init__(self, name: str, label: str, setting: Setting, options: Options):
        self.name, self.label, self.setting = name, label, setting
        self.config = options.config(setting)
        setting.backbone.check_layers(self.config.layers)
        self.stage1 = CollectiveStage(setting, self.config)

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
        return edited_answer(edited, tokens, [COLLECTIVE] * len(tokens), prompts, done)

    def cost(self) -> Cost:
        """Both shared shifts."""
        layers, width = len(self.config.layers), self.setting.backbone.hidden_size
        ranks = (self.config.collective_rank, self.config.personal_rank)
        return Cost(collective_parameters=sum(parameter_count(layers, rank, width) for rank in ranks))


make, make_stage_1 = PerFitMethod, Stage1
