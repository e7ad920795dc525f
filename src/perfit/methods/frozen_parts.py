"""Frozen parts that methods of one comparison have in common: computed by the first, found by those after it."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Sequence

from perfit.config import PerFitConfig
from perfit.methods.method import Setting
from perfit.training.frozen_cache import FrozenHome
from perfit.training.rows import TokenRow

_MOST = 2**30


def frozen_home(setting: Setting, config: PerFitConfig, learners: Iterable[Sequence[TokenRow]]) -> FrozenHome | None:
    """Where the frozen parts of these rows are kept for other methods; None where nothing is, or where they are too large.

    Only the same learners with the same rows share: others' batches would be others, and in low precision their last
    bits too, so that numbers would hang on which method ran first.
    """
    if setting.frozen is None:
        return None
    told, tokens = hashlib.sha256(repr(config.held_out).encode()), 0
    for rows in learners:
        for row in rows:
            told.update(repr((tuple(row.prompt_ids), tuple(row.answer_ids))).encode())
            tokens += len(row.input_ids)
        told.update(b";")
    backbone = setting.backbone
    # Keys and values as wide as the states: no base has wider ones.
    size = tokens * len(backbone.layers) * 2 * backbone.hidden_size * backbone.dtype.itemsize
    return FrozenHome(setting.frozen / told.hexdigest()[:16], setting.identity.as_dict()) if size <= _MOST else None
