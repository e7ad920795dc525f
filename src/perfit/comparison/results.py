"""A comparison's folder read back: every finished trial with its predictions and scores."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from perfit.belonging import task_from_record
from perfit.comparison.folder import ComparisonFolder, TrialRecord
from perfit.comparison.own_values import keep_own_values, read_own_values
from perfit.comparison.plan import Plan, Trial
from perfit.data.schema import User
from perfit.errors import DamagedError
from perfit.evaluation.judged import Judged, judged
from perfit.evaluation.own_metrics import Metric, own_values
from perfit.tasks.task import Task


@dataclass(frozen=True)
class Results:
    """Everything a comparison found so far.

    Attributes:
        plan: ``plan.json``.
        task: The task.
        users: Users with their answered queries (the input is the user's text alone), without histories.
        history: History items by user.
        golds: Gold answers by query id.
        records: Every planned trial; of a method without chance there is one.
        scored: By method, its finished trials by rising seed.
        answered: Of each trial that is not finished, how many users' queries all are answered.
        lacking: Metrics of one's own that some finished trials have no values of; they are left out.
    """

    plan: Mapping[str, Any]
    task: Task
    users: list[User]
    history: Mapping[str, int]
    golds: Mapping[str, str]
    records: Mapping[Trial, TrialRecord]
    scored: Mapping[str, list[Judged]]
    answered: Mapping[Trial, int] = field(default_factory=dict)
    lacking: tuple[str, ...] = ()

    @property
    def methods(self) -> list[str]:
        """All methods, in the order of the table."""
        return list(self.plan["methods"])

    def label(self, method: str) -> str:
        """As the paper prints it, once the method could be made."""
        labels = [record.label for trial, record in self.records.items() if trial.method == method and record.label]
        return labels[0] if labels else method


def load_results(
    folder: ComparisonFolder, done: Callable[[str], None] = lambda method: None, metrics: Sequence[Metric] = ()
) -> Results:
    """Read a comparison and score what is finished.

    Args:
        folder: Its folder.
        done: Called with the method whose predictions are scored next.
        metrics: Of one's own, beside the task's and those whose values are kept; theirs are kept from now on.

    Raises:
        ConfigError: A metric of one's own fails.
        StoreError: A file is missing or damaged.
    """
    plan = folder.plan()
    try:
        task = task_from_record(plan["task"])
        trials = folder.trials(Plan(tuple(plan["methods"]), tuple(plan["seeds"])))
    except (KeyError, TypeError) as error:
        raise DamagedError(
            f"{folder.path / 'plan.json'}: a value is missing or wrong; restore it or compare again"
        ) from error
    users = folder.queries()
    golds = {query.id: query.gold or "" for user in users for query in user.queries}
    records = {trial: folder.record(trial) for trial in trials}
    predictions = {trial: folder.predictions(trial) for trial in trials}
    finished = [trial for trial, record in records.items() if record.status == "done"]
    for trial in finished:
        if predictions[trial].keys() != golds.keys():
            raise DamagedError(
                f"{folder.trial_folder(trial)}: its predictions are not of the queries that were asked; repeat an erasure "
                "that was cut off, restore them, or delete the trial's folder and compare again"
            )
    own, lacking = _own(folder, {trial: predictions[trial] for trial in finished}, golds, metrics)
    scored: dict[str, list[Judged]] = {method: [] for method in plan["methods"]}
    for trial in finished:
        done(trial.method)
        scored[trial.method].append(
            judged(task, predictions[trial], golds, users, seed=trial.seed, own=own.get(trial, {}))
        )
    answered = {
        trial: sum(all(query.id in predictions[trial] for query in user.queries) for user in users)
        for trial in trials
        if trial not in finished
    }
    return Results(plan, task, users, folder.history_lengths(), golds, records, scored, answered, lacking)


def _own(
    folder: ComparisonFolder,
    predictions: Mapping[Trial, Mapping[str, str]],
    golds: Mapping[str, str],
    metrics: Sequence[Metric],
) -> tuple[dict[Trial, dict[str, Mapping[str, float]]], tuple[str, ...]]:
    """Values by trial, metric and query of metrics that every trial has, given or kept; and the names of the others."""
    kept = read_own_values(folder)
    given = {trial: own_values(metrics, said, golds) for trial, said in predictions.items()}
    if metrics:
        keep_own_values(folder, metrics, given, predictions)
    every = {trial: {**kept.of(trial, said), **given[trial]} for trial, said in predictions.items()}
    names = list(dict.fromkeys(name for own in every.values() for name in own))
    whole = [name for name in names if all(name in own for own in every.values())]
    lacking = tuple(name for name in names if name not in whole)
    return {trial: {name: own[name] for name in whole} for trial, own in every.items()}, lacking
