"""What metrics of one's own gave, kept in a comparison: no function is imported because a file names it, so that its values stay."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from perfit.comparison.folder import ComparisonFolder
from perfit.comparison.plan import Trial
from perfit.durable.identity import digest_of
from perfit.durable.records import read_record, write_record
from perfit.errors import DamagedError
from perfit.evaluation.own_metrics import Metric
from perfit.evaluation.score import HIGHER_IS_BETTER, direct, higher_is_better

FILE = "own_metrics.json"
_MEND = "delete it; perfit compare --metric makes it again"


@dataclass(frozen=True)
class OwnValues:
    """Values of metrics of one's own.

    Attributes:
        higher: Whether more is better, by metric.
        values: By trial's folder, metric and query id.
        answers: What each trial's values are of: a digest of its predictions.
    """

    higher: Mapping[str, bool] = field(default_factory=dict)
    values: Mapping[str, Mapping[str, Mapping[str, float]]] = field(default_factory=dict)
    answers: Mapping[str, str] = field(default_factory=dict)

    def of(self, trial: Trial, predictions: Mapping[str, str]) -> dict[str, Mapping[str, float]]:
        """A trial's values by metric and query; none where they are of other predictions."""
        if self.answers.get(trial.folder) != digest_of(dict(predictions)):
            return {}
        return dict(self.values[trial.folder])


def read_own_values(folder: ComparisonFolder) -> OwnValues:
    """What is kept; nothing where there is no such file.

    Raises:
        StoreError: It is damaged, or of another comparison.
    """
    path = folder.path / FILE
    if not path.exists():
        return OwnValues()
    content = read_record(path, missing="not found", mend=_MEND)
    if content.get("of") != folder.of():
        raise DamagedError(f"{path}: is of another comparison; {_MEND}")
    try:
        kept = OwnValues(content["higher"], content["values"], content["answers"])
        if not _whole(kept):
            raise KeyError
    except (KeyError, TypeError, AttributeError) as error:
        raise DamagedError(f"{path}: a value is missing or wrong; {_MEND}") from error
    for name, higher in kept.higher.items():
        direct(name, higher)
    return kept


def keep_own_values(
    folder: ComparisonFolder,
    metrics: Sequence[Metric],
    values: Mapping[Trial, Mapping[str, Mapping[str, float]]],
    predictions: Mapping[Trial, Mapping[str, str]],
) -> None:
    """Keep values by trial, metric and query, and of other metrics what is kept of the same predictions.

    Args:
        folder: The comparison.
        metrics: Which gave them.
        values: Theirs.
        predictions: Of the same trials, by query id.
    """
    before = read_own_values(folder)
    content: dict[str, Any] = {
        "of": folder.of(),
        "higher": {**before.higher, **{metric.name: higher_is_better(metric.name) for metric in metrics}},
        "values": {trial.folder: {**before.of(trial, predictions[trial]), **own} for trial, own in values.items()},
        "answers": {trial.folder: digest_of(dict(predictions[trial])) for trial in values},
    }
    write_record(folder.path / FILE, content)


def _whole(kept: OwnValues) -> bool:
    return (
        all(type(higher) is bool and name not in HIGHER_IS_BETTER for name, higher in kept.higher.items())
        and kept.values.keys() == kept.answers.keys()
        and all(
            name in kept.higher and all(type(value) is float for value in by_query.values())
            for own in kept.values.values()
            for name, by_query in own.items()
        )
    )
