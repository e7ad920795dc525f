"""Killed anywhere, by an exception or by kill -9: the same call goes on and ends with the same bytes."""

from __future__ import annotations

import json
import os
import sqlite3
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from small_base import CONFIG, TASK, dataset, write_base, write_task

from perfit.data.jsonl import write_jsonl
from perfit.errors import StoreError
from perfit.events import Event, Finished, Listener, nobody
from perfit.personalizer import PerFit
from perfit.store import ShiftStore
from perfit.training import stages

NAMES = ("anna", "ben", "cleo", "dora", "emil", "fritz", "gina")
DATA = dataset(NAMES, history=6)
SETTINGS = {"users_together": 3, "step_tokens": 200}


class StoppedError(Exception):
    """Stands for whatever ends a process."""


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_base(tmp_path_factory.mktemp("base"))


def fit(base: Path, run: Path, listener: Listener = nobody) -> list[str]:
    perfit = PerFit.from_pretrained(base, CONFIG.with_options(**SETTINGS), task=TASK)
    return [trained.name for trained in perfit.fit(DATA, run=run, listener=listener)]


@pytest.fixture(scope="module")
def whole(base: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    run = tmp_path_factory.mktemp("whole")
    fit(base, run)
    return run


def result(run: Path) -> dict[str, Any]:
    """All that a run's numbers are, and the names of its files."""
    with sqlite3.connect(run / "personal.sqlite") as database:
        users = dict(database.execute("SELECT user_id, payload FROM users"))
        meta = dict(database.execute("SELECT user_id, meta FROM users"))
    files = sorted(str(p.relative_to(run)) for p in run.rglob("*") if p.is_file() and p.name != "events.jsonl")
    contents = {name: (run / name).read_bytes() for name in ("collective.safetensors", "training.jsonl")}
    return {"users": users, "meta": meta, "files": files, **contents}


def told(run: Path) -> list[str]:
    """Users of the training's record, in order."""
    lines = (run / "training.jsonl").read_text().splitlines()
    return [record["user"] for record in map(json.loads, lines) if "user" in record]


def stop_at(place: int, kind: str | None = None) -> Callable[[dict[str, Any]], None]:
    """Listener that ends the training at its event number ``place`` (of one kind)."""
    count = 0

    def listener(event: Event) -> None:
        nonlocal count
        count += kind is None or event.kind == kind
        if count == place:
            raise StoppedError

    return listener


def test_a_run_stopped_at_any_event_ends_with_the_same_bytes(
    base: Path, whole: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    wanted, events = result(whole), list[dict[str, Any]]()
    fit(base, tmp_path / "counted", events.append)
    finished = [place for place, event in enumerate(events, start=1) if isinstance(event, Finished)]
    # By turns with a checkpoint after every step and with none at all; and where users were just done, with either.
    steps, never = -1.0, 1e9
    cases = {(place, (steps, never)[turn % 2]) for turn, place in enumerate(range(1, len(events), 6))}
    for place, interval in sorted(cases | {(finished[2], steps), (finished[-2], never)}):
        monkeypatch.setattr(stages, "_CHECKPOINT_SECONDS", interval)
        run = tmp_path / f"{place} {interval}"
        with pytest.raises(StoppedError):
            fit(base, run, stop_at(place))
        if (run / "personal.sqlite").exists():
            with ShiftStore.open(run / "personal.sqlite", readonly=True) as store:
                assert store.verify() == []
        assert fit(base, run) == told(whole)
        assert result(run) == wanted, (place, interval)


def test_a_run_stopped_again_and_again_ends_with_the_same_bytes(
    base: Path, whole: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(stages, "_CHECKPOINT_SECONDS", -1.0)
    for _ in range(300):
        try:
            fit(base, tmp_path, stop_at(14))
        except StoppedError:
            continue
        break
    else:
        pytest.fail("the run makes no progress")
    assert result(tmp_path) == result(whole)


def test_what_a_kill_leaves_of_finished_stages_is_tidied_up(base: Path, whole: Path, tmp_path: Path) -> None:
    fit(base, tmp_path)
    for stage in ("stage1.safetensors", "stage2.safetensors"):
        (tmp_path / "checkpoints" / f".{stage}.0123456789abcdef.part").write_bytes(b"left")
        (tmp_path / "checkpoints" / stage).write_bytes(b"left")
    fit(base, tmp_path)
    assert result(tmp_path) == result(whole)


def test_what_a_kill_leaves_of_a_store_in_the_making_is_tidied_up(base: Path, whole: Path, tmp_path: Path) -> None:
    with pytest.raises(StoppedError):
        fit(base, tmp_path, stop_at(3, "step"))
    (tmp_path / ".personal.sqlite.0123456789abcdef.part").write_bytes(b"left")
    fit(base, tmp_path)
    assert result(tmp_path) == result(whole)


def test_a_damaged_checkpoint_is_one_line_with_the_way_out(
    base: Path, whole: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(stages, "_CHECKPOINT_SECONDS", -1.0)
    with pytest.raises(StoppedError):
        fit(base, tmp_path, stop_at(3, "step"))
    (path,) = (tmp_path / "checkpoints").iterdir()
    path.write_bytes(path.read_bytes()[:-9])
    with pytest.raises(StoreError, match="delete it to start this stage again"):
        fit(base, tmp_path)
    path.unlink()
    fit(base, tmp_path)
    assert result(tmp_path) == result(whole)


def test_training_killed_with_signal_9_ends_with_the_same_bytes(base: Path, tmp_path: Path) -> None:
    write_jsonl(dataset(NAMES, others=3, history=10), tmp_path / "data.jsonl")
    task = write_task(tmp_path / "task.yaml")
    settings = {name: value for name, value in CONFIG.as_dict().items() if not isinstance(value, dict)}
    settings |= SETTINGS | {"stage1.epochs": 2, "stage2.epochs": 2, "stage1.batch_size": 4, "stage2.batch_size": 4}
    pairs = [part for name, value in settings.items() for part in ("--set", f"{name}={json.dumps(value)}")]
    arguments = ["train", str(tmp_path / "data.jsonl"), "--task", str(task), "--base", str(base), *pairs]
    done = subprocess.run(
        [sys.executable, Path(__file__).with_name("killed_training.py"), json.dumps(arguments), tmp_path, "24", "0"],
        capture_output=True,
        text=True,
        timeout=300,
        env=os.environ | {"OMP_NUM_THREADS": "1"},
        check=False,
    )
    assert done.returncode == 0, done.stderr[-2000:]
    report = json.loads(done.stdout)
    assert report["kills"] >= 20
    assert set(report["seen"]) - {"nothing", "stage 1"}, report
    wanted = result(tmp_path / "whole")
    assert len(wanted["users"]) == len(NAMES)
    for number in range(report["runs"]):
        run = tmp_path / f"killed-{number}"
        assert result(run) == wanted, run
        for line in (run / "events.jsonl").read_text().splitlines():
            assert json.loads(line)["event"]
