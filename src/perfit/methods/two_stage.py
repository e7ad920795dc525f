"""Methods of two stages, one line each: what everybody shares, or nothing, and what each user has, or nothing.

A half is a shift or a LoRA. Which halves a method has, and with which options, is all that tells these methods apart.

* OPPU (paper, D.3; Tan et al., 2024b). Its released code gathers training data outside its loop over users, so that user i
  is trained on the histories of users 0 .. i. Here each user trains on their own history alone, as its paper says.
* ReFT (C+P) and (P) are the paper's "@Stage-2 (C+P)" and "(P)" of Table 4; they begin where LoReFT begins ("loreft"), and
  PerFit@Stage-2 where PerFit's config says: with the paper's preset it equals ReFT (P).
* LoRA-C below, PerFit's personal shift on top: the hybrids of Table 12 (E.3). "All" changes every layer, "partial" those
  that PerFit edits.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

from perfit.config import PerFitConfig
from perfit.data.schema import User
from perfit.errors import ConfigError
from perfit.methods.adapters import LoraShape
from perfit.methods.collective_lora import CollectiveLora, CollectiveLoraOptions
from perfit.methods.collective_shift import CollectiveStage
from perfit.methods.method import Ask, Cost, Done, Setting, no_progress
from perfit.methods.options import check_counts, check_numbers
from perfit.methods.perfit_config import Options as ShiftOptions
from perfit.methods.personal_lora import PersonalLora, PersonalLoraOptions
from perfit.methods.personal_shift import PersonalShift

Shared = CollectiveStage | CollectiveLora
Own = PersonalShift | PersonalLora
_HOW_FAR = ("strength", "held_out", "strength_prior")


class TwoStage:
    """A method of one half or two.

    Attributes:
        stage1: What everybody shares; None where nothing is.
        stage2: What each user has; None where nothing is personal.
    """

    def __init__(self, name: str, label: str, stage1: Shared | None, stage2: Own | None):
        self.name, self.label, self.stage1, self.stage2 = name, label, stage1, stage2

    def fit(self, others: Sequence[User]) -> None:
        """Train what is shared, or take another method's."""
        if self.stage1 is not None:
            self.stage1.fit(others)

    def adapt(self, users: Sequence[User]) -> dict[str, str]:
        """Train what each user has."""
        return {} if self.stage2 is None else self.stage2.adapt(users)

    def predict(self, asks: Sequence[Ask], done: Done = no_progress) -> list[str]:
        """Answers with each row's own half on top of the shared one."""
        half = self.stage2 or self.stage1
        assert half is not None
        return half.predict(asks, done)

    def cost(self) -> Cost:
        """Both halves; a shared second shift is where users begin, and counts where it answers itself."""
        shared = 0 if self.stage1 is None else self.stage1.parameters
        if self.stage2 is None:
            return Cost(shared if self.stage1 is None else self.stage1.parameters_alone)
        return Cost(shared, self.stage2.parameters, 2 * self.stage2.parameters)


@dataclass(frozen=True)
class Pair:
    """How a method is made of its halves.

    Attributes:
        Options: The dataclass of its options.
        below: Makes what is shared from setting and options.
        own: Makes what is the user's, from the method's name, setting, options and what it stands on.
    """

    Options: type
    below: Callable[[Setting, Any], Shared] | None
    own: Callable[[str, Setting, Any, Any], Own] | None

    def __call__(self, name: str, label: str, setting: Setting, options: Any) -> TwoStage:
        """The method.

        Raises:
            ConfigError: An option speaks of a half that the method does not have, or a layer is not the base's.
        """
        given = [one for one in _HOW_FAR if getattr(options, one, None) is not None]
        if given and (self.below is not _shift_below or self.own is None):
            why = "nobody does here" if self.below is _shift_below else "this method has none"
            raise ConfigError(
                f"{name}: {given[0]} says how far a user goes from a shared shift, and {why}; leave it out"
            )
        if getattr(options, "collective", None) is not None and self.below is not _shift_below:
            raise ConfigError(f"{name}: collective gives a stage 1, and this method has none; leave it out")
        below = None if self.below is None else self.below(setting, options)
        return TwoStage(name, label, below, None if self.own is None else self.own(name, setting, options, below))


@dataclass(frozen=True)
class LoraCOptions:
    """Options of LoRA-C.

    Attributes:
        rank, alpha, dropout: Of the LoRA on q, k and v.
        epochs: Of stage 1; None: the config's, or 3 under the paper's preset (D.4).
        learning_rate: Peak rate; None: that of the config's stage 1.
    """

    rank: int = 8
    alpha: float = 8.0
    dropout: float = 0.05
    epochs: int | None = None
    learning_rate: float | None = None

    def __post_init__(self) -> None:
        check_counts(self, "epochs")
        check_numbers(self, "learning_rate")


@dataclass(frozen=True)
class LoraPOptions:
    """Options of LoRA-P.

    Attributes:
        rank, alpha, dropout: Of each LoRA on q and v.
        epochs: Of stage 2; None: the config's, or 2 under the paper's preset (D.4).
        learning_rate: Peak rate; None: that of the config's stage 2.
        retrieved: Past items before each prompt (OPPU's k); while training, only items before the one asked.
    """

    rank: int = 8
    alpha: float = 8.0
    dropout: float = 0.05
    epochs: int | None = None
    learning_rate: float | None = None
    retrieved: int = 0

    def __post_init__(self) -> None:
        check_counts(self, "epochs")
        check_counts(self, "retrieved", least=0)
        check_numbers(self, "learning_rate")


@dataclass(frozen=True)
class OppuOptions:
    """Options of OPPU.

    Attributes:
        rank, alpha, dropout: Of both LoRAs.
        collective_epochs, personal_epochs: None: those of the config's stages, or 3 and 2 under the paper's preset.
        collective_learning_rate, personal_learning_rate: Peak rates; None: those of the config's stages.
        retrieved: Past items before each prompt of stage 2; while training, only items before the one asked.
    """

    rank: int = 8
    alpha: float = 8.0
    dropout: float = 0.05
    collective_epochs: int | None = None
    personal_epochs: int | None = None
    collective_learning_rate: float | None = None
    personal_learning_rate: float | None = None
    retrieved: int = 0

    def __post_init__(self) -> None:
        check_counts(self, "collective_epochs", "personal_epochs")
        check_counts(self, "retrieved", least=0)
        check_numbers(self, "collective_learning_rate", "personal_learning_rate")


@dataclass(frozen=True)
class HybridOptions:
    """Options of the hybrids.

    Attributes:
        partial: The LoRA changes only the edited layers.
        rank, alpha, dropout: Of the collective LoRA on q, k and v.
        collective_epochs, collective_learning_rate: Of the LoRA; None as LoRA-C's.
        layers, positions, personal_rank, personal_epochs, personal_learning_rate: Of the shifts; None as PerFit's.
    """

    partial: bool = False
    rank: int = 8
    alpha: float = 8.0
    dropout: float = 0.05
    collective_epochs: int | None = None
    collective_learning_rate: float | None = None
    layers: tuple[int, ...] | None = None
    positions: str | None = None
    personal_rank: int | None = None
    personal_epochs: int | None = None
    personal_learning_rate: float | None = None

    def __post_init__(self) -> None:
        check_counts(self, "collective_epochs")
        check_numbers(self, "collective_learning_rate")

    def config(self, setting: Setting) -> PerFitConfig:
        """That of the shifts."""
        names = ("layers", "positions", "personal_rank", "personal_epochs", "personal_learning_rate")
        return ShiftOptions(**{name: getattr(self, name) for name in names}).config(setting)


def _training(options: Any, stage: str) -> tuple[int | None, float | None]:
    """Epochs and rate of one stage, under the stage's name where there are two."""
    plain = getattr(options, "epochs", None), getattr(options, "learning_rate", None)
    return getattr(options, f"{stage}_epochs", plain[0]), getattr(options, f"{stage}_learning_rate", plain[1])


def _lora_below(setting: Setting, options: Any) -> CollectiveLora:
    shape = LoraShape(options.rank, options.alpha, options.dropout)
    layers = options.config(setting).layers if getattr(options, "partial", False) else None
    return CollectiveLora(setting, CollectiveLoraOptions(shape, *_training(options, "collective"), layers))


def _lora(name: str, setting: Setting, options: Any, below: CollectiveLora | None) -> PersonalLora:
    shape = LoraShape(options.rank, options.alpha, options.dropout)
    own = PersonalLoraOptions(shape, *_training(options, "personal"), options.retrieved)
    return PersonalLora(setting, name, own, below)


def _shift_below(setting: Setting, options: ShiftOptions) -> CollectiveStage:
    return CollectiveStage(setting, options.config(setting), options.collective)


def _shift(name: str, setting: Setting, options: Any, below: Shared | None) -> PersonalShift:
    return PersonalShift(setting, name, options, options.config(setting), below)


def _reft_p(name: str, setting: Setting, options: ShiftOptions, below: None) -> PersonalShift:
    return PersonalShift(setting, name, options, _loreft(options, setting), below)


def _reft_cp(name: str, setting: Setting, options: ShiftOptions, below: None) -> PersonalShift:
    config = _loreft(options, setting)
    both = replace(config, personal_rank=config.collective_rank + config.personal_rank)
    return PersonalShift(setting, name, options, both, below)


def _loreft(options: ShiftOptions, setting: Setting) -> PerFitConfig:
    config = options.config(setting)
    return config if options.init is not None else replace(config, init="loreft")


lora_c = Pair(LoraCOptions, _lora_below, None)
lora_p = Pair(LoraPOptions, None, _lora)
oppu = Pair(OppuOptions, _lora_below, _lora)
hybrid = Pair(HybridOptions, _lora_below, _shift)
reft_p = Pair(ShiftOptions, None, _reft_p)
reft_cp = Pair(ShiftOptions, None, _reft_cp)
perfit_stage_1 = Pair(ShiftOptions, _shift_below, None)
perfit_stage_2 = Pair(ShiftOptions, None, _shift)
perfit = Pair(ShiftOptions, _shift_below, _shift)
