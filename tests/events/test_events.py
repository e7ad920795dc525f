"""Events are what their names say, and lines of JSON have them."""

from __future__ import annotations

import dataclasses
import pickle
import typing

import pytest

from perfit.events import (
    Answered,
    ComparisonBegun,
    Event,
    Finished,
    MemoryUsed,
    PhaseEnded,
    Planned,
    Prepared,
    Resumed,
    Skipped,
    Stage1Found,
    StageBegun,
    Stepped,
    TrialBegun,
    TrialEnded,
    Warned,
    as_dict,
)

LINES: dict[Event, dict[str, object]] = {
    Warned("a line"): {"event": "warning", "text": "a line"},
    StageBegun(stage=1, rows=4, rows_total=8): {"event": "stage", "stage": 1, "rows": 4, "rows_total": 8},
    StageBegun(stage=2, rows=4, users=0, rows_total=8, steps=3): {
        "event": "stage",
        "stage": 2,
        "rows": 4,
        "users": 0,
        "rows_total": 8,
        "steps": 3,
    },
    Prepared(7): {"event": "prepare", "rows": 7},
    Stepped(rows=3, learners=2, loss=1.5, seconds=0.25): {
        "event": "step",
        "rows": 3,
        "learners": 2,
        "loss": 1.5,
        "seconds": 0.25,
    },
    Finished(learner="anna", steps=5): {"event": "finished", "learner": "anna", "steps": 5},
    Finished(learner="anna", steps=5, losses=(2.0, 1.0)): {
        "event": "finished",
        "learner": "anna",
        "steps": 5,
        "losses": (2.0, 1.0),
    },
    Skipped("anna", "why"): {"event": "skipped", "learner": "anna", "problem": "why"},
    Resumed(learners=1, taken=3, rows_done=9): {"event": "resumed", "learners": 1, "taken": 3, "rows_done": 9},
    PhaseEnded("stage 1", 0.5): {"event": "phase", "phase": "stage 1", "seconds": 0.5},
    Planned("memory"): {"event": "plan", "text": "memory"},
    MemoryUsed(5, 6.5): {"event": "memory", "peak": 5, "budget": 6.5},
    Stage1Found(2.5): {"event": "found", "stage": 1, "seconds": 2.5},
    ComparisonBegun(todo=1, trials=2, queries=3): {"event": "comparison", "todo": 1, "trials": 2, "queries": 3},
    TrialBegun(method="base", seed=1, number=2, left=None, rows_done=0): {
        "event": "trial",
        "method": "base",
        "seed": 1,
        "number": 2,
        "left": None,
        "rows_done": 0,
    },
    Answered(6): {"event": "answered", "rows": 6},
    TrialEnded(method="base", seed=1, error=None): {"event": "ended", "method": "base", "seed": 1, "error": None},
}


@pytest.mark.parametrize("event", LINES, ids=lambda event: event.kind)
def test_a_line_has_the_kind_and_what_is_known(event: Event) -> None:
    assert as_dict(event) == LINES[event]


def test_every_kind_is_listed_once_and_each_has_a_line_above() -> None:
    kinds = typing.get_args(Event)
    assert {type(event) for event in LINES} == set(kinds)
    assert len({kind.kind for kind in kinds}) == len(kinds)


def test_events_can_be_neither_changed_nor_lost_on_the_way_to_another_process() -> None:
    for event in LINES:
        assert pickle.loads(pickle.dumps(event)) == event
        with pytest.raises(dataclasses.FrozenInstanceError):
            setattr(event, dataclasses.fields(event)[0].name, 1)
