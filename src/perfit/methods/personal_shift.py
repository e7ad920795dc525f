"""PerFit's stage 2 for methods: each user's own second shift, trained by perfit's own loop, all users together."""

from __future__ import annotations

from collections.abc import Sequence

import torch

from perfit.backbone.model import Backbone
from perfit.backbone.room import check_room
from perfit.backbone.within import Within, most_tokens
from perfit.config import PerFitConfig
from perfit.data.schema import User
from perfit.durable.records import read_record, write_record
from perfit.errors import DataError
from perfit.methods.answer import users_of
from perfit.methods.method import Ask, Done, Setting
from perfit.methods.prompts import Prompts
from perfit.methods.said import said
from perfit.methods.work import Work
from perfit.plan import TwoStageShift
from perfit.positions import Positions
from perfit.shift import Shift, ShiftBank, from_stored, new_shift, to_stored
from perfit.strength import bank_with_strengths
from perfit.training.loop import Trained
from perfit.training.rows import TokenRow
from perfit.training.stages import bank_of, fresh_shifts, train_personal

_USERS_AT_ONCE = 256


class PersonalShifts:
    """Trains, keeps and uses the users' shifts.

    Args:
        setting: The setting.
        config: Layers, positions, ranks and stage 2.
        work: Where they are kept.
        strength: How far answers go from the shared second shift towards a user's own.
    """

    def __init__(self, setting: Setting, config: PerFitConfig, work: Work, strength: float = 1.0):
        setting.backbone.check_layers(config.layers)
        self.setting, self.config, self.work, self.strength = setting, config, work, strength
        self.prompts = Prompts(setting, config.retrieved)

    def alone(self) -> tuple[Shift, Shift]:
        """What a user starts from without a stage 1: the identity, and a fresh shift of the personal rank."""
        layers, width, device = len(self.config.layers), self.setting.backbone.hidden_size, self.setting.backbone.device
        nothing = new_shift((layers, 1, width), generator=torch.Generator().manual_seed(0), device=device)
        return nothing, fresh_shifts(self.config, width)[1]

    def adapt(
        self, users: Sequence[User], shared: tuple[Shift, Shift], below: Backbone | None = None
    ) -> dict[str, str]:
        """Train the second shift of each user that is not kept yet, on top of the first and from the second of ``shared``.

        All of them train together; a killed call goes on from its checkpoint, or without those that were done.

        Args:
            users: The users.
            shared: Both shared shifts.
            below: What they stand on; the setting's base when not given.
        """
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

    def _train(self, users: Sequence[User], shared: tuple[Shift, Shift], below: Backbone) -> None:
        rows: dict[str, Sequence[TokenRow]] = {}
        for user in users:
            try:
                rows[user.id] = self.prompts.maker.history_rows(user)
            except DataError as error:
                self._keep(user, Trained(user.id, (), (), 0, str(error)))
        by_id = {user.id: user for user in users}
        for trained in train_personal(
            below,
            rows,
            shared,
            self.config,
            checkpoint=self.work.checkpoint("personal"),
            # With other resources users train in other company: those under way begin again, those kept stay.
            context={
                "work": self.work.context,
                "users": self.work.origins(users),
                "resources": self.config.resources(),
            },
            emit=self.setting.emit,
        ):
            self._keep(by_id[trained.name], trained)
        self.work.drop_checkpoints()

    def _keep(self, user: User, trained: Trained) -> None:
        if trained.problem is not None:
            self.work.put_user(user, {}, {"problem": trained.problem})
            return
        stored = {name: tensor.to(torch.bfloat16) for name, tensor in to_stored(trained.shifts[0]).items()}
        self.work.put_user(user, stored, {"steps": trained.steps, "losses": list(trained.losses)})

    def predict(
        self,
        asks: Sequence[Ask],
        shared: tuple[Shift, Shift],
        without: tuple[int, int],
        done: Done,
        below: Backbone | None = None,
    ) -> list[str]:
        """Answers with the first of ``shared`` and each row's own second shift.

        Args:
            asks: The asks.
            shared: As given to ``adapt``.
            without: The slots of a user who has no shift: (1, 1) for both of ``shared``, or (0, 0) for the bare base.
            done: Told of progress.
            below: As given to ``adapt``.
        """
        backbone, prompts = below or self.setting.backbone, [self.prompts.asked(ask) for ask in asks]
        self.prompts.warn()
        texts = [""] * len(asks)
        users = users_of(asks)
        ids = list(users)
        for begin in range(0, len(ids), _USERS_AT_ONCE):
            some = set(ids[begin : begin + _USERS_AT_ONCE])
            group = [i for i, ask in enumerate(asks) if ask.user.id in some]
            shifts = {user: shift for user in ids if user in some and (shift := self._shift(users[user])) is not None}
            place = {user: (1, slot) for slot, user in enumerate(shifts, start=2)}
            own = [(shift, self.strength) for shift in shifts.values()]
            banks = bank_of([shared[0]], backbone.device), bank_with_strengths(shared[1], own, backbone.device)
            rows = [prompts[i] for i in group]
            slots = [place.get(asks[i].user.id, without) for i in group]
            limit, within = self.prompts.limit, self.prompts.within
            answers = shifted_answers(backbone, self.config, banks, rows, slots, limit, done, within)
            for index, text in zip(group, answers, strict=True):
                texts[index] = text
        return texts

    def _shift(self, user: User) -> Shift | None:
        kept = self.work.adapted(user)
        return from_stored(kept.tensors) if kept.tensors else None


def shifted_answers(
    backbone: Backbone,
    config: PerFitConfig,
    banks: tuple[ShiftBank, ShiftBank],
    prompts: Sequence[Sequence[int]],
    slots: Sequence[tuple[int, int]],
    limit: int,
    done: Done,
    within: Within | None = None,
) -> list[str]:
    """Answers to prompts with shifts from both banks, as each row's slots say; ``within`` as for ``answer``."""
    if not prompts:
        return []
    check_room(backbone, max(map(len, prompts)), most_tokens(within, prompts, limit))
    shift, positions = TwoStageShift(config.layers, *banks), Positions.parse(config.positions)
    return said(backbone, prompts, slots, shift, positions, limit, within, done)
