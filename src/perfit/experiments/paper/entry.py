"""What one table or figure of the paper is: who is compared on what, what it prints and where, and what it claims."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from perfit.errors import ConfigError

KINDS = ("compare", "analysis", "search", "space", "data", "abilities")
PARTS = ("ranks", "observations", "controls", "cases", "layers", "tasks")
CLAIMS = ("above", "near", "measured")
WHATS = ("percent", "reduction", "ratio", "millions")
METRICS: Mapping[str, tuple[str, str]] = {
    "movie_tagging": ("accuracy", "macro_f1"),
    "news_categorize": ("accuracy", "macro_f1"),
    "product_rating": ("mae", "rmse"),
    "news_headline": ("rouge1", "rougeL"),
    "scholarly_title": ("rouge1", "rougeL"),
    "tweet_paraphrase": ("rouge1", "rougeL"),
}
"""The two columns of each task, as Tables 2 and 3 have them; the first one orders."""


def _check(ok: bool, name: str, value: object, way_out: str) -> None:
    if not ok:
        raise ConfigError(f"{name}: {value!r} is not possible; {way_out}")


@dataclass(frozen=True)
class Row:
    """One row of a table.

    Attributes:
        label: As it is printed; the paper's numbers name it.
        method: A name of ``perfit.methods``; None where the entry is no comparison.
        options: The method's; layers count in Llama-2-7B's 32.
        base: One of the entry's bases; None: the first.
        pool, pool_share: So many of the other users, or such a share of them, drawn with ``pool_seed``.
        stage1: The task whose stage 1 this row's users stand on.
        practical: "strength" or "pool": one of the two things in which the practical preset leaves the paper.
        extra: Ours, not the paper's.
        x, y, curve: Where a figure draws it.
    """

    label: str
    method: str | None = None
    options: Mapping[str, Any] = field(default_factory=dict)
    base: str | None = None
    task: str | None = None
    pool: int | None = None
    pool_share: float | None = None
    pool_seed: int | None = None
    stage1: str | None = None
    practical: str | None = None
    extra: bool = False
    x: float | None = None
    y: float | None = None
    curve: str | None = None

    def __post_init__(self) -> None:
        _check(isinstance(self.label, str) and bool(self.label), "rows.label", self.label, "give a text")
        _check(self.practical in (None, "strength", "pool"), "practical", self.practical, "choose strength or pool")
        _check(self.pool is None or self.pool >= 1, "pool", self.pool, "give at least 1")
        _check(
            self.pool_share is None or 0 < self.pool_share <= 1, "pool_share", self.pool_share, "give a share up to 1"
        )
        _check(self.pool is None or self.pool_share is None, "pool", self.pool, "give pool or pool_share, not both")
        for task in (self.stage1, self.task):
            _check(task is None or task in METRICS, "stage1", task, f"choose one of {', '.join(METRICS)}")


@dataclass(frozen=True)
class Numbers:
    """What the paper prints in one row: values by column, and the line of its text they stand on."""

    row: str
    line: int
    values: Mapping[str, float]

    def __post_init__(self) -> None:
        _check(isinstance(self.line, int) and self.line > 0, "line", self.line, "give a line of the paper's text")
        _check(bool(self.values), "values", self.values, "give at least one")
        for name, value in self.values.items():
            number = isinstance(value, int | float) and not isinstance(value, bool)
            _check(number, f"values.{name}", value, "give a number")


@dataclass(frozen=True)
class Parameters:
    """A count of parameters that the paper prints.

    Attributes:
        base, task, method: Of what.
        stage: 1, 2, or 0 for both together.
        what: "percent" of the base, "reduction" in percent against OPPU, "ratio" of this method's to PerFit's, or
            "millions".
        value, line: What is printed, and where.
    """

    base: str
    task: str
    method: str
    stage: int
    what: str
    value: float
    line: int

    def __post_init__(self) -> None:
        _check(self.what in WHATS, "what", self.what, f"choose one of {', '.join(WHATS)}")
        _check(self.stage in (0, 1, 2), "stage", self.stage, "give 1, 2, or 0 for both")


@dataclass(frozen=True)
class Claim:
    """What the paper's text says of a table, in our words.

    Attributes:
        says, line: The claim, and where it stands.
        kind: "above": each of ``better`` beats each of ``worse`` in each column; "near": they differ by at most
            ``margin``; "measured": each of ``measures`` lies below or above a bound.
        fewest: Users below whom such a bound cannot be told: a share of so few, or a spread of their scores, is coarser.
    """

    says: str
    line: int
    kind: str
    better: tuple[str, ...] = ()
    worse: tuple[str, ...] = ()
    columns: tuple[str, ...] = ()
    margin: float = 0.0
    measures: tuple[str, ...] = ()
    row: str | None = None
    below: float | None = None
    above: float | None = None
    fewest: int = 10

    def __post_init__(self) -> None:
        for name in ("better", "worse", "columns", "measures"):
            object.__setattr__(self, name, tuple(getattr(self, name)))
        _check(self.fewest >= 10, "claims.fewest", self.fewest, "give at least 10")
        _check(self.kind in CLAIMS, "claims.kind", self.kind, f"choose one of {', '.join(CLAIMS)}")
        if self.kind == "measured":
            _check(bool(self.measures), "claims.measures", self.measures, "name what is measured")
            one = (self.below is None) != (self.above is None)
            _check(one, "claims.below", self.below, "give below or above")
        else:
            whole = bool(self.better and self.worse and self.columns)
            _check(whole, "claims.better", self.better, "name rows that are better and worse, and columns")


@dataclass(frozen=True)
class Entry:
    """One table or figure.

    Attributes:
        name: Its file's, such as "table4".
        title, section, line: What it is, and where it stands.
        kind: What runs it, of ``KINDS``.
        tasks, bases: Columns, and the paper's bases.
        seeds: How many; ``smoke_seeds`` at the smoke scale.
        rows, numbers, parameters, claims: What is compared, what the paper prints, what it says of it.
        figure: "lines", "scatter" or "heatmap"; ``axis`` names what x is.
        part, group: Of an analysis: what is shown, and of which users ("test", "stage1").
        trials: Of a search.
        harness: Names of lm-evaluation-harness tasks.
        against: The row that p-values refer to.
        spread: "variance": of the paper's rows, as a row of its own.
        smoke_tasks: The tasks at the smoke scale, where all would take too long.
        own_layers: Layers count in each base's own depth, wherever it is deep enough.
        notes: What is ambiguous or contradicts itself, and what was chosen.
    """

    name: str
    title: str
    section: str
    line: int
    kind: str
    tasks: tuple[str, ...]
    bases: tuple[str, ...]
    rows: tuple[Row, ...]
    numbers: tuple[Numbers, ...] = ()
    parameters: tuple[Parameters, ...] = ()
    claims: tuple[Claim, ...] = ()
    notes: tuple[str, ...] = ()
    seeds: int = 1
    smoke_seeds: int = 1
    smoke_tasks: tuple[str, ...] = ()
    figure: str | None = None
    axis: str | None = None
    part: str | None = None
    group: str | None = None
    trials: int | None = None
    harness: tuple[str, ...] = ()
    against: str | None = None
    spread: str | None = None
    own_layers: bool = False

    def __post_init__(self) -> None:
        for name in ("tasks", "bases", "notes", "smoke_tasks", "harness"):
            object.__setattr__(self, name, tuple(getattr(self, name)))
        _check(self.kind in KINDS, "kind", self.kind, f"choose one of {', '.join(KINDS)}")
        for task in (*self.tasks, *self.smoke_tasks):
            _check(task in METRICS, "tasks", task, f"choose one of {', '.join(METRICS)}")
        _check(bool(self.tasks), "tasks", self.tasks, "name at least one")
        _check(bool(self.bases), "bases", self.bases, "name at least one")
        _check(
            self.figure in (None, "lines", "scatter", "heatmap"),
            "figure",
            self.figure,
            "choose lines, scatter, heatmap",
        )
        _check(
            (self.part is not None) == (self.kind == "analysis"),
            "part",
            self.part,
            "an analysis, and no other, has one",
        )
        _check(self.part is None or self.part in PARTS, "part", self.part, f"choose one of {', '.join(PARTS)}")
        labels = [row.label for row in self.rows]
        _check(len(set(labels)) == len(labels), "rows", labels, "give each row its own label")
        known = {*labels, "p", "variance"}
        for one in self.numbers:
            _check(one.row in known, "numbers.row", one.row, "name one of the rows")
        for claim in self.claims:
            for label in (*claim.better, *claim.worse):
                _check(label in known, "claims", label, "name one of the rows")
        for row in self.rows:
            _check(row.base is None or row.base in self.bases, "rows.base", row.base, "name one of the entry's bases")
            _check(self.kind != "compare" or row.method is not None, "rows.method", row.label, "a compared row has one")

    @property
    def columns(self) -> tuple[str, ...]:
        """All columns of scores, ``task.metric``."""
        return tuple(f"{task}.{metric}" for task in self.tasks for metric in METRICS[task])

    def printed(self, row: str, column: str) -> float | None:
        """What the paper prints there; None where it prints nothing."""
        return next((one.values[column] for one in self.numbers if one.row == row and column in one.values), None)
