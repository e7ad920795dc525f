"""Trackers get the curves of both stages and the settings, and nothing that names a user."""

from __future__ import annotations

import sqlite3
import sys
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import pytest

from perfit.errors import ConfigError, MissingExtraError
from perfit.events import Event, Finished, PhaseEnded, Skipped, StageBegun, Stepped, Warned
from perfit.events.trackers import TensorBoard, check_tracker, open_tracker

STAGE_1 = StageBegun(stage=1, rows=4, rows_total=4)
STAGE_2 = StageBegun(stage=2, rows=4, users=2, rows_total=4)
STEP = Stepped(rows=4, learners=1, loss=2.5, seconds=0.5)
EVENTS: list[Event] = [
    *(STAGE_1, STEP, Finished(learner="Zanzibar", steps=1, losses=(2.5,)), PhaseEnded("stage 1", 0.5)),
    *(STAGE_2, STEP, Skipped("Zanzibar", "Zanzibar"), Warned("Zanzibar")),
    Stepped(rows=3, learners=2, loss=1.5, seconds=1.5),
    PhaseEnded("stage 2", 0.5),
]
LOGGED = [
    {"stage1/loss": 2.5, "stage1/learners": 1, "stage1/items_per_second": 8.0, "stage1/step": 1},
    {"stage2/loss": 2.5, "stage2/learners": 1, "stage2/items_per_second": 8.0, "stage2/step": 1},
    {"stage2/loss": 1.5, "stage2/learners": 2, "stage2/items_per_second": 2.0, "stage2/step": 2},
]
SETTINGS = {"task": "notes", "layers": [9, 10]}


def play(name: str, run: Path) -> None:
    tracker = open_tracker(name, run, SETTINGS)
    for event in EVENTS:
        tracker(event)
    tracker.close()


class Asked(ModuleType):
    """A module that remembers what it was asked for; ``said`` is printed on stdout as it begins."""

    Error = RuntimeError

    def __init__(self, name: str, said: str = "", problem: str | None = None):
        super().__init__(name)
        self.said, self.problem = said, problem
        self.settings: dict[str, Any] = {}
        self.begun: list[dict[str, Any]] = []
        self.logged: list[dict[str, float]] = []
        self.curves: list[tuple[str, str]] = []
        self.ended = 0

    def Settings(self, **settings: Any) -> SimpleNamespace:
        self.settings = settings
        return SimpleNamespace(**settings)

    def init(self, **how: Any) -> Asked:
        if self.problem is not None:
            raise self.Error(self.problem)
        print(self.said, end="")
        self.begun.append(how)
        return self

    def define_metric(self, name: str, step_metric: str) -> None:
        self.curves.append((name, step_metric))

    def log(self, numbers: dict[str, float]) -> None:
        self.logged.append(numbers)

    def finish(self) -> None:
        print(self.said, end="")
        self.ended += 1


@pytest.mark.parametrize("name", ["wandb", "trackio"])
def test_a_tracker_gets_curves_by_stage_and_the_settings(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    module = Asked(name)
    monkeypatch.setitem(sys.modules, name, module)
    play(name, tmp_path / "notes-1")
    assert module.logged == LOGGED
    (begun,) = module.begun
    assert (begun["project"], begun["name"], begun["config"]) == ("perfit", "notes-1", SETTINGS)
    assert module.ended == 1


def test_weights_and_biases_hear_neither_the_console_nor_the_command(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    module = Asked("wandb")
    monkeypatch.setitem(sys.modules, "wandb", module)
    play("wandb", tmp_path)
    assert module.settings == {"console": "off", "disable_git": True, "save_code": False, "x_disable_meta": True}
    assert module.begun[0]["settings"].console == "off"
    assert module.curves == [("stage1/*", "stage1/step"), ("stage2/*", "stage2/step")]


def test_without_an_account_the_way_out_is_said_in_one_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "wandb", Asked("wandb", problem="No API key.\nLine two"))
    with pytest.raises(ConfigError, match=r"^--track wandb: it cannot begin \(No API key\.\); .*WANDB_MODE=offline$"):
        open_tracker("wandb", tmp_path, SETTINGS)


def test_what_trackio_says_is_not_on_stdout(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setitem(sys.modules, "trackio", Asked("trackio", said="a project\n"))
    play("trackio", tmp_path)
    told = capsys.readouterr()
    assert (told.out, told.err) == ("", "a project\na project\n")


def test_a_tracker_that_there_is_not_is_refused() -> None:
    with pytest.raises(ConfigError, match=r"^--track: 'mlflow' is unknown; choose tensorboard, wandb, trackio$"):
        check_tracker("mlflow")


@pytest.mark.parametrize(
    ("name", "module"), [("tensorboard", "torch.utils.tensorboard"), ("wandb", "wandb"), ("trackio", "trackio")]
)
def test_without_its_package_the_extra_is_named(
    name: str, module: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, module, None)
    with pytest.raises(MissingExtraError, match=rf"perfit\[{name}\]"):
        open_tracker(name, tmp_path, SETTINGS)


def test_tensorboard_gets_loss_learners_and_rate_by_stage(tmp_path: Path) -> None:
    accumulator = pytest.importorskip("tensorboard.backend.event_processing.event_accumulator")
    board = TensorBoard(tmp_path)
    for event in [STAGE_1, STEP, PhaseEnded("stage 1", 0.5), STAGE_2, STEP, STEP, PhaseEnded("stage 2", 0.5)]:
        board(event)
    board.close()
    read = accumulator.EventAccumulator(str(tmp_path))
    read.Reload()
    assert {s.step: s.value for s in read.Scalars("stage1/loss")} == {1: 2.5}
    assert {s.step: s.value for s in read.Scalars("stage2/items_per_second")} == {1: 8.0, 2: 8.0}
    assert {s.step: s.value for s in read.Scalars("stage2/learners")} == {1: 1.0, 2: 1.0}


def test_the_real_wandb_offline_writes_no_users_id(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    wandb = pytest.importorskip("wandb")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("WANDB_MODE", "offline")
    play("wandb", tmp_path / "notes-1")
    wandb.teardown()  # as the end of the process does: what was logged is written
    (log,) = tmp_path.glob("wandb/offline-run-*/*.wandb")
    assert b"stage2/loss" in log.read_bytes()
    files = [path for path in tmp_path.rglob("*") if path.is_file()]
    assert [path for path in files if b"Zanzibar" in path.read_bytes()] == []


def test_the_real_trackio_writes_no_users_id(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("trackio")
    from trackio import sqlite_storage, utils

    for module in (utils, sqlite_storage):
        monkeypatch.setattr(module, "TRACKIO_DIR", tmp_path)
    play("trackio", tmp_path / "notes-1")
    with sqlite3.connect(tmp_path / "perfit.db") as database:
        rows = database.execute("select metrics from metrics order by step").fetchall()
    assert len(rows) == 3
    assert b"stage2/loss" in rows[-1][0]
    assert [path for path in tmp_path.rglob("*") if path.is_file() and b"Zanzibar" in path.read_bytes()] == []
