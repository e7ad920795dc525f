"""One whole training: read all records, both stages, everything kept so that a killed run goes on."""

from __future__ import annotations

import hashlib
import time
from collections.abc import Mapping, Sequence
from contextlib import nullcontext
from dataclasses import dataclass, replace
from typing import Any

from perfit.belonging import Belonging, differences, parts_of
from perfit.data.audit import audit
from perfit.data.pool import stage1_pool
from perfit.data.schema import Dataset
from perfit.elsewhere import Elsewhere
from perfit.errors import DataError, StoreError
from perfit.events import Listener, PhaseEnded, Warned
from perfit.model_card import shifts_change, write_first_card
from perfit.run import RunDirectory, context_of
from perfit.store.collective_file import Collective, encode_collective
from perfit.store.payload import StoredShift
from perfit.store.personal import PersonalShifts
from perfit.tasks.leaks import audit_arguments
from perfit.tasks.task import Task
from perfit.tombstones import Tombstones
from perfit.training.examples import RowMaker
from perfit.training.fit_users import fit_users
from perfit.training.frozen_cache import FrozenHome
from perfit.training.learner import Trained
from perfit.training.once import once
from perfit.training.record import TrainingRecord
from perfit.training.rows import TokenRow
from perfit.training.stages import train_collective
from perfit.training.user_rows import pool_rows, rows_of_users


@dataclass(frozen=True)
class Fitted:
    """What a training made."""

    collective: Collective
    personal: PersonalShifts
    results: list[Trained]


def check_leaks(data: Dataset, task: Task, allow_leaks: bool, listener: Listener) -> None:
    """Audit the data; leaks stop, or with ``allow_leaks`` are warnings.

    Raises:
        LeakError: There is a leak and ``allow_leaks`` is False.
    """
    report = audit(data, **audit_arguments(task))
    if not allow_leaks:
        report.raise_if_leaky()
    if report.leaks:
        for line in report.lines():
            listener(Warned(line))


def collective_of(source: RunDirectory, belonging: Belonging) -> Collective:
    """The collective shift of another run, for a training of this base; the run's task and data may be others.

    Raises:
        StoreError: It is damaged or unfinished, of another base, or edits elsewhere or with other ranks.
    """
    config, _, identity = parts_of(source)
    if phrases := identity.differences(belonging.identity):
        raise StoreError(f"{source.path}: its collective shift is of another base ({'; '.join(phrases)})")
    for name in ("layers", "positions", "collective_rank", "personal_rank"):
        theirs, mine = getattr(config, name), getattr(belonging.config, name)
        if theirs != mine:
            raise StoreError(
                f"{source.path}: its collective shift has {name} {theirs}, not {mine}; set {name} to the same"
            )
    return source.collective()


def fit(
    belonging: Belonging,
    data: Dataset,
    run: RunDirectory | None,
    listener: Listener,
    home: FrozenHome | None = None,
    ready: Collective | None = None,
) -> Fitted:
    """Train both stages, or go on where the same training stopped.

    Args:
        belonging: Base, task, settings.
        data: The users, and who else trains stage 1.
        run: Where everything is kept.
        listener: Hears what happens.
        home: Where frozen parts are kept between runs.
        ready: A collective shift that takes the place of stage 1.

    Raises:
        DataError: A record is unusable, or stage 1 has nothing to train on.
        StoreError: The run directory holds another run, or another process trains in it.
    """
    maker = RowMaker(belonging.task, belonging.backbone.tokenizer, belonging.config)
    if ready is not None:
        belonging = replace(belonging, given=hashlib.sha256(ready.file).hexdigest())
    context: dict[str, Any] = {"run": belonging.context(data)}
    given, data = data, data if run is None else _living(data, run, context, listener)
    # All records are read before anything is written: a run of unusable data would only be in the way.
    done = ready is not None or (run is not None and run.has_collective())
    shared = [] if done else pool_rows(maker, stage1_pool(data, maker.config.stage1_users))
    own = rows_of_users(maker, data.users)
    with run.locked() if run is not None else nullcontext():
        if run is not None:
            _claim(belonging, run, given)
            if len(Tombstones(run.path)) != context.get("tombstones", 0):
                raise StoreError(f"{run.path}: a user was erased from it just now; repeat the command")
            if home is not None:
                Elsewhere(run.path).note("frozen_cache", home.folder)
        began = time.perf_counter()
        if not data.others and shared:
            listener(Warned("no other users: stage 1 trains on the histories of the users themselves"))
        if ready is not None and run is not None and not run.has_collective():
            run.save_collective(ready.file)
        collective = ready or _stage_1(belonging, shared, run, context, listener, home)
        personal = PersonalShifts()
        if run is not None:
            new = not TrainingRecord(run).exists()
            spec = belonging.store_spec(collective.file)
            personal = PersonalShifts.open(run.store_path, belonging.identity.as_dict(), spec, new=new)
        listener(PhaseEnded("stage 1", time.perf_counter() - began))
        began = time.perf_counter()
        results = _stage_2(belonging, own, collective, personal, run, context, listener, home)
        listener(PhaseEnded("stage 2", time.perf_counter() - began))
        if run is not None:
            write_first_card(run)
    for line in maker.warnings():
        listener(Warned(line))
    return Fitted(collective, personal, results)


def _living(data: Dataset, run: RunDirectory, context: dict[str, Any], listener: Listener) -> Dataset:
    """The data without those who were erased from the run; who they are becomes part of what checkpoints belong to.

    Raises:
        DataError: Nobody is left, or none of the other users.
    """
    stones = Tombstones(run.path)
    gone = stones.marks((*data.users, *data.others))
    if len(stones):
        context |= {"tombstones": len(stones), "erased": gone}
    if not gone:
        return data
    living = replace(data, users=stones.living(data.users), others=stones.living(data.others))
    if not living.users or (data.others and not living.others):
        raise DataError(
            f"all {'users' if not living.users else 'other users'} of the data were erased from {run.path}",
            remedy="train a new run, or bring users back with perfit users add",
        )
    text = f"{len(gone)} of the data's users were erased from {run.path} and are left out; perfit users add brings one back"
    listener(Warned(text))
    return living


def _claim(belonging: Belonging, run: RunDirectory, data: Dataset) -> None:
    """Make the run directory this training's own, or see that it is."""
    manifest = belonging.manifest(data)
    theirs = run.manifest() if run.exists() else None
    if theirs is not None and theirs["context"] == context_of(manifest):
        if any(theirs["config"].get(name) != value for name, value in belonging.config.resources().items()):
            run.use_settings(belonging.config.as_dict())
        return
    # A run that never got going (too little memory, say) loses nothing, and would only be in the way.
    if run.begun():
        what = "; ".join(differences(theirs, manifest)) if theirs is not None else "no manifest"
        raise StoreError(
            f"{run.path}: holds another run, with {what}; choose another folder to train anew, or repeat the command "
            "that began it to resume"
        )
    run.create(manifest)


def _stage_1(
    belonging: Belonging,
    rows: Sequence[TokenRow],
    run: RunDirectory | None,
    context: dict[str, Any],
    listener: Listener,
    home: FrozenHome | None,
) -> Collective:
    def trained() -> bytes:
        return encode_collective(
            train_collective(
                belonging.backbone,
                rows,
                belonging.config,
                checkpoint=run.checkpoint_path(1) if run else None,
                context=context,
                listener=listener,
                home=home,
            )
        )

    if run is None:
        return Collective.of_file(trained())
    place = run
    kept, _ = once(
        lambda: place.collective() if place.has_collective() else None,
        lambda: place.save_collective(trained()),
        lambda: place.drop_checkpoint(1),
    )
    return kept


def _stage_2(
    belonging: Belonging,
    rows: Mapping[str, Sequence[TokenRow]],
    collective: Collective,
    personal: PersonalShifts,
    run: RunDirectory | None,
    context: dict[str, Any],
    listener: Listener,
    home: FrozenHome | None,
) -> list[Trained]:
    record, asked = TrainingRecord(run) if run is not None else None, list(rows)
    if run is not None and record is not None:
        if record.complete:
            run.drop_checkpoint(2)
            return record.results(rows, personal.users())
        record.begin(belonging.config.resources())
        # With other resources those under way begin again, those that are through stay.
        rows = {user: own for user, own in rows.items() if user not in record.before}
    finished: list[Trained] = []

    def keep(through: Sequence[Trained], shifts: Mapping[str, StoredShift]) -> None:
        """Shifts first, then the record of what happened."""
        personal.put_stored(shifts.items())
        if record is not None:
            record.add(through)
        else:
            finished.extend(through)

    if rows or record is None:
        if run is not None:
            shifts_change(run)
        fit_users(
            belonging.backbone,
            rows,
            collective.shifts,
            belonging.config,
            keep,
            checkpoint=run.checkpoint_path(2) if run else None,
            context=context,
            listener=listener,
            home=home,
        )
    if run is None or record is None:
        return finished
    record.add([], complete=True)
    run.drop_checkpoint(2)
    return record.results(asked, personal.users())
