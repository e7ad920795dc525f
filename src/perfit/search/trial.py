"""One trial: both stages on the earlier history, scored on the later one."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from statistics import fmean
from typing import Any

from perfit.backbone.generate import Decoding, generate
from perfit.backbone.model import Backbone
from perfit.backbone.room import check_length
from perfit.config import PerFitConfig
from perfit.data.pool import stage1_pool
from perfit.data.schema import HistoryItem, User
from perfit.evaluation.score import HIGHER_IS_BETTER, metrics_by_query
from perfit.plan import TwoStageShift
from perfit.positions import Positions
from perfit.search.holdout import HeldOut
from perfit.search.losses import answer_losses
from perfit.shift import Shift
from perfit.strength import bank_with_strengths
from perfit.tasks.task import Task
from perfit.training.examples import RowMaker, answer_limit
from perfit.training.frozen_cache import FrozenHome
from perfit.training.loop import Emit
from perfit.training.rows import TokenRow
from perfit.training.stages import bank_of, train_collective, train_personal

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
    emit: Emit = lambda event: None,
) -> TrialResult:
    """Train and score one config.

    Args:
        material: What trials share.
        config: The trial's settings.
        report: Called with (0, the shared shifts' score) and then with (1 …, the score of all users so far), always in
            the same order of users; an exception it raises ends the trial.
        emit: Receives training events.

    Raises:
        PerfitError: Stage 1 diverged, or the base cannot take the settings.
    """
    backbone, data = material.backbone, material.held.data
    backbone.check_layers(config.layers)
    check_length(backbone, config.max_length)
    maker = RowMaker(material.task, backbone.tokenizer, config)
    own = {user.id: maker.history_rows(user) for user in data.users}
    judged = {user.id: _later_rows(maker, user, material.held.later[user.id]) for user in data.users}
    rows = maker.collective_rows(stage1_pool(data, config.stage1_users))
    shared = train_collective(backbone, rows, config, emit=emit, home=material.home)
    scorer = _Scorer(material, config, judged)
    collective = fmean(scorer.of(list(judged), shared, {}))
    report(0, collective)
    found: list[float] = []
    skipped = 0
    for step, part in enumerate(_parts(data.users), start=1):
        shifts: dict[str, Shift] = {}
        mine = {user: own[user] for user in part}
        for trained in train_personal(backbone, mine, shared, config, emit=emit, home=material.home):
            if trained.problem is None:
                shifts[trained.name] = trained.shifts[0]
        skipped += len(part) - len(shifts)
        found += scorer.of(part, shared, shifts)
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

    def of(self, users: Sequence[str], shared: tuple[Shift, Shift], shifts: Mapping[str, Shift]) -> list[float]:
        """Scores of these users' items, in order; users without a shift have the shared ones."""
        device = self.material.backbone.device
        places = {user: number for number, user in enumerate(shifts, start=2)}
        own = [(shift, self.config.strength) for shift in shifts.values()]
        both = TwoStageShift(
            self.config.layers, bank_of([shared[0]], device), bank_with_strengths(shared[1], own, device)
        )
        rows = [row for user in users for row in self.rows[user]]
        slots = [(1, places.get(user, 1)) for user in users for _ in self.rows[user]]
        if self.material.score == LOSS:
            return self._losses(rows, slots, both)
        return self._metrics(users, rows, slots, both)

    def _losses(self, rows: Sequence[TokenRow], slots: Sequence[tuple[int, int]], shift: TwoStageShift) -> list[float]:
        positions = Positions.parse(self.config.positions)
        sums = answer_losses(self.material.backbone, rows, slots, shift, positions, self.config.step_tokens)
        # A row's mean once per token, so that the mean of all is the mean over tokens.
        return [
            total / len(row.answer_ids)
            for row, total in zip(rows, sums, strict=True)
            for _ in range(len(row.answer_ids))
        ]

    def _metrics(
        self,
        users: Sequence[str],
        rows: Sequence[TokenRow],
        slots: Sequence[tuple[int, int]],
        shift: TwoStageShift,
    ) -> list[float]:
        task, backbone = self.material.task, self.material.backbone
        most = answer_limit(task, backbone.tokenizer, self.config.chat_template)
        limit = Decoding(max_new_tokens=most, stop=task.stop)
        prompts = [row.prompt_ids for row in rows]
        texts = generate(backbone, prompts, slots, shift, Positions.parse(self.config.positions), limit)
        items = [item for user in users for item in self.material.held.later[user]]
        names = [str(number) for number in range(len(items))]
        golds = {name: task.answer_of(item) for name, item in zip(names, items, strict=True)}
        found: Mapping[str, Mapping[str, Any]] = metrics_by_query(
            task, {name: text.strip() for name, text in zip(names, texts, strict=True)}, golds
        )
        return [float(found[name][task.primary_metric]) for name in names]
