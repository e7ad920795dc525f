"""One worker a run: who finds another one at work ends quietly, and any other fault is said in one line."""

from __future__ import annotations

import io
import os
from pathlib import Path

import pytest

from perfit.durable.lock import BusyError, locked
from perfit.errors import StoreError
from perfit.serving import worker
from perfit.serving.worker import WorkerOrders, main

LOCK = ".worker.lock"


@pytest.fixture(autouse=True)
def as_a_process(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr("sys.stdin", io.StringIO(WorkerOrders(str(tmp_path), 0.5, None, {}).text() + "\n"))
    monkeypatch.setattr(os, "nice", lambda by: by)


def test_a_second_worker_of_a_run_ends_before_it_does_anything(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(worker, "_work", lambda orders, parent: pytest.fail("it works beside another"))
    with locked(tmp_path / LOCK):
        assert main() == 0
    assert capsys.readouterr().out == ""


def test_the_lock_is_held_while_it_works_and_not_after(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    worked: list[str] = []

    def work(orders: WorkerOrders, parent: int) -> int:
        with pytest.raises(BusyError), locked(tmp_path / LOCK):
            worked.append("beside another")
        worked.append(orders.run)
        return 0

    monkeypatch.setattr(worker, "_work", work)
    assert main() == 0
    assert worked == [str(tmp_path)]
    with locked(tmp_path / LOCK):
        pass


@pytest.mark.parametrize("fault", [StoreError("the store is damaged; restore it"), BusyError("the run is in use")])
def test_a_fault_of_the_work_is_said_to_the_server(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], fault: Exception
) -> None:
    def work(orders: WorkerOrders, parent: int) -> int:
        raise fault

    monkeypatch.setattr(worker, "_work", work)
    assert main() == 1  # also where the work itself found something in use: that is no second worker
    assert capsys.readouterr().out == f"{fault}\n"
    with locked(tmp_path / LOCK):
        pass
