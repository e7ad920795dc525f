"""One trial: both stages on the earlier history, scored on the later one."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from statistics import fmean
from typing import Any

from perfit.backbone.model import Backbone
from perfit.backbone.room import check_length
from perfit.config import PerFitConfig
from perfit.data.pool import stage1_pool
from perfit.data.schema import HistoryItem, User
from perfit.evaluation.score import HIGHER_IS_BETTER, metrics_by_query
from perfit.events import Listener, nobody
from perfit.inference.answer_losses import answer_losses
from perfit.inference.decoding import Decoding
from perfit.inference.edited import Edited
from perfit.owners import Owners
from perfit.pseudo_users import COLLECTIVE, check_ids
from perfit.search.holdout import HeldOut
from perfit.store.collective_file import Collective, encode_collective
from perfit.store.payload import StoredShift
from perfit.store.personal import PersonalShifts
from perfit.tasks.task import Task
from perfit.training.examples import RowMaker, answer_limit
from perfit.training.fit_users import fit_users
from perfit.training.frozen_cache import FrozenHome
from perfit.training.learner import Trained
from perfit.training.rows import TokenRow
from perfit.training.stages import train_collective
from perfit.training.user_rows import pool_rows, rows_of_users

LOSS, METRIC = "loss", "metric"
SCORES = (LOSS, METRIC)
_PARTS = 4  # groups of users between which a trial may be pruned


@dataclass(frozen=True)
class Material:
    """What all trials share.

    Attributes:
        backbone, task: What is made personal.
        held: Earlier and later history.
        score: "loss" (mean negative log-likelihood of an answer token) or "metric" (the task's primary one).
        home: Where frozen parts are kept; trials whose edits begin at the same layer and tokens share them.
    """

    backbone: Backbone
    task: Task
    held: HeldOut
    score: str
    home: FrozenHome | None = None

    @property
    def higher_is_better(self) -> bool:
        """The direction of the score."""
        return self.score == METRIC and HIGHER_IS_BETTER[self.task.primary_metric]


@dataclass(frozen=True)
class TrialResult:
    """What a trial found.

    Attributes:
        score: Of the users' personal shifts, over all held-out items.
        collective: The same of the shared shifts alone.
        skipped: Users whose training failed; they are scored with the shared shifts, as they would be served.
    """

    score: float
    collective: float
    skipped: int


def run_trial(
    material: Material,
    config: PerFitConfig,
    *,
    report: Callable[[int, float], None] = lambda step, score: None,
    listener: Listener = nobody,
) -> TrialResult:
    """Train and score one config.

    Args:
        material: What trials share.
        config: The trial's settings.
        report: Called with (0, the shared shifts' score) and then with (1 …, the score of all users so far), always in
            the same order of users; an exception it raises ends the trial.
        listener: Hears what happens in training.

    Raises:
        PerfitError: Stage 1 diverged, the base cannot take the settings, or the data cannot be trained on.
    """
    backbone, data = material.backbone, material.held.data
    backbone.check_layers(config.layers)
    check_length(backbone, config.max_length)
    check_ids(data.users)
    maker = RowMaker(material.task, backbone.tokenizer, config)
    own = rows_of_users(maker, data.users)
    judged = {user.id: _later_rows(maker, user, material.held.later[user.id]) for user in data.users}
    rows = pool_rows(maker, stage1_pool(data, config.stage1_users))
    # As a run would keep and read them.
    shared = Collective.of_file(
        encode_collective(train_collective(backbone, rows, config, listener=listener, home=material.home))
    )
    owners, skipped = Owners(shared, PersonalShifts()), 0

    def keep(through: Sequence[Trained], shifts: Mapping[str, StoredShift]) -> None:
        nonlocal skipped
        skipped += len(through) - len(shifts)
        owners.personal.put_stored(shifts.items())

    scorer = _Scorer(material, config, judged)
    collective = fmean(scorer.of(list(judged), owners))
    report(0, collective)
    found: list[float] = []
    for step, part in enumerate(_parts(data.users), start=1):
        mine = {user: own[user] for user in part}
        fit_users(backbone, mine, shared.shifts, config, keep, listener=listener, home=material.home)
        found += scorer.of(part, owners)
        report(step, fmean(found))
    return TrialResult(fmean(found), collective, skipped)


def _later_rows(maker: RowMaker, user: User, later: Sequence[HistoryItem]) -> list[TokenRow]:
    """Rows of held-out items, behind earlier ones where past items go before prompts."""
    return maker.history_rows(replace(user, history=(*user.history, *later)))[len(user.history) :]


def _parts(users: Sequence[User]) -> Iterator[list[str]]:
    size = -(-len(users) // _PARTS)
    for begin in range(0, len(users), size):
        yield [user.id for user in users[begin : begin + size]]


class _Scorer:
    """Scores of held-out items: one number per answer token (loss) or per item (metric)."""

    def __init__(self, material: Material, config: PerFitConfig, rows: Mapping[str, Sequence[TokenRow]]):
        self.material, self.config, self.rows = material, config, rows

    def of(self, users: Sequence[str], owners: Owners) -> list[float]:
        """Scores of these users' items, in order; users without a shift have the shared ones."""
        known = set(owners.personal.users())
        rows = [row for user in users for row in self.rows[user]]
        names = [user if user in known else COLLECTIVE for user in users for _ in self.rows[user]]
        edited = Edited.by(self.config, self.material.backbone, owners)
        return self._losses(rows, names, edited) if self.material.score == LOSS else self._metrics(users, names, edited)

    def _losses(self, rows: Sequence[TokenRow], names: Sequence[str], edited: Edited) -> list[float]:
        sums = [0.0] * len(rows)
        for group, shift, slots in edited.groups(names):
            mine = [rows[i] for i in group]
            found = answer_losses(edited.backbone, mine, slots, shift, edited.positions, self.config.step_tokens)
            for i, total in zip(group, found, strict=True):
                sums[i] = total
        # A row's mean once per token, so that the mean of all is the mean over tokens.
        return [
            total / len(row.answer_ids)
            for row, total in zip(rows, sums, strict=True)
            for _ in range(len(row.answer_ids))
        ]

    def _metrics(self, users: Sequence[str], names: Sequence[str], edited: Edited) -> list[float]:
        task, tokenizer = self.material.task, self.material.backbone.tokenizer
        most = answer_limit(task, tokenizer, self.config.chat_template)
        limit = Decoding().of(task, most)
        texts = edited.texts([row.prompt_ids for user in users for row in self.rows[user]], names, limit)
        items = [item for user in users for item in self.material.held.later[user]]
        keys = [str(number) for number in range(len(items))]
        golds = {key: task.answer_of(item) for key, item in zip(keys, items, strict=True)}
        found: Mapping[str, Mapping[str, Any]] = metrics_by_query(
            task, {key: text.strip() for key, text in zip(keys, texts, strict=True)}, golds
        )
        return [float(found[key][task.primary_metric]) for key in keys]
