"""What one evaluation found: predictions and scores by method, its table, and what the table does not say."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from perfit.evaluation.aggregate import Comparison
from perfit.evaluation.best_floor import AboveFloor, above_floors, headline_metrics
from perfit.evaluation.effect import Effect
from perfit.evaluation.judged import Judged, column_text, columns
from perfit.evaluation.nll import Nll
from perfit.evaluation.seen import BySeen
from perfit.json_keys import json_key
from perfit.markdown import markdown, markdown_table
from perfit.tasks.task import Task

PERSONAL = "personal"
MEMORY = "personal_memory"
FLOOR = "floor: "
"""What names of floors begin with."""


@dataclass(frozen=True)
class Evaluation:
    """Everything one evaluation found.

    Attributes:
        task: The task.
        methods: By name, in the order of printing: the floors first, then base, collective, personal.
        helped: Personal against collective by the metric alone, when both were evaluated.
        effects: What personal, without and with memory, did to whom against collective, NLL and strengths included.
        nll: NLL of base, collective and personal; None where it was left out.
        by_seen: The primary metric on texts that somebody else has answered and on new ones; None where all are alike, or
            nothing is known of anybody.
        left_out: Users or queries that were not evaluated, and why, counted.
        answers: How base, collective and personal answered: "free" generation, "trie", the most probable label, or
            "expected", the ratings' median and mean.
    """

    task: Task
    methods: Mapping[str, Judged]
    helped: Comparison | None
    left_out: Mapping[str, int] = field(default_factory=dict)
    answers: str = "free"
    effects: Mapping[str, Effect] = field(default_factory=dict)
    nll: Nll | None = None
    by_seen: BySeen | None = None

    def as_dict(self) -> dict[str, Any]:
        """Plain values for ``metrics.json``; predictions are files of their own."""
        return {
            "task": self.task.name,
            "answers": self.answers,
            "methods": {
                json_key(name): {
                    **result.scores.as_dict(),
                    "seconds": round(result.seconds, 3),
                    "per_user": result.users.as_dict(),
                }
                for name, result in self.methods.items()
            },
            "personal_against_collective": None if self.helped is None else self.helped.as_dict(),
            "nll": None if self.nll is None else self.nll.as_dict(),
            "effect": None if PERSONAL not in self.effects else self.effects[PERSONAL].as_dict(),
            "memory_effect": None if MEMORY not in self.effects else self.effects[MEMORY].as_dict(),
            "best_floors": [{**one.as_dict(), "floor": json_key(one.floor)} for one in self.above_floors()],
            "by_seen": None if self.by_seen is None else self.by_seen.as_dict(),
            "summary": self.summary(),
            "left_out": {json_key(what): count for what, count in self.left_out.items()},
        }

    def pooled(self) -> dict[str, Any]:
        """Counts and pooled scores alone, for the list of a run's evaluations."""
        first = next(iter(self.methods.values()))
        return {
            "users": first.users.n_users,
            "queries": first.users.n_queries,
            "primary": self.task.primary_metric,
            "methods": {
                json_key(name): {json_key(column): value.mean for column, value in columns([result]).items()}
                for name, result in self.methods.items()
            },
        }

    def above_floors(self) -> list[AboveFloor]:
        """Personal, with and without memory, or else the last method, against the best floor in what counts for the task."""
        values = {
            name: {column: value.mean for column, value in columns([result]).items()}
            for name, result in self.methods.items()
        }
        primary, last = self.task.primary_metric, list(self.methods)[-1]
        metrics = headline_metrics(self.task)
        floors = [name for name in values if name.startswith(FLOOR)]
        held = [last] if last != MEMORY else [PERSONAL, MEMORY]
        return [one for name in held for one in above_floors(values, floors, name, primary, metrics)]

    def rows(self) -> tuple[list[str], list[list[str]]]:
        """The table: header and one row per method."""
        said = {name: columns([result]) for name, result in self.methods.items()}
        header = ["method", *next(iter(said.values())), "seconds"]
        body = [
            [
                name,
                *(column_text(column, value) for column, value in said[name].items()),
                f"{result.seconds:.1f}" if result.seconds >= 0.05 else "",
            ]
            for name, result in self.methods.items()
        ]
        return header, body

    def summary(self) -> list[str]:
        """What the table does not say, one line each."""
        lines = []
        if self.answers == "trie":
            lines.append("answers are the labels of highest probability; free generation gives other numbers")
        if self.answers == "expected":
            lines.append(
                "answers are the median (mae) and the mean (rmse) of the ratings' probabilities; floors are as ever"
            )
        for name, effect in self.effects.items():
            lines += effect.lines(name)
        if self.nll is not None:
            lines.append(self.nll.line())
        lines += [one.line() for one in self.above_floors()]
        if self.by_seen is not None:
            lines += self.by_seen.lines()
        return lines + [f"left out: {count} {what}" for what, count in self.left_out.items() if count]

    def markdown(self) -> str:
        """The table and its notes as Markdown."""
        header, rows = self.rows()
        names, *body = ([markdown(cell) for cell in row] for row in (header, *rows))
        return "\n".join([*markdown_table(names, body), "", *map(markdown, self.summary())]) + "\n"
