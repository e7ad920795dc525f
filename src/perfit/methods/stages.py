"""How long and how fast rival methods train, where their options do not say."""

from __future__ import annotations

from dataclasses import replace

from perfit.config import TABLE_9, StageConfig, paper_preset
from perfit.methods.method import Setting

_PAPER_EPOCHS = {1: 3, 2: 2}


def stage_of(setting: Setting, stage: int, epochs: int | None, learning_rate: float | None) -> StageConfig:
    """The config's stage 1 or 2 with a method's own epochs and rate.

    Without epochs of its own, a method gets those of PerFit's stage, so that none is favoured; under the paper's
    preset it gets 3 and 2 (D.4), where Table 9 gives PerFit 4 or 6.
    """
    own = setting.config.stage1 if stage == 1 else setting.config.stage2
    if epochs is None:
        paper = setting.task.name in TABLE_9 and setting.config.stage2 == paper_preset(setting.task.name).stage2
        epochs = _PAPER_EPOCHS[stage] if paper else own.epochs
    return replace(own, epochs=epochs, learning_rate=own.learning_rate if learning_rate is None else learning_rate)
