"""The n-th call to the disk fails, for every n: what was acknowledged is there, and no version is ever half there."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import torch
from failing import available, failing_disk
from small_base import person

from perfit.belonging import open_store
from perfit.edits.shift import new_shift, to_stored
from perfit.errors import StoreError
from perfit.notebook.database import FILE, Notebook
from perfit.notebook.items import Items
from perfit.notebook.versions import Versions
from perfit.run import RunDirectory
from perfit.serving.publishing import Publication, publish
from perfit.store.digest import shift_digest
from perfit.store.payload import StoredShift
from perfit.upkeep.fsck import fsck

NAMES = ("personal.sqlite", FILE)


def shift(seed: int) -> StoredShift:
    made = to_stored(new_shift((2, 3, 32), init="loreft", generator=torch.Generator().manual_seed(seed)))
    return StoredShift({name: tensor.bfloat16() for name, tensor in made.items()}, {"seed": seed})


@dataclass(frozen=True)
class State:
    """What a reader finds afterwards."""

    live: str | None
    versions: dict[int, str]
    history: tuple[str, ...]


def found(run: RunDirectory) -> State:
    with open_store(run, readonly=False) as store, Notebook(run.path) as notebook:
        notebook.finish_erasing()
        mine, versions = store.find("anna"), Versions(notebook)
        kept = {one.number: shift_digest(versions.stored("anna", one.number).tensors) for one in versions.of("anna")}
        assert kept == {one.number: one.digest for one in versions.of("anna")}
        both = Items(notebook).of("anna")
        texts = tuple(item.fields["text"] for item in (*both.training.history, *both.held_out.history))
        assert store.get("ben").tensors
    return State(None if mine is None else shift_digest(mine.tensors), kept, texts)


def history_put(run: RunDirectory) -> None:
    with Notebook(run.path) as notebook:
        who = person("new", history=8)
        Items(notebook).replace(type(who)("anna", who.history))


def published(run: RunDirectory) -> None:
    with Notebook(run.path) as notebook:
        publish(run, Versions(notebook), Publication("anna", shift(9), {}, live=True), seconds=0)


def rolled_back(run: RunDirectory) -> None:
    with Notebook(run.path) as notebook:
        versions = Versions(notebook)
        publish(run, versions, Publication("anna", versions.stored("anna", 1), {}, live=True), seconds=0)


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
