"""Scores of an entry's rows from their finished cells: means over seeds, intervals over users, samples to compare by."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from statistics import fmean, stdev

import numpy as np

from perfit.evaluation.bootstrap import Floats, interval, resampled, summed
from perfit.evaluation.score import pool
from perfit.experiments.cell_runs import Placed, why_failed
from perfit.experiments.paper.entry import METRICS
from perfit.experiments.world import Measured, World
from perfit.tasks import get_task

Key = tuple[str, str]
"""A row's label and a column."""


@dataclass(frozen=True)
class Score:
    """One number of ours.

    Attributes:
        mean, std: Over seeds; None where not every seed is finished, and std with one seed.
        low, high: 95 % interval of the mean over resampled users; None with fewer than two.
        seeds: The value of each finished seed.
        of: How many seeds there are to be.
        why: What is missing, in one line.
    """

    mean: float | None
    std: float | None
    low: float | None
    high: float | None
    seeds: tuple[float, ...]
    of: int
    why: str | None = None


@dataclass(frozen=True)
class Scored:
    """All scores of an entry, and bootstrap samples of those that are whole, paired within a task."""

    scores: Mapping[Key, Score]
    samples: Mapping[Key, Floats]
    users: Mapping[str, int] = field(default_factory=dict)
    queries: Mapping[str, int] = field(default_factory=dict)


def score_rows(cells: Sequence[Placed], world: World) -> Scored:
    """Score what is finished; a row that lacks a seed has no mean, so that no average is over a gap."""
    scores: dict[Key, Score] = {}
    samples: dict[Key, Floats] = {}
    users: dict[str, int] = {}
    queries: dict[str, int] = {}
    for task in dict.fromkeys(one.slot.task for one in cells):
        whole: dict[str, list[Measured]] = {}
        for label, mine in _by_row(one for one in cells if one.slot.task == task).items():
            found, why = _finished(mine, task, world)
            if len(found) == len(mine):
                whole[label] = found
            for metric in METRICS[task]:
                scores[label, f"{task}.{metric}"] = _score(found, len(mine), task, metric, why)
        alike = _same_questions(whole)
        if alike:
            first = next(iter(alike.values()))[0]
            users[task], queries[task] = len(set(first.owners.values())), len(first.golds)
            for label, column, values in _samples(alike, task, world.choices.scale.resamples):
                samples[label, column] = values
                low, high = interval(values)
                old = scores[label, column]
                scores[label, column] = Score(old.mean, old.std, low, high, old.seeds, old.of, old.why)
    return Scored(scores, samples, users, queries)


def _by_row(cells: Iterable[Placed]) -> dict[str, list[Placed]]:
    rows: dict[str, list[Placed]] = {}
    for one in cells:
        rows.setdefault(one.slot.row.label, []).append(one)
    return rows


def _finished(cells: Sequence[Placed], task: str, world: World) -> tuple[list[Measured], str | None]:
    found, why = [], None
    for one in cells:
        if one.cell is not None and one.cell.record().status == "done":
            found.append(world.measured(one.cell.folder, one.cell.trial, task))
        else:
            why = one.why if one.cell is None else why_failed(one.cell)
    return found, why


def _score(found: Sequence[Measured], of: int, task: str, metric: str, why: str | None) -> Score:
    the_task = get_task(task)
    values = tuple(pool(the_task, m.by_query, m.predictions, m.golds).metrics[metric] for m in found)
    if len(values) < of:
        return Score(None, None, None, None, values, of, why)
    return Score(fmean(values), stdev(values) if len(values) > 1 else None, None, None, values, of)


def _same_questions(whole: Mapping[str, list[Measured]]) -> dict[str, list[Measured]]:
    """Rows that answered the same questions as the first; others cannot be paired with it."""
    if not whole:
        return {}
    golds = next(iter(whole.values()))[0].golds
    return {label: many for label, many in whole.items() if all(one.golds == golds for one in many)}


def _samples(rows: Mapping[str, list[Measured]], task: str, resamples: int) -> Iterable[tuple[str, str, Floats]]:
    the_task = get_task(task)
    first = next(iter(rows.values()))[0]
    parts = {
        (label, metric, number): summed(the_task, metric, one.by_query, one.predictions, one.golds)
        for label, many in rows.items()
        for number, one in enumerate(many)
        for metric in METRICS[task]
    }
    drawn = resampled(parts, [first.owners[query] for query in first.golds], resamples=resamples)
    for label, many in rows.items():
        for metric in METRICS[task]:
            stacked = np.stack([drawn[label, metric, number] for number in range(len(many))])
            yield label, f"{task}.{metric}", stacked.mean(axis=0)
