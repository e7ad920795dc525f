"""Progress: counts, rates, and what an earlier command did."""

from __future__ import annotations

import io
from typing import Any

import pytest
from rich.console import Console

from perfit.cli import show
from perfit.cli.show import Screen
from perfit.events import Resumed, StageBegun, Stepped

STAGE = StageBegun(stage=2, users=5, rows=100, rows_total=1000)
RESUMED = Resumed(taken=3, learners=2, rows_done=900)


class Clock:
    now = 0.0

    def monotonic(self) -> float:
        return self.now


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    clock = Clock()
    monkeypatch.setattr(show, "time", clock)
    return clock


def screen_on(terminal: bool) -> tuple[Screen, io.StringIO]:
    screen, out = Screen(), io.StringIO()
    screen.console = Console(file=out, force_terminal=terminal, width=200, highlight=False, markup=False)
    return screen, out


def step(rows: int) -> dict[str, Any]:
    return Stepped(rows=rows, learners=2, loss=1.0, seconds=1.0)


def test_rows_of_before_the_stop_count_but_make_no_rate(clock: Clock) -> None:
    screen, out = screen_on(False)
    clock.now = 100.0
    for event in (STAGE, RESUMED):
        screen(event)
    clock.now += 25
    screen(step(50))
    assert "stage 2: 5 users: 950/1000 items, 2.0 items/s, 25 s left" in out.getvalue()
    assert "users done 1/5" in out.getvalue()


def test_a_terminals_bar_starts_where_the_stop_was(clock: Clock) -> None:
    screen, _ = screen_on(True)
    for event in (STAGE, RESUMED):
        screen(event)
    assert screen.bar is not None
    assert screen.bar.progress is not None
    task = screen.bar.progress.tasks[0]
    assert (task.completed, task.total) == (900, 1000)
    clock.now = 5.0
    screen(step(10))
    assert (task.completed, task.fields["rate"]) == (910, "2.0 items/s")
    screen.close()


def test_a_total_may_become_known_later(clock: Clock) -> None:
    screen, out = screen_on(False)
    with screen.counting("file", 0, "bytes") as advance:
        clock.now = 25.0
        advance(50)
        screen.expect(100)
        clock.now = 50.0
        advance(25)
    first, second = out.getvalue().splitlines()
    assert first == "file: 50 bytes, 2.0 bytes/s"
    assert second == "file: 75/100 bytes, 1.5 bytes/s, 17 s left"
