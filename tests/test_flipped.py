"""One changed byte of a run or an export is found, or changes nothing (``benchmarks/flips.py`` does it thousands of times)."""

from __future__ import annotations

import contextlib
import sqlite3
from collections import Counter
from collections.abc import Iterator

import pytest
from flipped import DETECTED, HARMLESS, SILENT, TRACEBACK, UNREAD, Flip, Flips, one_base
from small_base import CONFIG, TASK, dataset, write_base

from perfit.data import read_dataset
from perfit.data.jsonl import write_jsonl
from perfit.evaluation.evaluate import evaluate
from perfit.events import EventFile
from perfit.personalizer import PerFit
from perfit.run import RunDirectory


@pytest.fixture(scope="module")
def flips(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Flips]:
    folder = tmp_path_factory.mktemp("flips")
    run, data = folder / "run", folder / "data.jsonl"
    write_jsonl(dataset(("anna", "ben", "cleo"), history=3), data)
    with one_base():
        perfit = PerFit.from_pretrained(write_base(folder / "base"), CONFIG, task=TASK)
        read = read_dataset(data)
        perfit.fit(read, run=run, frozen_cache=folder / "frozen", listener=EventFile(run / "events.jsonl"))
        perfit.erase("cleo")
        evaluate(perfit, read.users, run=RunDirectory(run))
        # Free answers come from the very shifts that label scores come from, and take as long as all else.
        yield Flips(run, data, folder, without=("generate",))


def test_no_byte_changes_unnoticed(flips: Flips) -> None:
    found, bad = Counter[str](), []
    for flip in flips.drawn(60, seed=2):
        kind, how = flips.judge(flip)
        found[kind] += 1
        if kind in (SILENT, TRACEBACK):
            bad.append((kind, flip, how))
    assert not bad
    assert found[DETECTED] > 30  # the others lie in pages, events and unused bytes of the store
    assert set(found) <= {DETECTED, HARMLESS, UNREAD}


def test_no_byte_of_a_shift_in_the_store_changes_unnoticed(flips: Flips) -> None:
    path = flips.whole / "run" / "personal.sqlite"
    with contextlib.closing(sqlite3.connect(path)) as database:
        (payload,) = database.execute("SELECT payload FROM users WHERE user_id = 'ben'").fetchone()
    start = path.read_bytes().index(payload)  # small enough for one page
    for place in range(start, start + len(payload), len(payload) // 6):
        assert flips.judge(Flip("run/personal.sqlite", place, 1)) == (DETECTED, "")
