"""What all trials of a comparison share: the data, the task, the base and the settings."""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from perfit.comparison.plan import Selection
from perfit.data.pool import stage1_pool, without_queries
from perfit.data.schema import Dataset, Query, User
from perfit.errors import ConfigError, DataError
from perfit.how_to_open import USUAL, HowToOpen
from perfit.pseudo_users import check_ids
from perfit.tasks.task import Task

if TYPE_CHECKING:
    from perfit.backbone.fingerprint import BaseIdentity
    from perfit.backbone.model import Backbone
    from perfit.config import PerFitConfig
    from perfit.data.timeline import Dates
    from perfit.opening import OpenedBase


@dataclass(frozen=True)
class Bench:
    """Everything a trial is given but method and seed.

    Attributes:
        data: Users with answered queries, and the others of stage 1.
        task: The task.
        backbone, identity: The frozen base.
        config: Settings of all methods.
        selection: What part of the data this is.
        left_out: What is not compared for want of answers, counted.
        notes: What was decided while reading, for people.
        answers: "free", "sampled", or "labels" where every method answers with one of the task's labels.
        collective: A run whose collective shift takes the place of stage 1 (``Setting.collective``).
        frozen: Where its methods find each other's frozen parts (``Setting.frozen``); None: of one ``run`` alone.
    """

    data: Dataset
    task: Task
    backbone: Backbone
    identity: BaseIdentity
    config: PerFitConfig
    selection: Selection = field(default_factory=Selection)
    left_out: Mapping[str, int] = field(default_factory=dict)
    notes: tuple[str, ...] = ()
    answers: str = "free"
    collective: Path | None = None
    frozen: Path | None = None

    def pool(self) -> list[User]:
        """Who stage 1 of every method learns from."""
        return list(stage1_pool(self.data, self.config.stage1_users))

    def bare_users(self) -> list[User]:
        """The users without their queries: what a method may learn from."""
        return list(without_queries(self.data.users))

    def given(self) -> str | None:
        """SHA-256 of the collective shift that takes the place of stage 1; None where stage 1 is trained.

        Raises:
            StoreError: It is unfinished, of another base, or edits elsewhere or with other ranks than the settings say.
        """
        if self.collective is None:
            return None
        from perfit.belonging import Belonging
        from perfit.fitting import collective_of
        from perfit.run import RunDirectory

        belonging = Belonging(self.backbone, self.identity, self.task, self.config)
        return hashlib.sha256(collective_of(RunDirectory(self.collective), belonging).file).hexdigest()

    def parameters(self) -> int:
        """Numbers of the base, tied ones counted once."""
        return sum(p.numel() for p in self.backbone.model.parameters())


@dataclass(frozen=True)
class Source:
    """Where a bench comes from, so that another process can open the same one.

    Attributes:
        data, others: Paths of the users and, where they lie elsewhere, of the other users.
        task: Name, LaMP id or YAML file; None takes what the data says.
        base: A path, a hub id or ``pypi:...``.
        how: How it is opened; its dtype takes the place of the setting's.
        preset: "small" or "paper".
        settings: Changes of the preset, as for ``perfit train --set``.
        selection: Part of the data.
        answers: "free", "sampled", "labels" or "expected".
        dates: The form of dates, as for ``read_dataset``.
        collective: A run whose collective shift takes the place of stage 1.

    Raises:
        ConfigError: The preset is unknown.
    """

    data: Path
    base: str
    others: Path | None = None
    task: str | None = None
    how: HowToOpen = USUAL
    preset: str = "small"
    settings: Mapping[str, Any] = field(default_factory=dict)
    selection: Selection = field(default_factory=Selection)
    answers: str = "free"
    dates: Dates = "iso"
    collective: Path | None = None

    def __post_init__(self) -> None:
        if self.preset not in ("small", "paper"):
            raise ConfigError(f"preset: {self.preset!r} is unknown; choose small or paper")

    def open(self, opened: OpenedBase | None = None) -> Bench:
        """Read the data and load the base.

        Args:
            opened: The base, where several benches share one that is loaded.

        Raises:
            PerfitError: Data, base or a setting is unusable.
        """
        from perfit.backbone.room import check_length
        from perfit.config import paper_preset, small_preset
        from perfit.data import read_dataset
        from perfit.methods.method import check_answers
        from perfit.opening import open_base
        from perfit.tasks import get_task
        from perfit.training.examples import answer_limit

        dataset = read_dataset(self.data, others=self.others, dates=self.dates)
        named = self.task or dataset.task
        if named is None:
            raise ConfigError(f"task: {self.data} does not say which task it is; name one, or give a YAML file")
        task = get_task(named)
        check_answers(self.answers, task)
        data, left_out = self.selection.of(dataset)
        check_data(data, task)
        settings = self.settings if self.how.dtype is None else {**self.settings, "dtype": self.how.dtype}
        if opened is None:
            opened = open_base(self.base, self.how.or_else(dtype=str(settings.get("dtype", "auto"))))
        backbone = opened.backbone
        small = small_preset(len(backbone.layers), task.kind, hidden_size=backbone.hidden_size, chat=task.chat)
        start = paper_preset(task.name) if self.preset == "paper" else small
        config = start.with_options(**settings)
        notes = list(dataset.notes)
        if not data.others:
            notes.append("no other users: stage 1 of every method learns from the histories of the users themselves")
        backbone.check_layers(config.layers)
        check_length(backbone, config.max_length)
        answer_limit(task, backbone.tokenizer, config.chat_template)  # refuses labels that could never be answered
        bench = Bench(
            data=data,
            task=task,
            backbone=backbone,
            identity=opened.identity,
            config=config,
            selection=self.selection,
            left_out=left_out,
            notes=tuple(notes),
            answers=self.answers,
            collective=self.collective,
        )
        bench.given()  # what cannot take the place of stage 1 is refused before anything is trained
        if self.answers not in ("free", "sampled"):
            check_labels(bench)
        return bench


def check_labels(bench: Bench) -> None:
    """Refuse labels that have the same tokens now, and not when the first method answers.

    Raises:
        ConfigError: Two have.
    """
    from perfit.inference.label_set import labels_after
    from perfit.training.examples import RowMaker

    tokenizer = bench.backbone.tokenizer
    prompt = RowMaker(bench.task, tokenizer, bench.config).prompt(bench.data.users[0].queries[0])
    labels_after(bench.task.labels, tokenizer, bench.config.chat_template)(prompt.prompt_ids)


def check_data(data: Dataset, task: Task) -> None:
    """Refuse data that cannot be compared on.

    Raises:
        DataError: There is no answered query, an id comes twice, or an answer is none of the task's.
    """
    check_ids(data.users)
    queries: list[Query] = [query for user in data.users for query in user.queries]
    if not queries:
        raise DataError("no user has a query with a known answer", remedy="give queries with a gold answer")
    twice = [query for query, count in Counter(query.id for query in queries).items() if count > 1]
    if twice:
        raise DataError(f"the query id {twice[0]!r} comes twice", remedy="give each its own id")
    for query in queries:
        task.article(query)
        task.check_gold(query.gold or "", f"query {query.id}")
    for user in (*data.users, *data.others):
        for item in user.history if task.labels else ():
            try:
                task.answer_of(item)
            except DataError as error:
                raise DataError(str(error), record=f"user {user.id}") from error
