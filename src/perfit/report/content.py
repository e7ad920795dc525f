"""What a report shows, as plain values; where it comes from is another module's business."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from statistics import pstdev

from perfit.data.schema import User
from perfit.evaluation.score import is_format_failure
from perfit.pages.section import Section
from perfit.tasks.task import Task

_SHOWN = 24
_PER_USER = 3
_EXAMPLES = 3


@dataclass(frozen=True)
class MethodView:
    """One method with results.

    Attributes:
        label: As the paper prints it.
        score / low / high: Primary metric, and its 95 % interval over resampled users.
        parameters: Trained numbers behind one user's answers, both stages; None where it is not known.
        train_seconds: Of both stages, all users; None where it is not known.
        gains: Per user, the gain in the primary metric over the reference; empty for the reference.
        failure_rate: Share of answers of no valid format.
        family: What kind of method it is, such as "LoRA"; empty where there are no kinds.
    """

    label: str
    score: float
    low: float | None
    high: float | None
    failure_rate: float
    parameters: int | None = None
    train_seconds: float | None = None
    gains: Mapping[str, float] = field(default_factory=dict)
    family: str = ""


@dataclass(frozen=True)
class UserPoint:
    """One user of a run: past items, gain of the personal shift over the reference, strength where it is known.

    ``outcome`` is "helped", "harmed" or "left_alone".
    """

    history: int
    gain: float
    strength: float | None
    outcome: str


@dataclass(frozen=True)
class Answer:
    """One answer that some methods gave: its text, its value in the primary metric, and who gave it."""

    text: str
    value: float
    methods: tuple[str, ...]
    failure: bool


@dataclass(frozen=True)
class Disagreement:
    """A query that methods answer differently, the better answers first."""

    user: str
    text: str
    gold: str
    answers: tuple[Answer, ...]


@dataclass(frozen=True)
class Failures:
    """A method's answers of no valid format: their share, and some of them."""

    label: str
    rate: float
    examples: tuple[str, ...]


@dataclass(frozen=True)
class Content:
    """A whole report.

    Attributes:
        title: Its heading.
        conclusion: What was found, in words; the first line is the shortest answer.
        facts: What was compared, name and value.
        primary / higher_is_better: The metric of the figures.
        sections: The tables.
        methods: Those with results.
        reference: Label of the method that gains refer to; None where there is none.
        history: History items by user, for figures of every method; empty where it is not known.
        points: The users of a run, for figures of its personal shifts; empty where there are none to compare.
        disagreements: Queries with texts; empty where there are none, or none are wanted.
        failures: Methods with answers of no valid format.
        notes: What is missing, and why.
    """

    title: str
    facts: Sequence[tuple[str, str]]
    primary: str
    higher_is_better: bool
    sections: Sequence[Section]
    methods: Sequence[MethodView]
    reference: str | None = None
    history: Mapping[str, int] = field(default_factory=dict)
    points: Sequence[UserPoint] = ()
    disagreements: Sequence[Disagreement] = ()
    failures: Sequence[Failures] = ()
    notes: Sequence[str] = ()
    conclusion: Sequence[str] = ()


def disagreements(
    task: Task,
    users: Sequence[User],
    answers: Mapping[str, Mapping[str, str]],
    values: Mapping[str, Mapping[str, float]],
    *,
    higher_is_better: bool,
) -> list[Disagreement]:
    """The queries whose values differ most between methods: the first of every user, then the second, then the third.

    Args:
        task: The task.
        users: With queries whose inputs are the texts to show.
        answers, values: By method's label, then query id.
        higher_is_better: The direction of the values.
    """
    found: list[tuple[int, float, Disagreement]] = []
    for user in users:
        ranked = []
        for query in user.queries:
            spread = pstdev(values[label][query.id] for label in answers)
            if spread > 0:
                grouped = _grouped(task, query.id, answers, values, higher_is_better)
                ranked.append((spread, Disagreement(user.id, query.input, query.gold or "", grouped)))
        ranked.sort(key=lambda pair: -pair[0])
        found += [(place, -spread, one) for place, (spread, one) in enumerate(ranked[:_PER_USER])]
    found.sort(key=lambda entry: entry[:2])
    return [one for _, _, one in found[:_SHOWN]]


def _grouped(
    task: Task,
    query: str,
    answers: Mapping[str, Mapping[str, str]],
    values: Mapping[str, Mapping[str, float]],
    higher_is_better: bool,
) -> tuple[Answer, ...]:
    givers: dict[str, list[str]] = {}
    for label, given in answers.items():
        givers.setdefault(given[query], []).append(label)
    grouped = [
        Answer(text, values[labels[0]][query], tuple(labels), is_format_failure(task, text))
        for text, labels in givers.items()
    ]
    return tuple(sorted(grouped, key=lambda answer: -answer.value if higher_is_better else answer.value))


def failures(
    task: Task, rates: Mapping[str, float], answers: Mapping[str, Mapping[str, str]], texts: bool
) -> list[Failures]:
    """Methods that fail the format, most first, with their most different examples where texts are wanted."""
    result = []
    for label, rate in sorted(rates.items(), key=lambda pair: -pair[1]):
        if rate > 0:
            failing = dict.fromkeys(text for text in answers.get(label, {}).values() if is_format_failure(task, text))
            result.append(Failures(label, rate, tuple(failing)[:_EXAMPLES] if texts else ()))
    return result
