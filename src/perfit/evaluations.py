"""What a run's evaluations found, by what was asked: counts and pooled scores, no user's id, answer or own score."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

from perfit.durable.records import read_records, write_records
from perfit.errors import DamagedError
from perfit.run import RunDirectory

FILE = "evaluations.jsonl"
_MEND = "delete it to begin anew"
_KINDS = {
    "at": str,
    "asked": dict,
    "users": int,
    "queries": int,
    "primary": str,
    "methods": dict,
    "earlier_shifts": bool,
}


def evaluations(run: RunDirectory) -> list[dict[str, Any]]:
    """All that are kept, the newest last; none where there was no evaluation.

    Raises:
        DamagedError: The file is not as it was written.
    """
    path = run.path / FILE
    kept = read_records(path, missing="not found", mend=_MEND) if path.is_file() else []
    if not all(_KINDS.keys() <= one.keys() and all(type(one[n]) is kind for n, kind in _KINDS.items()) for one in kept):
        raise DamagedError(f"{path}: a value is missing or wrong; {_MEND}")
    return kept


def remember(run: RunDirectory, asked: Mapping[str, Any], found: Mapping[str, Any]) -> None:
    """Keep what an evaluation found, in place of what the same question found of the same shifts.

    Args:
        run: The run.
        asked: What decides the numbers beside the run: methods, kind of answers, a hash of the data, and so on.
        found: Counts and pooled scores.

    Raises:
        DamagedError: The file is not as it was written.
    """
    kept = [one for one in evaluations(run) if one["earlier_shifts"] or one["asked"] != dict(asked)]
    at = datetime.now(UTC).isoformat(timespec="seconds")
    write_records(run.path / FILE, [*kept, {"at": at, "asked": dict(asked), **found, "earlier_shifts": False}])


def shifts_change(run: RunDirectory) -> bool:
    """Say of all that is kept that it was found of other shifts than those that come now; whether there is anything."""
    kept = evaluations(run)
    if kept and not all(one["earlier_shifts"] for one in kept):
        write_records(run.path / FILE, [{**one, "earlier_shifts": True} for one in kept])
    return bool(kept)


def line(evaluation: Mapping[str, Any]) -> str:
    """One of them in words: the primary metric of each method."""
    scores = ", ".join(f"{name} {found[evaluation['primary']]:.3f}" for name, found in evaluation["methods"].items())
    of = " (of earlier shifts)" if evaluation["earlier_shifts"] else ""
    return (
        f"{evaluation['at'][:10]}, answers {evaluation['asked']['answers']}, {evaluation['users']} users, "
        f"{evaluation['queries']} queries{of}: {evaluation['primary']} {scores}"
    )
