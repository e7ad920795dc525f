"""PerFit's stage 2 for methods: each user's own second shift, trained by perfit's own loop, all users together."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch

from perfit.backbone.model import Backbone
from perfit.config import PerFitConfig
from perfit.data.schema import User
from perfit.durable.records import read_record, write_record
from perfit.edited import Edited
from perfit.errors import DataError
from perfit.methods.answer import edited_answer, users_of
from perfit.methods.method import Ask, Done, Setting
from perfit.methods.prompts import Prompts
from perfit.methods.work import Work
from perfit.owners import Owners
from perfit.pseudo_users import check_ids
from perfit.shift import new_shift
from perfit.store.collective_file import Collective
from perfit.store.payload import StoredShift, rounded
from perfit.store.personal import PersonalShifts
from perfit.training.fit_users import fit_users
from perfit.training.loop import Trained
from perfit.training.record import summary
from perfit.training.stages import fresh_shifts
from perfit.training.user_rows import rows_of_users


class PersonalStage:
    """Trains, keeps and uses the users' shifts.

    Args:
        setting: The setting.
        config: Layers, positions, ranks, stage 2, and the strength that is kept with each user's shift.
        work: Where they are kept.
    """

    def __init__(self, setting: Setting, config: PerFitConfig, work: Work):
        setting.backbone.check_layers(config.layers)
        self.setting, self.config, self.work = setting, config, work
        self.prompts = Prompts(setting, config.retrieved)

    def alone(self) -> Collective:
        """What a user starts from without a stage 1: the identity, and a fresh shift of the personal rank."""
        layers, width = len(self.config.layers), self.setting.backbone.hidden_size
        nothing = new_shift((layers, 1, width), generator=torch.Generator().manual_seed(0))
        return Collective.of_shifts((nothing, fresh_shifts(self.config, width)[1]))

    def adapt(self, users: Sequence[User], shared: Collective, below: Backbone | None = None) -> dict[str, str]:
        """Train the second shift of each user that is not kept yet, on top of the first and from the second of ``shared``.

        All of them train together; a killed call goes on from its checkpoint, or without those that were done.

        Args:
            users: The users.
            shared: Both shared shifts.
            below: What they stand on; the setting's base when not given.
        """
        check_ids(users)
        with self.work.locked():
            waiting = [user for user in users if self.work.user(user) is None]
            if waiting:
                self._train(self._as_begun(users, waiting), shared, below or self.setting.backbone)
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

    def _train(self, users: Sequence[User], shared: Collective, below: Backbone) -> None:
        by_id = {user.id: user for user in users}

        def keep(through: Sequence[Trained], shifts: Mapping[str, StoredShift]) -> None:
            for one in through:
                own = shifts.get(one.name, StoredShift({}, summary(one)))
                tensors = rounded(own.tensors, "bf16", {}) if own.tensors else {}
                self.work.put_user(by_id[one.name], tensors, own.meta)

        def unusable(user: User, error: DataError) -> None:
            keep([Trained(user.id, (), (), 0, str(error))], {})

        fit_users(
            below,
            rows_of_users(self.prompts.maker, users, unusable),
            shared.shifts,
            self.config,
            keep,
            checkpoint=self.work.checkpoint("personal"),
            context={"work": self.work.context, "users": self.work.origins(users)},
            emit=self.setting.emit,
        )
        self.work.drop_checkpoints()

    def edited(
        self, asks: Sequence[Ask], shared: Collective, without: str, below: Backbone | None = None
    ) -> tuple[Edited, list[str]]:
        """The base with the first of ``shared`` and each row's own second shift, as kept with its strength, and whose each row is.

        Args:
            asks: The asks.
            shared, below: As given to ``adapt``.
            without: The pseudo-user who stands in for users that have no shift.
        """
        personal, owner = PersonalShifts(), {}
        for user in users_of(asks).values():
            kept = self.work.adapted(user)
            owner[user.id] = user.id if kept.tensors else without
            if kept.tensors:
                # Work of before says nothing of strengths: all had the config's.
                meta = {"strength": self.config.strength, **kept.notes}
                personal.put_stored([(user.id, StoredShift(kept.tensors, meta))])
        edited = Edited.by(self.config, below or self.setting.backbone, Owners(shared, personal))
        return edited, [owner[ask.user.id] for ask in asks]

    def predict(
        self, asks: Sequence[Ask], shared: Collective, without: str, done: Done, below: Backbone | None = None
    ) -> list[str]:
        """Answers with the first of ``shared`` and each row's own second shift; the arguments are those of ``edited``."""
        tokens = [self.prompts.asked(ask) for ask in asks]
        self.prompts.warn()
        edited, users = self.edited(asks, shared, without, below)
        return edited_answer(edited, tokens, users, self.prompts, done)
