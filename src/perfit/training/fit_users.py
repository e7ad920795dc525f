"""Stage 2 with what it makes handed over as it is kept: in a run, a comparison or memory, and of one user as of many."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from perfit.backbone.model import Backbone
from perfit.config import PerFitConfig
from perfit.edits.shift import Shift, to_stored
from perfit.errors import StoreError
from perfit.events import Listener, Skipped, nobody
from perfit.store.payload import StoredShift, rounded
from perfit.training.frozen_cache import FrozenHome
from perfit.training.learner import Trained
from perfit.training.record import summary
from perfit.training.rows import TokenRow
from perfit.training.stages import train_personal

_FLUSH_USERS = 64
Keep = Callable[[Sequence[Trained], Mapping[str, StoredShift]], None]
"""Makes users durable who are through: what became of them, and by id the shift of each who has one, strength beside it."""


def fit_users(
    backbone: Backbone,
    rows: Mapping[str, Sequence[TokenRow]],
    shared: tuple[Shift, Shift],
    config: PerFitConfig,
    keep: Keep,
    *,
    checkpoint: Path | None = None,
    context: Mapping[str, Any] = {},
    listener: Listener = nobody,
    home: FrozenHome | None = None,
) -> None:
    """Train each user's own second shift, and hand over those who are through, a few at a time.

    Args:
        backbone: What the shifts stand on.
        rows: Of each user, in a fixed order.
        shared: Both shared shifts.
        config: The settings.
        keep: Called in good time before each checkpoint, which has only users under way in it.
        checkpoint: State of those under way.
        context: What it belongs to; the settings' resources belong to it as well: with others users train in other
            company, and those under way begin again.
        listener: Hears what happens.
        home: Where frozen parts are kept between runs.
    """
    through: list[Trained] = []

    def flush() -> None:
        if now := tuple(through):
            through.clear()
            keep(now, {one.name: _stored(one, config) for one in now if one.problem is None})

    training = train_personal(
        backbone,
        rows,
        shared,
        config,
        checkpoint=checkpoint,
        context={**context, "resources": config.resources()},
        before_save=flush,
        listener=listener,
        home=home,
    )
    try:
        for trained in training:
            through.append(_fit_to_keep(trained, listener))
            if len(through) >= _FLUSH_USERS:
                flush()
    finally:
        flush()  # whoever is through is kept, whatever ends the training


def _fit_to_keep(trained: Trained, listener: Listener) -> Trained:
    """The same, or where no store takes the shift (it grew beyond measure) a user with a problem: the others go on."""
    if trained.problem is not None:
        return trained
    try:
        rounded(to_stored(trained.shifts[0]), "bf16", {})
    except StoreError as error:
        listener(Skipped(trained.name, str(error)))
        return Trained(trained.name, (), trained.losses, trained.steps, str(error))
    return trained


def _stored(trained: Trained, config: PerFitConfig) -> StoredShift:
    strength = config.strength if trained.strength is None else trained.strength
    return StoredShift(to_stored(trained.shifts[0]), summary(trained) | {"strength": strength})
