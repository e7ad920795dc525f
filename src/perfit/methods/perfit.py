"""PerFit, and its first stage alone (paper, section 4 and Table 4's @Stage-1)."""

from __future__ import annotations

from collections.abc import Sequence

from perfit.data.schema import User
from perfit.methods.collective_shift import CollectiveShift
from perfit.methods.method import Ask, Cost, Done, Setting, no_progress
from perfit.methods.perfit_config import Options
from perfit.methods.personal_shift import PersonalShifts, shifted_answers
from perfit.methods.prompts import Prompts
from perfit.methods.work import Work
from perfit.shift import parameter_count
from perfit.training.stages import bank_of

__all__ = ["Options", "PerFitMethod", "Stage1", "make", "make_stage_1"]


class PerFitMethod:
    """Both stages: shared shifts from other users, then each user's own second shift."""

    def __init__(self, name: str, label: str, setting: Setting, options: Options):
        self.name, self.label = name, label
        self.config = options.config(setting)
        self.stage1 = CollectiveShift(setting, self.config)
        work = Work(setting.folder, setting, name, options, below=self.stage1.work)
        self.stage2 = PersonalShifts(setting, self.config, work, self.config.strength)

    def fit(self, others: Sequence[User]) -> None:
        """Train the shared shifts."""
        self.stage1.fit(others)

    def adapt(self, users: Sequence[User]) -> dict[str, str]:
        """Train each user's second shift."""
        return self.stage2.adapt(users, self.stage1.shifts())

    def predict(self, asks: Sequence[Ask], done: Done = no_progress) -> list[str]:
        """Answers with the collective and each row's personal shift."""
        return self.stage2.predict(asks, self.stage1.shifts(), (1, 1), done)

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
        self.stage1 = CollectiveShift(setting, self.config)

    def fit(self, others: Sequence[User]) -> None:
        """Train the shared shifts, or take PerFit's."""
        self.stage1.fit(others)

    def adapt(self, users: Sequence[User]) -> dict[str, str]:
        """Nothing is personal."""
        return {}

    def predict(self, asks: Sequence[Ask], done: Done = no_progress) -> list[str]:
        """Answers with both shared shifts."""
        prompts, backbone = Prompts(self.setting, self.config.retrieved), self.setting.backbone
        tokens = [prompts.asked(ask) for ask in asks]
        prompts.warn()
        first, second = (bank_of([shift], backbone.device) for shift in self.stage1.shifts())
        slots = [(1, 1)] * len(tokens)
        banks, limit = (first, second), prompts.limit
        return shifted_answers(backbone, self.config, banks, tokens, slots, limit, done, prompts.within)

    def cost(self) -> Cost:
        """Both shared shifts."""
        layers, width = len(self.config.layers), self.setting.backbone.hidden_size
        ranks = (self.config.collective_rank, self.config.personal_rank)
        return Cost(collective_parameters=sum(parameter_count(layers, rank, width) for rank in ranks))


make, make_stage_1 = PerFitMethod, Stage1
