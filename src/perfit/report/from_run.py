"""A report's content from a run of ``perfit train`` that ``perfit evaluate`` has scored."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from perfit.belonging import task_from_record
from perfit.data.schema import Dataset, User
from perfit.errors import DamagedError, StoreError
from perfit.evaluation.bootstrap import Summed, interval, resampled
from perfit.evaluation.score import higher_is_better, metrics_by_query
from perfit.evaluation.written import read_metrics, read_predictions
from perfit.pages.section import Cell, Section
from perfit.report.conclusion import of_run
from perfit.report.content import Content, MethodView, UserPoint, disagreements, failures
from perfit.run import RunDirectory
from perfit.tasks.task import Task

_REFERENCE, _PERSONAL = "collective", "personal"
_EQUAL = 1e-9


def from_run(run: RunDirectory, data: Dataset | None = None, *, texts: bool = True) -> Content:
    """What the last evaluation of a run found; gains are over the collective shift.

    Args:
        run: The run.
        data: The evaluated users: brings history lengths, texts and golds.
        texts: Whether users' texts and the methods' answers are part of the report.

    Raises:
        StoreError: The run has no scores yet, or they are not of these users.
    """
    if not (run.path / "metrics.json").is_file():
        raise StoreError(f"{run.path}: has no scores yet; run perfit evaluate --run {run.path} first")
    try:
        return _content(run, data, texts)
    except (KeyError, TypeError, ValueError, IndexError, AttributeError, StopIteration):
        raise DamagedError(
            f"{run.path / 'metrics.json'}: a value is missing or wrong; run perfit evaluate again"
        ) from None


def _content(run: RunDirectory, data: Dataset | None, texts: bool) -> Content:
    manifest, metrics = run.manifest(), read_metrics(run)
    task = task_from_record(manifest["task"])
    methods: Mapping[str, Any] = {_label(name): found for name, found in metrics["methods"].items()}
    first = next(iter(methods.values()))
    upward = higher_is_better(first["primary"])
    shown = texts and data is not None
    answers = {name: read_predictions(run, metrics, name) for name in methods}
    for name, found in methods.items():
        if set(found["per_query"]) != set(answers[name]):
            raise StoreError(
                f"{run.path}: metrics.json scores other queries than were answered; run perfit evaluate again"
            )
    users = _asked(data, task, first["per_query"]) if data is not None else []
    values = {name: _values(answers[name], task, users) for name in methods} if shown else {}
    views = _views(methods, upward)
    points = _points(metrics, views, users)
    return Content(
        title=f"Run {run.path.name} on {task.name}",
        facts=[
            ("Base", f"{manifest['base']['name']}, {manifest['base']['dtype']}"),
            ("Users", f"{first['per_user']['n_users']} users, {first['n']} queries"),
            ("Versions", ", ".join(f"{name} {version}" for name, version in manifest["versions"].items())),
        ],
        primary=first["primary"],
        higher_is_better=upward,
        sections=[replace(_section(task, methods), notes=tuple(metrics.get("summary", ())))],
        methods=views,
        reference=_REFERENCE if _REFERENCE in methods else None,
        points=points,
        disagreements=disagreements(task, users, answers, values, higher_is_better=upward) if shown else [],
        failures=failures(
            task, {name: found["format_failure_rate"] for name, found in methods.items()}, answers, texts
        ),
        notes=[*_notes(data, texts), *_lacks(metrics, points)],
        conclusion=of_run(metrics, methods),
    )


def _label(name: str) -> str:
    """A floor as it is printed; its key has no blank."""
    return name.replace("floor_", "floor: ", 1) if name.startswith("floor_") else name


def _notes(data: Dataset | None, texts: bool) -> list[str]:
    if not texts:
        return ["users' texts are left out of this page"]
    return [] if data is not None else ["give --data to see texts"]


def _points(metrics: Mapping[str, Any], views: Sequence[MethodView], users: Sequence[User]) -> list[UserPoint]:
    """Users whose personal shift was held against the collective one."""
    if (effect := metrics.get("effect")) is not None:
        return [UserPoint(u["history"], u["gain"], u["strength"], u["outcome"]) for u in effect["users"]]
    gains = next((view.gains for view in views if view.label == _PERSONAL), {})
    return [UserPoint(len(u.history), gains[u.id], None, _outcome(gains[u.id])) for u in users if u.id in gains]


def _outcome(gain: float) -> str:
    return "left_alone" if abs(gain) <= _EQUAL else "helped" if gain > 0 else "harmed"


def _lacks(metrics: Mapping[str, Any], points: Sequence[UserPoint]) -> list[str]:
    """What figures and notes are missing, and why."""
    if "effect" not in metrics:
        return [
            "this evaluation was made by an earlier perfit: NLL, harm, answers changed and strengths are missing; run perfit "
            "evaluate again to see them"
        ]
    strengths = {point.strength for point in points}
    return [
        f"every user has strength {s:g}: no figure of gains against it"
        for s in strengths
        if s is not None and len(strengths) == 1
    ]


def _asked(data: Dataset, task: Task, per_query: Mapping[str, float]) -> list[User]:
    """The evaluated users with the evaluated queries, whose inputs are the texts alone."""
    users = []
    for user in data.users:
        queries = tuple(replace(q, input=task.article(q)) for q in user.queries if q.id in per_query)
        if queries:
            users.append(replace(user, queries=queries))
    missing = set(per_query) - {query.id for user in users for query in user.queries}
    if missing:
        raise StoreError(f"data: lacks {len(missing)} evaluated queries; give the data that perfit evaluate was given")
    return users


def _values(predictions: Mapping[str, str], task: Task, users: list[User]) -> dict[str, float]:
    golds = {query.id: query.gold or "" for user in users for query in user.queries}
    by_query = metrics_by_query(task, predictions, golds)
    return {query: one[task.primary_metric] for query, one in by_query.items()}


def _section(task: Task, methods: Mapping[str, Any]) -> Section:
    names = list(next(iter(methods.values()))["metrics"])
    rows = tuple(
        (
            Cell(name),
            *(Cell(f"{found['metrics'][metric]:.3f}") for metric in names),
            Cell(f"{found['per_user']['mean_of_users']:.3f}"),
            Cell(f"{found['format_failure_rate']:.1%}"),
            Cell(f"{found['seconds']:.1f}" if found["seconds"] else ""),
        )
        for name, found in methods.items()
    )
    return Section(task.name, ("method", *names, "mean of users", "format failures", "seconds"), rows)


def _views(methods: Mapping[str, Any], upward: bool) -> list[MethodView]:
    sign = 1.0 if upward else -1.0
    means = {name: {u["user"]: u["mean"] for u in found["per_user"]["users"]} for name, found in methods.items()}
    reference = means.get(_REFERENCE)
    sums = {
        name: Summed(found["primary"], np.array([[u["mean"] * u["n"]] for u in found["per_user"]["users"]]))
        for name, found in methods.items()
    }
    counts = [u["n"] for u in next(iter(methods.values()))["per_user"]["users"]]
    drawn = _weighted(sums, counts)
    views = []
    for name, found in methods.items():
        low, high = interval(drawn[name])
        gains = {}
        if reference is not None and name != _REFERENCE:
            gains = {user: sign * (mean - reference[user]) for user, mean in means[name].items()}
        views.append(
            MethodView(name, found["per_user"]["pooled"], low, high, found["format_failure_rate"], gains=gains)
        )
    return views


def _weighted(sums: Mapping[str, Summed], counts: list[int]) -> dict[str, Any]:
    """Bootstrap samples over users of sums of the primary metric, divided by the queries of the users drawn."""
    weights = {"": Summed("count", np.array(counts, dtype=np.float64)[:, None])}
    drawn = resampled({**sums, **weights}, range(len(counts)))
    return {name: drawn[name] / drawn[""] for name in sums}
