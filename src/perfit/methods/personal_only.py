"""One shift per user from scratch, without a stage 1: ReFT (P), ReFT (C+P) and PerFit@Stage-2 (paper, 5.4, Table 4).

The paper's Table 4 calls ReFT (C+P) and (P) "@Stage-2 (C+P)" and "@Stage-2 (P)". Here ReFT begins where LoReFT begins
("loreft"), and PerFit@Stage-2 where PerFit's config says: with the paper's preset it equals ReFT (P).
"""

from __future__ import annotations

from dataclasses import replace

from perfit.config import PerFitConfig
from perfit.methods.method import Setting
from perfit.methods.perfit_config import Options
from perfit.methods.personal_shift import ShiftMethod

__all__ = ["Options", "make", "make_reft_cp", "make_reft_p"]


def make(name: str, label: str, setting: Setting, options: Options) -> ShiftMethod:
    """PerFit@Stage-2: PerFit's personal stage alone."""
    return ShiftMethod(name, label, setting, options, options.config(setting), None)


def make_reft_p(name: str, label: str, setting: Setting, options: Options) -> ShiftMethod:
    """ReFT (P): LoReFT of the personal rank."""
    return ShiftMethod(name, label, setting, options, _loreft(options, setting), None)


def make_reft_cp(name: str, label: str, setting: Setting, options: Options) -> ShiftMethod:
    """ReFT (C+P): LoReFT whose rank is the sum of both of PerFit's."""
    config = _loreft(options, setting)
    both = replace(config, personal_rank=config.collective_rank + config.personal_rank)
    return ShiftMethod(name, label, setting, options, both, None)


def _loreft(options: Options, setting: Setting) -> PerFitConfig:
    config = options.config(setting)
    return config if options.init is not None else replace(config, init="loreft")
