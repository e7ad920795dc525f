"""The memory of a training is planned from base and settings alone, and too little is refused beforehand."""

from __future__ import annotations

import mmap
import re
import sys
from pathlib import Path

import pytest
import torch
from families import tiny
from hypothesis import given
from hypothesis import strategies as st
from learners import HEAD, LAYERS, RULE, some_rows

from perfit.config import PerFitConfig
from perfit.edits.positions import Positions
from perfit.errors import ConfigError
from perfit.training.frozen_pass import FrozenPass
from perfit.training.keeping import choose_keeping
from perfit.training.memory import held_bytes, memory_budget
from perfit.training.summary import RowSummary


@given(st.floats(1.0, 64.0), st.integers(1, 256))
def test_the_uses_make_up_the_budget(gib: float, slots: int) -> None:
    plan = memory_budget(tiny("llama"), PerFitConfig(layers=LAYERS, memory_gib=gib), slots)
    uses = (plan.base, plan.libraries, plan.shifts, plan.step, plan.frozen)
    assert all(use > 0 for use in uses)
    assert sum(uses) == pytest.approx(gib * 2**30)


def test_too_little_is_refused_with_the_least_that_goes() -> None:
    with pytest.raises(ConfigError, match=r"memory_gib: 0\.1 is too little") as refused:
        memory_budget(tiny("llama"), PerFitConfig(layers=LAYERS, memory_gib=0.1), 1)
    least = float(re.search(r"at least ([\d.]+)", str(refused.value))[1])  # type: ignore[index]
    memory_budget(tiny("llama"), PerFitConfig(layers=LAYERS, memory_gib=least), 1)


@given(st.floats(0.05, 30))
def test_the_size_named_in_the_refusal_goes(libraries: float) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("perfit.training.memory._LIBRARIES", libraries * 2**30)
        with pytest.raises(ConfigError) as refused:
            memory_budget(tiny("llama"), PerFitConfig(layers=LAYERS, memory_gib=0.01), 1)
        for said in (r"at least ([\d.]+)", r"--memory ([\d.]+)GiB"):
            least = float(re.search(said, str(refused.value))[1])  # type: ignore[index]
            memory_budget(tiny("llama"), PerFitConfig(layers=LAYERS, memory_gib=least), 1)


def test_where_nothing_tells_of_memory_training_goes_on(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Path, "read_text", lambda path: (_ for _ in ()).throw(FileNotFoundError()))
    monkeypatch.setitem(sys.modules, "resource", None)  # as on Windows
    assert held_bytes(torch.device("cpu")) == 0


def test_held_bytes_see_new_memory() -> None:
    before = held_bytes(torch.device("cpu"))
    with mmap.mmap(-1, 2**26, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS) as more:  # no allocator has it already
        more.write(b"x" * 2**26)
        assert held_bytes(torch.device("cpu")) - before > 2**25


def frozen(rule: str = RULE) -> FrozenPass:
    return FrozenPass(tiny("llama"), Positions.parse(rule), LAYERS, shared=HEAD)


@pytest.mark.parametrize(
    ("memory", "rate", "free", "keep", "says"),
    [
        (1e9, 1e9, 1, True, "kept in memory"),
        (0, 1.0, 10**12, True, "in a file"),
        (0, 1e18, 10**12, False, "computed again"),
        (0, 1.0, 1, False, "no room"),
    ],
)
def test_keys_are_kept_where_that_costs_least(memory: float, rate: float, free: int, keep: bool, says: str) -> None:
    choice = choose_keeping(frozen(), RowSummary.of([some_rows(9, 0)]), memory, rate, free)
    assert choice.keep_prefix == keep
    assert says in choice.text


def test_edits_at_the_first_tokens_keep_no_keys() -> None:
    assert choose_keeping(frozen("f2+l3"), RowSummary.of([some_rows(9, 0)]), 0, 1.0, 1).keep_prefix


def test_the_estimate_of_kept_keys_is_not_below_what_rows_hold() -> None:
    rows, how = some_rows(20, 1), frozen()
    held = sum(how.size(row) for row in rows)
    text = choose_keeping(how, RowSummary.of([rows]), 1e12, 1.0).text
    said = float(re.search(r"([\d.]+) GiB", text)[1]) * 2**30  # type: ignore[index]
    assert said <= held + 0.01 * 2**30
