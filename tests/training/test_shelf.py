"""Frozen parts that do not fit into memory lie in a file, and nothing else changes."""

from __future__ import annotations

import tempfile
from collections import namedtuple
from pathlib import Path

import pytest
import torch
from families import tiny
from learners import HEAD, LAYERS, RULE, runner, some_rows

from perfit.edits.positions import Positions
from perfit.errors import PerfitError
from perfit.training.frozen import FrozenRunner
from perfit.training.shelf import Shelf


@pytest.mark.parametrize("rule", [RULE, "f2+l3"])
def test_rows_on_disk_equal_rows_in_memory(rule: str) -> None:
    rows = some_rows(7, 0)
    small = FrozenRunner(tiny("llama"), Positions.parse(rule), LAYERS, shared=HEAD, memory=0)
    for mine, theirs in zip(small.prepare(rows), runner(rule=rule).prepare(rows), strict=True):
        assert torch.equal(mine.states, theirs.states)
        assert (mine.prefix is None) == (theirs.prefix is None)
        assert mine.prefix is None or torch.equal(mine.prefix, theirs.prefix)


def test_the_size_of_a_row_is_what_it_holds() -> None:
    rows, how = some_rows(7, 0), runner()
    for row, item in zip(rows, how.prepare(rows), strict=True):
        assert how.size(row) == item.states.nbytes + (0 if item.prefix is None else item.prefix.nbytes)


def test_the_file_leaves_no_name_behind(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    shelf = Shelf(4096, memory=0)
    kept = shelf.keep(torch.arange(8.0))
    assert list(tmp_path.iterdir()) == []
    assert torch.equal(kept, torch.arange(8.0))


def test_a_full_disk_is_an_error_before_it_is_a_crash(monkeypatch: pytest.MonkeyPatch) -> None:
    usage = namedtuple("usage", "total used free")
    monkeypatch.setattr("shutil.disk_usage", lambda folder: usage(10, 5, 5))
    with pytest.raises(PerfitError, match="set TMPDIR"):
        Shelf(4096, memory=0)
