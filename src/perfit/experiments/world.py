"""What cells share: data sets read once, bases loaded once, benches opened once, predictions scored once."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from perfit.comparison.bench import Bench, Source
from perfit.comparison.folder import ComparisonFolder, identity_of
from perfit.comparison.plan import Selection, Trial
from perfit.data import read_dataset
from perfit.data.schema import Dataset
from perfit.durable.identity import digest_of
from perfit.errors import ConfigError
from perfit.evaluation.score import metrics_by_query
from perfit.experiments.scale import Choices
from perfit.opening import open_base
from perfit.tasks import get_task

if TYPE_CHECKING:
    from perfit.opening import OpenedBase

_SMOKE = "smoke:"
_SUFFIXES = (".jsonl", ".jsonl.gz", ".csv", ".parquet")


@dataclass(frozen=True)
class Place:
    """Where cells lie together: one base, one part of one task's data, one way to train.

    Attributes:
        base: What is opened.
        task: Its name.
        settings: Changes of the scale's, as sorted pairs.
        pool, pool_seed: So many other users, drawn with a seed.
    """

    base: str
    task: str
    settings: tuple[tuple[str, Any], ...] = ()
    pool: int | None = None
    pool_seed: int | None = None


@dataclass(frozen=True)
class Measured:
    """One finished cell read back: predictions and every metric, by query id, and who was asked what."""

    predictions: Mapping[str, str]
    by_query: Mapping[str, Mapping[str, float]]
    golds: Mapping[str, str]
    owners: Mapping[str, str]


class World:
    """Everything that is opened, once.

    Args:
        choices: What is asked.
    """

    def __init__(self, choices: Choices):
        self.choices = choices
        self._datasets: dict[str, Dataset] = {}
        self._bases: dict[str, OpenedBase] = {}
        self._benches: dict[Place, Bench] = {}
        self._measured: dict[tuple[Path, Trial], Measured] = {}
        self._frozen = tempfile.TemporaryDirectory(ignore_cleanup_errors=True)

    @cached_property
    def _smoke(self) -> Path:
        """The made-up data and tiny bases of the smoke scale."""
        from perfit.experiments.paper.entry import METRICS
        from perfit.experiments.smoke_data import write_dataset

        folder = self.choices.out / "smoke"
        for task in METRICS:
            if not (folder / "data" / f"{task}.jsonl").exists():
                write_dataset(task, folder / "data")
        return folder

    def data_of(self, task: str) -> Path | None:
        """Where a task's users lie; None: nowhere that was named."""
        folder = self.choices.data
        if folder is None:
            return self._smoke / "data" / f"{task}.jsonl" if self.choices.scale.name == "smoke" else None
        for path in (folder / task, *(folder / f"{task}{suffix}" for suffix in _SUFFIXES)):
            if path.exists():
                return path
        return None

    def dataset(self, task: str) -> Dataset:
        """All users of a task.

        Raises:
            ConfigError: None were named.
        """
        path = self.data_of(task)
        if path is None:
            raise ConfigError(f"data: there is none of {task}; give --data, a folder with a folder {task}")
        if task not in self._datasets:
            self._datasets[task] = read_dataset(path)
        return self._datasets[task]

    def base(self, name: str) -> OpenedBase:
        """A loaded base."""
        if name not in self._bases:
            dtype = str({**self.choices.scale.settings, **self.choices.settings}.get("dtype", "auto"))
            self._bases[name] = open_base(self._where(name), replace(self.choices.how, dtype=dtype))
        return self._bases[name]

    def _where(self, name: str) -> str:
        if not name.startswith(_SMOKE):
            return name
        folder = self._smoke / "bases" / name.removeprefix(_SMOKE)
        if not folder.exists():
            from perfit.experiments.smoke_base import write_base
            from perfit.experiments.smoke_data import smoke_texts

            part = folder.with_name(f".{folder.name}.part")
            shutil.rmtree(part, ignore_errors=True)  # what a kill left
            write_base(part, folder.name, smoke_texts()).rename(folder)
        return str(folder)

    def settings_of(self, task: str, base: str) -> dict[str, Any]:
        """The scale's settings for a task; Table 9's layers at the same share of another depth."""
        settings = dict(self.choices.scale.settings)
        depth = len(self.base(base).backbone.layers)
        if self.choices.scale.preset == "paper":
            from perfit.config import TABLE_9
            from perfit.experiments.layers import scaled

            settings["layers"] = scaled(TABLE_9[task].layers, depth)
        return {**settings, **self.choices.settings}

    def bench(self, place: Place) -> Bench:
        """What trials of a place share.

        Raises:
            PerfitError: Data, base or settings are unusable.
        """
        if place not in self._benches:
            scale, path = self.choices.scale, self.data_of(place.task)
            if path is None:
                raise ConfigError(
                    f"data: there is none of {place.task}; give --data, a folder with a folder {place.task}"
                )
            pool = scale.pool if place.pool is None else place.pool
            source = Source(
                data=path,
                base=place.base,
                task=place.task,
                how=self.choices.how,
                preset=scale.preset,
                settings={**self.settings_of(place.task, place.base), **dict(place.settings)},
                answers=scale.answers,
                selection=Selection(scale.users, scale.queries, scale.history, pool, place.pool_seed),
            )
            bench = source.open(self.base(place.base))
            if scale.answer_tokens is not None and bench.task.kind == "text":
                most = min(scale.answer_tokens, bench.task.max_new_tokens)
                bench = replace(bench, task=replace(bench.task, max_new_tokens=most))
            # Users are the same whatever the pool: their frozen parts serve every place of their task.
            self._benches[place] = replace(bench, frozen=Path(self._frozen.name))
        return self._benches[place]

    def folder(self, place: Place, version: int) -> ComparisonFolder:
        """The comparison that holds a place's cells of one version of their method."""
        key = digest_of(identity_of(self.bench(place)), version)
        return ComparisonFolder(self.choices.out / "cells" / f"{place.task}-{key[:16]}")

    def measured(self, folder: ComparisonFolder, trial: Trial, task: str) -> Measured:
        """A finished cell, scored."""
        key = (folder.path, trial)
        if key not in self._measured:
            users = folder.queries()
            golds = {query.id: query.gold or "" for user in users for query in user.queries}
            owners = {query.id: user.id for user in users for query in user.queries}
            predictions = folder.predictions(trial)
            by_query = metrics_by_query(get_task(task), predictions, golds)
            self._measured[key] = Measured(predictions, by_query, golds, owners)
        return self._measured[key]
