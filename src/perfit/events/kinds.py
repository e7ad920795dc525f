"""Every kind of event there is. They hold numbers, ids and sentences of our own, never users' texts."""

from __future__ import annotations

from dataclasses import MISSING, dataclass, fields
from typing import Any, ClassVar, TypeAlias


@dataclass(frozen=True, slots=True)
class Warned:
    """Something that nobody should miss; the work goes on."""

    kind: ClassVar[str] = "warning"
    text: str


@dataclass(frozen=True, slots=True, kw_only=True)
class StageBegun:
    """A stage begins, or goes on.

    Attributes:
        stage: 1 or 2.
        rows: Rows it trains on.
        users: How many users train (stage 2).
        rows_total: Rows of all its steps: ``rows`` times epochs, and the rows of trials.
        steps: Steps of all its learners together, where that is known.
    """

    kind: ClassVar[str] = "stage"
    stage: int
    rows: int
    users: int | None = None
    rows_total: int
    steps: int | None = None


@dataclass(frozen=True, slots=True)
class Prepared:
    """The frozen part of so many more rows was computed."""

    kind: ClassVar[str] = "prepare"
    rows: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Stepped:
    """One step of all learners under way.

    Attributes:
        rows: Rows of the step.
        learners: Learners that took it.
        loss: Mean of all answer tokens of the step, in nats.
        seconds: What it took.
    """

    kind: ClassVar[str] = "step"
    rows: int
    learners: int
    loss: float
    seconds: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Finished:
    """A learner is through.

    Attributes:
        learner: A user's id, or "collective".
        steps: Steps it took.
        losses: Mean per answer token of each epoch, where it is known.
    """

    kind: ClassVar[str] = "finished"
    learner: str
    steps: int
    losses: tuple[float, ...] | None = None


@dataclass(frozen=True, slots=True)
class Skipped:
    """A learner has no result, and why; the others go on."""

    kind: ClassVar[str] = "skipped"
    learner: str
    problem: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Resumed:
    """A stage goes on where it was stopped.

    Attributes:
        learners: Learners under way.
        taken: Learners that were begun.
        rows_done: Rows of ``StageBegun.rows_total`` that were run before.
    """

    kind: ClassVar[str] = "resumed"
    learners: int
    taken: int
    rows_done: int


@dataclass(frozen=True, slots=True)
class PhaseEnded:
    """A phase is over, and the seconds it took."""

    kind: ClassVar[str] = "phase"
    phase: str
    seconds: float


@dataclass(frozen=True, slots=True)
class Planned:
    """What the engine chose, and the measured numbers behind it: memory, products, attention, frozen parts."""

    kind: ClassVar[str] = "plan"
    text: str


@dataclass(frozen=True, slots=True)
class MemoryUsed:
    """The peak of a stage's memory and what it was allowed, in bytes."""

    kind: ClassVar[str] = "memory"
    peak: int
    budget: float


@dataclass(frozen=True, slots=True)
class Stage1Found:
    """A method's stage 1 lies there already, and the seconds that training it took."""

    kind: ClassVar[str] = "found"
    seconds: float
    stage: int = 1


@dataclass(frozen=True, slots=True, kw_only=True)
class ComparisonBegun:
    """A comparison begins, or goes on.

    Attributes:
        todo: Trials that are not done.
        trials: All trials.
        queries: Queries of each.
    """

    kind: ClassVar[str] = "comparison"
    todo: int
    trials: int
    queries: int


@dataclass(frozen=True, slots=True, kw_only=True)
class TrialBegun:
    """A trial begins, or goes on.

    Attributes:
        method, seed: Which.
        number: Its place among those to do, from 1.
        left: Seconds that it and all after it will take; None while nothing is known.
        rows_done: Queries that were answered before a stop.
    """

    kind: ClassVar[str] = "trial"
    method: str
    seed: int
    number: int
    left: float | None
    rows_done: int


@dataclass(frozen=True, slots=True)
class Answered:
    """So many more queries are answered."""

    kind: ClassVar[str] = "answered"
    rows: int


@dataclass(frozen=True, slots=True, kw_only=True)
class TrialEnded:
    """A trial is over; ``error`` in one line where it failed."""

    kind: ClassVar[str] = "ended"
    method: str
    seed: int
    error: str | None


Event: TypeAlias = (
    Warned
    | StageBegun
    | Prepared
    | Stepped
    | Finished
    | Skipped
    | Resumed
    | PhaseEnded
    | Planned
    | MemoryUsed
    | Stage1Found
    | ComparisonBegun
    | TrialBegun
    | Answered
    | TrialEnded
)


def as_dict(event: Event) -> dict[str, Any]:
    """An event as ``events.jsonl`` has it: ``event`` is its kind; what may be unknown and is, is left out."""
    known = {field.name: getattr(event, field.name) for field in fields(event)}
    optional = {field.name for field in fields(event) if field.default is not MISSING}
    return {
        "event": event.kind,
        **{name: value for name, value in known.items() if value is not None or name not in optional},
    }
