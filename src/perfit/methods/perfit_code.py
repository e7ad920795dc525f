"""PerFit by code: directions trained once on everybody's records, a user's own part is a code of a few numbers (ours).

Stage 1 is PerFit's. Then the directions and a code for each of the pool's users train together; a user's own code is
fitted alone, from the code of the pool's most similar users, with directions and shifts frozen.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

import torch
from torch import Tensor

from perfit.data.schema import User
from perfit.edits.shift import Shift, parameter_count
from perfit.errors import DataError, StoreError
from perfit.events import StageBegun, Warned, nobody
from perfit.inference.edited import Edited
from perfit.methods.answer import edited_answer, users_of
from perfit.methods.codes import CodedLoss, CodedOwners, Directions
from perfit.methods.collective_shift import CollectiveStage
from perfit.methods.known import past_text
from perfit.methods.likeness import Likeness
from perfit.methods.method import Ask, Cost, Done, Setting, no_progress
from perfit.methods.options import check_counts, check_numbers
from perfit.methods.prompts import Prompts
from perfit.methods.stages import stage_of
from perfit.methods.tuning import Tuning
from perfit.methods.work import Work, history_of
from perfit.training.rows import TokenRow
from perfit.training.schedule import stable_random

# Codes are trained in tenths, so that one rate fits them and the directions.
_UNIT = 10.0


@dataclass(frozen=True)
class Options:
    """Options of PerFit by code.

    Attributes:
        directions: Numbers of a code, K.
        bank_epochs, bank_learning_rate: Of the directions; None: those of the config's stage 1.
        personal_epochs, personal_learning_rate: Of a user's code; None: those of the config's stage 2.
        neighbours: Most similar users of the pool whose codes, weighted by similarity, a user starts from.
        strength: A user's code counts so much, from 0 to 1; None: the config's.
    """

    directions: int = 32
    bank_epochs: int | None = None
    bank_learning_rate: float | None = None
    personal_epochs: int | None = None
    personal_learning_rate: float | None = None
    neighbours: int = 5
    strength: float | None = None

    def __post_init__(self) -> None:
        check_counts(self, "directions", "bank_epochs", "personal_epochs", "neighbours")
        check_numbers(self, "bank_learning_rate", "personal_learning_rate")
        check_numbers(self, "strength", below=1 + 1e-9)


class PerFitCode:
    """See the module."""

    def __init__(self, name: str, label: str, setting: Setting, options: Options):
        self.name, self.label, self.setting, self.options = name, label, setting, options
        self.config = setting.seeded()
        setting.backbone.check_layers(self.config.layers)
        self.strength = self.config.strength if options.strength is None else options.strength
        self.stage1 = CollectiveStage(setting, self.config)
        self.bank_stage = stage_of(setting, 1, options.bank_epochs, options.bank_learning_rate)
        self.code_stage = stage_of(setting, 2, options.personal_epochs, options.personal_learning_rate)
        # Directions of another collective shift are of no use, and codes of other directions are none.
        decides = {
            "directions": options.directions,
            "stage": asdict(self.bank_stage),
            "shift": self.stage1.work.context,
        }
        self.bank = Work.shared(setting, "directions", decides)
        self.work = Work(setting.folder, setting, name, options, below=self.bank)
        self.prompts = Prompts(setting, self.config.retrieved)
        self._likeness: Likeness | None = None
        self._pool: dict[tuple[str, str], int] = {}

    def fit(self, others: Sequence[User]) -> None:
        """Train the shared shifts, or take PerFit's; then the directions, with a code for each of these users."""
        self.stage1.fit(others)
        self._likeness = Likeness([_texts(self.setting, user) for user in others])
        self._pool = {(user.id, history_of(user)): place for place, user in enumerate(others)}

        def train(pool: str) -> dict[str, Tensor]:
            owned = [(n, row) for n, user in enumerate(others) for row in self.prompts.maker.collective_rows([user])]
            first, second = self._shared()
            directions = Directions.none_yet(second, self.options.directions)
            draw = torch.Generator().manual_seed(stable_random(self.setting.seed, "codes").getrandbits(62))
            codes = torch.randn(len(others), self.options.directions, generator=draw) / self.options.directions**0.5
            codes = (codes / _UNIT).to(second.R).requires_grad_(True)
            directions.D.requires_grad_(True)
            directions.b.requires_grad_(True)
            loss = CodedLoss(self.setting.backbone, self.config, first, owned, self.setting.listener)
            rows = [row for _, row in owned]
            total = len(rows) * self.bank_stage.epochs
            self.setting.listener(StageBegun(stage=1, rows=len(rows), rows_total=total))
            self._tuning(self.bank_stage).run(
                {"codes": codes, "D": directions.D, "b": directions.b},
                rows,
                "directions",
                loss=lambda chunk: loss(chunk, directions, codes * _UNIT),
                checkpoint=self.bank.checkpoint("directions"),
                context=self.bank.context + pool,
            )
            kept = {"codes": codes * _UNIT, "D": directions.D, "b": directions.b}
            return {name: tensor.detach().cpu() for name, tensor in kept.items()}

        stands_on = self.stage1.work.collective().notes["id"]
        self.bank.fit_once(others, train, {"stands_on": stands_on})
        if self.bank.collective().notes["stands_on"] != stands_on:
            raise StoreError(
                f"{self.bank.path}: its directions were trained on another collective shift; delete it to train anew"
            )
        self.prompts.warn()

    def adapt(self, users: Sequence[User]) -> dict[str, str]:
        """Fit each user's code, alone."""
        if self.config.held_out:
            text = f"perfit-code: held_out finds strengths of shifts; every user's code has strength {self.strength:g}"
            self.setting.listener(Warned(text))
        problems = self.work.adapt_each(users, self._adapt, passes=self.code_stage.epochs)
        self.prompts.warn()
        return problems

    def _adapt(self, user: User) -> tuple[dict[str, Tensor], dict[str, Any]]:
        rows: list[TokenRow] = self.prompts.maker.history_rows(user)
        directions = self._directions()
        code = (self._start(user) / _UNIT).to(directions.D)[None].requires_grad_(True)
        owned = [(0, row) for row in rows]
        loss = CodedLoss(self.setting.backbone, self.config, self._shared()[0], owned, listener=nobody)
        notes = self._tuning(self.code_stage).run(
            {"code": code}, rows, user.id, loss=lambda chunk: loss(chunk, directions, code * _UNIT)
        )
        return {"code": (code.detach()[0] * _UNIT).cpu().to(torch.bfloat16)}, notes

    def _tuning(self, stage: Any) -> Tuning:
        setting = self.setting
        stage = replace(stage, weight_decay=0.0)  # what a code is near, it was started at
        return Tuning(setting.backbone, stage, setting.seed, setting.config.step_tokens, setting.listener)

    def _start(self, user: User) -> Tensor:
        """A code [K] to start from: the user's own where the pool had the same history, else the most similar users'."""
        if self._likeness is None:
            raise DataError("the pool's users are not known", remedy="call fit first")
        codes = self.bank.collective().tensors["codes"]
        if (own := self._pool.get((user.id, history_of(user)))) is not None:
            return codes[own]
        likeness = torch.from_numpy(self._likeness.to(_texts(self.setting, user))).to(codes)
        best = likeness.topk(min(self.options.neighbours, len(likeness)))
        if float(best.values.sum()) <= 0:
            return codes.mean(0)
        return (best.values[:, None] * codes[best.indices]).sum(0) / best.values.sum()

    def _shared(self) -> tuple[Shift, Shift]:
        device = self.setting.backbone.device
        first, second = (
            Shift(**{name: tensor.to(device) for name, tensor in shift.tensors().items()})
            for shift in self.stage1.shared().shifts
        )
        return first, second

    def _directions(self) -> Directions:
        device, kept = self.setting.backbone.device, self.bank.collective().tensors
        return Directions(self._shared()[1], kept["D"].to(device), kept["b"].to(device))

    def predict(self, asks: Sequence[Ask], done: Done = no_progress) -> list[str]:
        """Answers with the collective shift and the shift of each row's code; the shared one for who has none."""
        tokens = [self.prompts.asked(ask) for ask in asks]
        self.prompts.warn()
        found = {user: self.work.adapted(one).tensors.get("code") for user, one in users_of(asks).items()}
        none = torch.zeros(self.options.directions)
        codes = {user: none if code is None else self.strength * code.float() for user, code in found.items()}
        owners = CodedOwners(self._shared()[0], self._directions(), codes)
        edited = Edited.by(self.config, self.setting.backbone, owners)
        return edited_answer(edited, [ask.user.id for ask in asks], tokens, self.prompts, done)

    def cost(self) -> Cost:
        """Both shared shifts and the directions; a user is K numbers."""
        layers, width, K = len(self.config.layers), self.setting.backbone.hidden_size, self.options.directions
        ranks = (self.config.collective_rank, self.config.personal_rank)
        shared = sum(parameter_count(layers, rank, width) for rank in ranks)
        return Cost(shared + K * layers * self.config.personal_rank * (width + 1), K, 2 * K)


def _texts(setting: Setting, user: User) -> str:
    return "\n".join(past_text(setting.task, item) for item in user.history)


make = PerFitCode
