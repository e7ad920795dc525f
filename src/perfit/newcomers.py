"""Personal shifts for users who come after stage 1: any number together, each with the shift that training alone gives."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from threading import Lock
from typing import TYPE_CHECKING

from perfit.data.schema import Dataset, User
from perfit.elsewhere import Elsewhere
from perfit.errors import StoreError
from perfit.events import Listener, Warned
from perfit.fitting import check_leaks
from perfit.model_card import shifts_change
from perfit.pseudo_users import check_ids
from perfit.run import RunDirectory
from perfit.store.payload import StoredShift
from perfit.tombstones import Tombstones
from perfit.training.examples import RowMaker
from perfit.training.fit_users import fit_users
from perfit.training.frozen_cache import FrozenHome
from perfit.training.learner import Trained
from perfit.training.user_rows import rows_of_users

if TYPE_CHECKING:
    from perfit.personalizer import PerFit


def personalized(
    perfit: PerFit,
    users: Sequence[User],
    *,
    asked_for: bool,
    erasing: Lock,
    allow_leaks: bool,
    home: FrozenHome | None,
    listener: Listener,
) -> list[Trained]:
    """Train these users' own shifts and keep them, 64 at a time; whoever is through is kept, whatever ends the call.

    Args:
        perfit: With a collective shift.
        users: Who; nobody else is touched.
        asked_for: The users were named one by one, so that who was erased comes back. Of many, the erased are left out.
        erasing: Held by whoever erases or brings back, so that threads of this process wait for each other.
        allow_leaks: Train although queries stand in the own histories.
        home: Where frozen parts are kept.
        listener: Hears what happens.

    Returns:
        What became of each, in order; the shifts are in it where they were asked for, or lie in no run.

    Raises:
        DataError: A record is unusable, an id comes twice or means a pseudo-user; nothing was trained then.
        LeakError: The audit found a leak; nothing was trained.
        StoreError: There is no collective shift yet.
    """
    check_ids(users)
    owners = perfit.owners
    if owners.collective is None:
        raise StoreError("there is no collective shift to start from; call fit first or load a run")
    folder = None if owners.personal.path is None else owners.personal.path.parent
    if not asked_for:
        users = _living(users, folder, listener)
        if not users:
            return []
    data = Dataset(users=tuple(users))
    check_leaks(data, perfit.task, allow_leaks, listener)
    if folder is not None and home is not None:
        Elsewhere(folder).note("frozen_cache", home.folder)
    maker = RowMaker(perfit.task, perfit.backbone.tokenizer, perfit.config)
    rows = rows_of_users(maker, data.users)
    results: list[Trained] = []

    def keep(through: Sequence[Trained], shifts: Mapping[str, StoredShift]) -> None:
        if folder is not None and shifts:
            stones = Tombstones(folder)
            if asked_for:
                _bring_back(folder, erasing, [name for name in shifts if name in stones])
            else:  # who was erased meanwhile stays so
                through = [_erased(one) if one.name in stones else one for one in through]
                shifts = {name: shift for name, shift in shifts.items() if name not in stones}
        owners.personal.put_stored(shifts.items())
        results.extend(one if asked_for or folder is None else replace(one, shifts=()) for one in through)

    if folder is not None and not set(owners.personal.users()).isdisjoint(rows):
        shifts_change(RunDirectory(folder))
    fit_users(perfit.backbone, rows, owners.collective, perfit.config, keep, listener=listener, home=home)
    for line in maker.warnings():
        listener(Warned(line))
    place = {user.id: number for number, user in enumerate(users)}
    return sorted(results, key=lambda trained: place[trained.name])  # they finish in another order


def _erased(trained: Trained) -> Trained:
    return replace(trained, shifts=(), problem="was erased while training")


def _living(users: Sequence[User], folder: Path | None, listener: Listener) -> Sequence[User]:
    if folder is None:
        return users
    living = Tombstones(folder).living(users)
    if gone := len(users) - len(living):
        text = (
            f"{gone} of the users were erased from {folder} and are left out; perfit users add USER, or personalize, "
            "brings one back"
        )
        listener(Warned(text))
    return living


def _bring_back(folder: Path, erasing: Lock, names: Sequence[str]) -> None:
    if names:
        with erasing, RunDirectory(folder).locked():
            stones = Tombstones(folder)
            for name in names:
                stones.lift(name)
