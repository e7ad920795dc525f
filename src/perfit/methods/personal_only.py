"""One shift per user from scratch, without a stage 1: ReFT (P), ReFT (C+P) and PerFit@Stage-2 (paper, 5.4, Table 4).

The paper's Table 4 calls ReFT (C+P) and (P) "@Stage-2 (C+P)" and "@Stage-2 (P)". Here ReFT begins where LoReFT begins
("loreft"), and PerFit@Stage-2 where PerFit's config says: with the paper's preset it equals ReFT (P).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from perfit.config import PerFitConfig
from perfit.data.schema import User
from perfit.methods.method import Ask, Cost, Done, Setting, no_progress
from perfit.methods.perfit_config import Options
from perfit.methods.personal_shift import PersonalStage
from perfit.methods.work import Work
from perfit.pseudo_users import BASE
from perfit.shift import parameter_count

__all__ = ["Options", "PersonalOnly", "make", "make_reft_cp", "make_reft_p"]


class PersonalOnly:
    """Each user's shift, trained on the bare base."""

    def __init__(self, name: str, label: str, setting: Setting, options: Options, config: PerFitConfig):
        self.name, self.label = name, label
        self.config = replace(config, strength=1.0)  # there is no shared second shift to go back to
        self.stage2 = PersonalStage(setting, self.config, Work(setting.folder, setting, name, options))

    def fit(self, others: Sequence[User]) -> None:
        """There is no stage 1."""

    def adapt(self, users: Sequence[User]) -> dict[str, str]:
        """Train each user's shift."""
        return self.stage2.adapt(users, self.stage2.alone())

    def predict(self, asks: Sequence[Ask], done: Done = no_progress) -> list[str]:
        """Answers with each row's own shift."""
        return self.stage2.predict(asks, self.stage2.alone(), BASE, done)

    def cost(self) -> Cost:
        """The user's shift."""
        width = self.stage2.setting.backbone.hidden_size
        numbers = parameter_count(len(self.config.layers), self.config.personal_rank, width)
        return Cost(personal_parameters=numbers, user_bytes=2 * numbers)


def make(name: str, label: str, setting: Setting, options: Options) -> PersonalOnly:
    """PerFit@Stage-2: PerFit's personal stage alone."""
    return PersonalOnly(name, label, setting, options, options.config(setting))


def make_reft_p(name: str, label: str, setting: Setting, options: Options) -> PersonalOnly:
    """ReFT (P): LoReFT of the personal rank."""
    return PersonalOnly(name, label, setting, options, _loreft(options, setting))


def make_reft_cp(name: str, label: str, setting: Setting, options: Options) -> PersonalOnly:
    """ReFT (C+P): LoReFT whose rank is the sum of both of PerFit's."""
    config = _loreft(options, setting)
    both = config.collective_rank + config.personal_rank
    return PersonalOnly(name, label, setting, options, replace(config, personal_rank=both))


def _loreft(options: Options, setting: Setting) -> PerFitConfig:
    config = options.config(setting)
    return config if options.init is not None else replace(config, init="loreft")
