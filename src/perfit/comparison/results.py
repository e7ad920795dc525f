"""A comparison's folder read back: every finished trial with its predictions and scores."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from perfit.belonging import task_from_record
from perfit.comparison.folder import ComparisonFolder, TrialRecord
from perfit.comparison.plan import Plan, Trial
from perfit.data.schema import User
from perfit.errors import DamagedError
from perfit.evaluation.judged import Judged, judged
from perfit.evaluation.own_metrics import Metric
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
    """

    plan: Mapping[str, Any]
    task: Task
    users: list[User]
    history: Mapping[str, int]
    golds: Mapping[str, str]
    records: Mapping[Trial, TrialRecord]
    scored: Mapping[str, list[Judged]]
    answered: Mapping[Trial, int] = field(default_factory=dict)

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
        metrics: Of one's own, beside the task's.

    Raises:
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
    scored: dict[str, list[Judged]] = {method: [] for method in plan["methods"]}
    answered: dict[Trial, int] = {}
    for trial, record in records.items():
        predictions = folder.predictions(trial)
        if record.status != "done":
            answered[trial] = sum(all(query.id in predictions for query in user.queries) for user in users)
        else:
            done(trial.method)
            if predictions.keys() != golds.keys():
                raise DamagedError(
                    f"{folder.trial_folder(trial)}: its predictions are not of the queries that were asked; repeat an erasure "
                    "that was cut off, restore them, or delete the trial's folder and compare again"
                )
            scored[trial.method].append(judged(task, predictions, golds, users, seed=trial.seed, metrics=metrics))
    return Results(plan, task, users, folder.history_lengths(), golds, records, scored, answered)
