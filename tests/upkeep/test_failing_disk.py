"""The n-th call to the disk fails, for every n: what was acknowledged is there, and no version is ever half there."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from failing import available, failing_disk
from flow_of_versions import found, published, rolled_back, shift
from small_base import person

from perfit.belonging import open_store
from perfit.errors import StoreError
from perfit.notebook.database import FILE, Notebook
from perfit.notebook.items import Items
from perfit.notebook.versions import Versions
from perfit.run import RunDirectory
from perfit.serving.publishing import Publication, publish
from perfit.upkeep.fsck import fsck

NAMES = ("personal.sqlite", FILE)


def history_put(run: RunDirectory) -> None:
    with Notebook(run.path) as notebook:
        who = person("new", history=8)
        Items(notebook).replace(type(who)("anna", who.history))


def deleted(run: RunDirectory) -> None:
    with Notebook(run.path) as notebook:
        notebook.erase("anna")
    with open_store(run, readonly=False) as store:
        store.delete("anna")


@pytest.fixture
def begun(run: RunDirectory, tmp_path: Path) -> tuple[RunDirectory, Path]:
    """Two versions, the second live, and a history; with a copy of both files to begin from."""
    with Notebook(run.path) as notebook:
        versions = Versions(notebook)
        notebook.erase("anna")
        Items(notebook).replace(person("anna", history=6))
        for seed in (1, 2):
            publish(run, versions, Publication("anna", shift(seed), {}, live=True), seconds=0)
    for name in NAMES:
        shutil.copy(run.path / name, tmp_path / name)
    return run, tmp_path


@pytest.mark.skipif(not available(), reason="SQLite's system calls cannot be replaced here")
@pytest.mark.parametrize("lasting", [False, True], ids=["once", "lasting"])
@pytest.mark.parametrize(
    "act",
    [
        history_put,
        published,
        rolled_back,
        pytest.param(deleted, marks=pytest.mark.slow),
    ],  # files written anew each time
    ids=lambda act: act.__name__,
)
def test_the_nth_call_fails(
    begun: tuple[RunDirectory, Path], act: Callable[[RunDirectory], None], lasting: bool
) -> None:
    run, copies = begun
    before = found(run)
    act(run)
    after = found(run)
    assert before != after
    failures: list[int] = []

    def is_right(acknowledged: bool) -> Any:
        """Every part as before or as after; as after where it was said to be done."""
        state = found(run)
        if acknowledged:
            return state == after
        live = state.live in (before.live, after.live)
        history = state.history in (before.history, after.history)
        versions = [one.items() <= state.versions.items() for one in (before.versions, after.versions)]
        # A kept version more is no harm: it is whole, and not live.
        more = set(state.versions) <= set(before.versions) | set(after.versions)
        return live and history and any(versions) and more

    with failing_disk() as disk:
        for n in range(1, 2000):
            for name in NAMES:
                shutil.copy(copies / name, run.path / name)
                (run.path / f"{name}-journal").unlink(missing_ok=True)
            disk.at, disk.lasting, disk.calls, disk.failed = n, lasting, 0, 0
            try:
                act(run)
                acknowledged = True
            except StoreError:
                acknowledged = False
            failed, disk.at = disk.failed, 0
            if not is_right(acknowledged):
                failures.append(n)
            if not failed:
                break
    assert failures == []
    assert 10 < n < 1999
    assert [one for one in fsck(run) if one.damage] == []
