"""Where training events go."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from perfit.errors import MissingExtraError
from perfit.training.events import EventFile, TensorBoard, tee

EVENTS: list[dict[str, Any]] = [
    {"event": "stage", "stage": 1, "rows": 4},
    {"event": "step", "rows": 4, "learners": 1, "loss": 2.5, "seconds": 0.5},
    {"event": "finished", "learner": "Ünï", "losses": (2.5,)},
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
    assert lines == json.loads(json.dumps(EVENTS))


def test_a_loss_that_is_not_finite_is_null(tmp_path: Path) -> None:
    for loss in (float("nan"), float("inf")):
        EventFile(tmp_path / "e")({"event": "step", "loss": loss})
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
    emit = tee([lambda e: heard.append(("a", e["event"])), lambda e: heard.append(("b", e["event"]))])
    for event in EVENTS[:2]:
        emit(event)
    assert heard == [("a", "stage"), ("b", "stage"), ("a", "step"), ("b", "step")]


def test_tensorboard_gets_loss_learners_and_rate_by_stage(tmp_path: Path) -> None:
    accumulator = pytest.importorskip("tensorboard.backend.event_processing.event_accumulator")
    board = TensorBoard(tmp_path)
    for event in [*EVENTS, {**EVENTS[0], "stage": 2}, EVENTS[1], EVENTS[1], EVENTS[3]]:
        board(event)
    board.close()
    read = accumulator.EventAccumulator(str(tmp_path))
    read.Reload()
    assert {s.step: s.value for s in read.Scalars("stage1/loss")} == {1: 2.5}
    assert {s.step: s.value for s in read.Scalars("stage2/items_per_second")} == {1: 8.0, 2: 8.0}
    assert {s.step: s.value for s in read.Scalars("stage2/learners")} == {1: 1.0, 2: 1.0}


def test_without_tensorboard_the_extra_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import sys

    monkeypatch.setitem(sys.modules, "torch.utils.tensorboard", None)
    with pytest.raises(MissingExtraError, match=r"perfit\[tensorboard\]"):
        TensorBoard(tmp_path)
