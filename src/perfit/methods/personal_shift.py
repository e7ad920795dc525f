"""The methods that give each user a shift: trained, kept and answered with as a run does, in a comparison's folder."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import torch

from perfit.backbone.model import Backbone
from perfit.config import PerFitConfig
from perfit.data.schema import User
from perfit.durable.records import read_record, write_record
from perfit.edits.shift import new_shift, parameter_count
from perfit.errors import DataError
from perfit.inference.edited import Edited
from perfit.methods.answer import edited_answer, users_of
from perfit.methods.collective_lora import CollectiveLora
from perfit.methods.collective_shift import CollectiveStage
from perfit.methods.frozen_parts import frozen_home
from perfit.methods.method import Ask, Done, Setting
from perfit.methods.prompts import Prompts
from perfit.methods.work import Work
from perfit.owners import Owners
from perfit.pseudo_users import BASE, COLLECTIVE, check_ids
from perfit.store.collective_file import Collective
from perfit.store.payload import StoredShift, rounded
from perfit.store.personal import PersonalShifts
from perfit.training.fit_users import fit_users
from perfit.training.learner import Trained
from perfit.training.record import summary
from perfit.training.stages import fresh_shifts
from perfit.training.user_rows import rows_of_users


class PersonalShift:
    """A shift for each user, on what other users' records made: both shared shifts, a LoRA, or nothing.

    Args:
        setting: The setting.
        what: Whose work it is.
        options: The method's own, which decide whose work this is.
        config: Layers, positions, ranks, stage 2, and the strength that is kept with each user's shift.
        stage1: What the shifts stand on.
    """

    def __init__(
        self,
        setting: Setting,
        what: str,
        options: Any,
        config: PerFitConfig,
        stage1: CollectiveStage | CollectiveLora | None,
    ):
        setting.backbone.check_layers(config.layers)
        self.setting, self.stage1 = setting, stage1
        # Without a shared second shift there is nothing to go back to.
        self.config = config if isinstance(stage1, CollectiveStage) else replace(config, strength=1.0, held_out=0.0)
        self.work = Work(setting.folder, setting, what, options, below=None if stage1 is None else stage1.work)
        self.prompts = Prompts(setting, config.retrieved)

    def _below(self) -> tuple[Backbone, Collective]:
        """What the shifts stand on; without shared shifts the identity and a fresh one of the personal rank."""
        backbone, width = self.setting.backbone, self.setting.backbone.hidden_size
        if isinstance(self.stage1, CollectiveStage):
            return backbone, self.stage1.shared()
        nothing = new_shift((len(self.config.layers), 1, width), generator=torch.Generator().manual_seed(0))
        alone = Collective.of_shifts((nothing, fresh_shifts(self.config, width)[1]))
        return backbone if self.stage1 is None else self.stage1.at_work(), alone

    def adapt(self, users: Sequence[User]) -> dict[str, str]:
        """Train the shift of each user that is not kept yet.

        All of them train together; a killed call goes on from its checkpoint, or without those that were done.
        """
        check_ids(users)
        below = self._below()
        with self.work.locked():
            waiting = [user for user in users if self.work.user(user) is None]
            if waiting:
                self._train(self._as_begun(users, waiting), *below)
            problems = {user.id: self.work.adapted(user).notes.get("problem") for user in users}
        self.prompts.warn()
        return {user: problem for user, problem in problems.items() if problem is not None}

    def _as_begun(self, users: Sequence[User], waiting: Sequence[User]) -> list[User]:
        """The users that train: those of the checkpoint that a killed call left, if they are asked for, or the waiting."""
        order = self.work.path / "checkpoints" / "users.json"
        if order.is_file() and self.work.checkpoint("personal").is_file():
            kept = read_record(order, missing="not found", mend="delete it to train anew")
            begun = [str(user) for user in kept.get("users") or ()]
            by_id = {user.id: user for user in users}
            if set(begun) <= set(by_id) and {user.id for user in waiting} <= set(begun):
                return [by_id[user] for user in begun]
        self.work.drop_checkpoints()
        write_record(order, {"users": [user.id for user in waiting]})
        return list(waiting)

    def _train(self, users: Sequence[User], backbone: Backbone, shared: Collective) -> None:
        by_id = {user.id: user for user in users}

        def keep(through: Sequence[Trained], shifts: Mapping[str, StoredShift]) -> None:
            for one in through:
                own = shifts.get(one.name, StoredShift({}, summary(one)))
                tensors = rounded(own.tensors, "bf16", {}) if own.tensors else {}
                self.work.put_user(by_id[one.name], tensors, own.meta)

        def unusable(user: User, error: DataError) -> None:
            keep([Trained(user.id, (), (), 0, str(error))], {})

        rows = rows_of_users(self.prompts.maker, users, unusable)
        own = backbone is self.setting.backbone  # on a LoRA the same rows have other frozen parts
        fit_users(
            backbone,
            rows,
            shared.shifts,
            self.config,
            keep,
            checkpoint=self.work.checkpoint("personal"),
            context={"work": self.work.context, "users": self.work.origins(users)},
            listener=self.setting.listener,
            home=frozen_home(self.setting, self.config, rows.values()) if own else None,
        )
        self.work.drop_checkpoints()

    def edited(self, asks: Sequence[Ask]) -> tuple[Edited, list[str]]:
        """The base with each asking user's shift, as it is kept with its strength, and whose each row is.

        Who has none is the collective shift, or where there is none, the base.
        """
        backbone, shared = self._below()
        without = COLLECTIVE if isinstance(self.stage1, CollectiveStage) else BASE
        personal, owner = PersonalShifts(), {}
        for user in users_of(asks).values():
            kept = self.work.adapted(user)
            owner[user.id] = user.id if kept.tensors else without
            if kept.tensors:
                # Work of before says nothing of strengths: all had the config's.
                meta = {"strength": self.config.strength, **kept.notes}
                personal.put_stored([(user.id, StoredShift(kept.tensors, meta))])
        edited = Edited.by(self.config, backbone, Owners(shared, personal))
        return edited, [owner[ask.user.id] for ask in asks]

    def predict(self, asks: Sequence[Ask], done: Done) -> list[str]:
        """Answers with each row's own shift."""
        tokens = [self.prompts.asked(ask) for ask in asks]
        self.prompts.warn()
        return edited_answer(*self.edited(asks), tokens, self.prompts, done)

    @property
    def parameters(self) -> int:
        """Trained numbers of one user."""
        width = self.setting.backbone.hidden_size
        return parameter_count(len(self.config.layers), self.config.personal_rank, width)
