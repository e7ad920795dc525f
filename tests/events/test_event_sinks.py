"""Where events go: a file, several places at once, stderr."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from perfit.events import (
    Event,
    EventFile,
    Finished,
    PhaseEnded,
    Planned,
    Skipped,
    StageBegun,
    Stepped,
    Warned,
    print_notices,
    tee,
)

EVENTS: list[Event] = [
    StageBegun(stage=1, rows=4, rows_total=4),
    Stepped(rows=4, learners=1, loss=2.5, seconds=0.5),
    Finished(learner="Ünï", steps=1, losses=(2.5,)),
    PhaseEnded("stage 1", 0.5),
]
LINES: list[dict[str, Any]] = [
    {"event": "stage", "stage": 1, "rows": 4, "rows_total": 4},
    {"event": "step", "rows": 4, "learners": 1, "loss": 2.5, "seconds": 0.5},
    {"event": "finished", "learner": "Ünï", "steps": 1, "losses": [2.5]},
    {"event": "phase", "phase": "stage 1", "seconds": 0.5},
]


def strict(line: str) -> Any:
    def refuse(name: str) -> None:
        raise AssertionError(name)

    return json.loads(line, parse_constant=refuse)


def test_a_file_gets_one_object_a_line_and_keeps_what_was_there(tmp_path: Path) -> None:
    path = tmp_path / "events.jsonl"
    for event in EVENTS:
        EventFile(path)(event)
    lines = [strict(line) for line in path.read_text(encoding="utf-8").splitlines()]
    times = [line.pop("time") for line in lines]
    assert times == sorted(times)
    assert lines == LINES


def test_a_loss_that_is_not_finite_is_null(tmp_path: Path) -> None:
    for loss in (float("nan"), float("inf")):
        EventFile(tmp_path / "e")(Stepped(rows=1, learners=1, loss=loss, seconds=0.5))
    assert [strict(line)["loss"] for line in (tmp_path / "e").read_text().splitlines()] == [None, None]


def test_a_line_that_a_kill_broke_off_spoils_no_other(tmp_path: Path) -> None:
    path = tmp_path / "events.jsonl"
    path.write_text('{"event": "st')
    file = EventFile(path)
    for event in EVENTS[:2]:
        file(event)
    broken, *lines = path.read_text(encoding="utf-8").splitlines()
    assert broken == '{"event": "st'
    assert [strict(line)["event"] for line in lines] == ["stage", "step"]


def test_without_its_folder_nothing_is_written(tmp_path: Path) -> None:
    EventFile(tmp_path / "none" / "events.jsonl")(EVENTS[0])
    assert not (tmp_path / "none").exists()


def test_all_listeners_hear_everything_in_order() -> None:
    heard: list[tuple[str, str]] = []
    listener = tee([lambda e: heard.append(("a", e.kind)), lambda e: heard.append(("b", e.kind))])
    for event in EVENTS[:2]:
        listener(event)
    assert heard == [("a", "stage"), ("b", "stage"), ("a", "step"), ("b", "step")]


def test_notices_are_warnings_and_skipped_users_and_nothing_else(capsys: pytest.CaptureFixture[str]) -> None:
    for event in [*EVENTS, Planned("memory 1 GiB"), Warned("look out"), Skipped("anna", "no history")]:
        print_notices(event)
    told = capsys.readouterr()
    assert told.err.splitlines() == ["perfit: look out", "perfit: skipped user anna: no history"]
    assert told.out == ""
