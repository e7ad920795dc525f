"""Frozen parts on disk are found again bit by bit; what is damaged or of another kind is computed again."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest
import torch
from families import tiny
from learners import HEAD, LAYERS, RULE, some_rows

from perfit.positions import Positions
from perfit.training.frozen import FrozenRunner
from perfit.training.frozen_cache import FrozenCache, FrozenHome
from perfit.training.frozen_pass import FrozenPass, FrozenRow

BASE = {"weights": "abc"}


def cached(folder: Path, rule: str = RULE, base: dict[str, Any] = BASE, **settings: Any) -> FrozenRunner:
    home = FrozenHome(folder, base)
    how: dict[str, Any] = {"layers": LAYERS, "shared": HEAD} | settings
    return FrozenRunner(tiny("llama"), Positions.parse(rule), home=home, **how)


def same(a: FrozenRow, b: FrozenRow) -> bool:
    def equal(x: torch.Tensor | None, y: torch.Tensor | None) -> bool:
        return (x is None and y is None) or (x is not None and y is not None and torch.equal(x, y))

    parts = all(equal(getattr(a, name), getattr(b, name)) for name in ("states", "prefix", "before"))
    return parts and (a.row, a.start, a.shared) == (b.row, b.start, b.shared)


@pytest.fixture
def passes(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Rows of every frozen pass that really runs."""
    seen: list[int] = []
    run = FrozenPass.run

    def count(self: FrozenPass, rows: Any) -> Any:
        seen.append(len(rows))
        return run(self, rows)

    monkeypatch.setattr(FrozenPass, "run", count)
    return seen


@pytest.mark.parametrize("rule", [RULE, "f2+l3"])
@pytest.mark.parametrize("keep_prefix", [True, False])
def test_a_second_run_finds_every_bit(tmp_path: Path, passes: list[int], rule: str, keep_prefix: bool) -> None:
    rows = some_rows(9, 0)
    plain = FrozenRunner(tiny("llama"), Positions.parse(rule), LAYERS, shared=HEAD, keep_prefix=keep_prefix)
    expected = plain.prepare(rows)
    for _ in range(2):
        got = cached(tmp_path, rule, keep_prefix=keep_prefix).prepare(rows)
        assert all(same(a, b) for a, b in zip(got, expected, strict=True))
    assert passes == [9, 9, 0]


def test_only_new_rows_are_computed(tmp_path: Path, passes: list[int]) -> None:
    rows = some_rows(9, 0)
    cached(tmp_path).prepare(rows[:5])
    done: list[int] = []
    got = cached(tmp_path).prepare([*rows, rows[0]], done.append)
    assert passes == [5, 4]
    assert sum(done) == 10
    assert [item.row for item in got] == [*rows, rows[0]]


@pytest.mark.parametrize(
    "other",
    [{"base": {"weights": "xyz"}}, {"rule": "l4"}, {"layers": (2,)}, {"shared": HEAD[:3]}, {"keep_prefix": False}],
    ids=str,
)
def test_another_kind_shares_nothing(tmp_path: Path, passes: list[int], other: dict[str, Any]) -> None:
    rows = some_rows(4, 0)
    cached(tmp_path).prepare(rows)
    cached(tmp_path, **other).prepare(rows)
    assert passes == [4, 4]


def test_a_longer_common_prefix_takes_the_known_one(tmp_path: Path, passes: list[int]) -> None:
    rows = some_rows(4, 0)
    cached(tmp_path).prepare(rows)
    one = cached(tmp_path, shared=rows[0].prompt_ids[: len(HEAD) + 2])
    assert one.frozen.shared == HEAD
    one.prepare(rows[:1])
    assert passes == [4, 0]


def files(folder: Path, pattern: str) -> list[Path]:
    return sorted(folder.glob(f"*/{pattern}"))


def test_flipped_bits_are_found_and_computed_again(tmp_path: Path, passes: list[int]) -> None:
    rows = some_rows(6, 0)
    expected = FrozenRunner(tiny("llama"), Positions.parse(RULE), LAYERS, shared=HEAD).prepare(rows)
    cached(tmp_path).prepare(rows)
    (file,) = files(tmp_path, "*.frozen")
    content = bytearray(file.read_bytes())
    content[100] ^= 1
    file.write_bytes(content)
    runner = cached(tmp_path)
    got = runner.prepare(rows)
    assert runner.cache is not None
    assert runner.cache.damaged == 1
    assert passes == [6, 6, 1]
    assert all(same(a, b) for a, b in zip(got, expected, strict=True))
    assert cached(tmp_path).prepare(rows)
    assert passes == [6, 6, 1, 0]


@pytest.mark.parametrize("spoil", ["cut", "gone", "index", "about"])
def test_a_damaged_folder_is_rebuilt(tmp_path: Path, passes: list[int], spoil: str) -> None:
    rows = some_rows(6, 0)
    plain = FrozenRunner(tiny("llama"), Positions.parse(RULE), LAYERS, shared=HEAD).prepare(rows)
    cached(tmp_path).prepare(rows)
    (file,) = files(tmp_path, "*.frozen")
    if spoil == "cut":
        os.truncate(file, 50)
    elif spoil == "gone":
        file.unlink()
    elif spoil == "index":
        files(tmp_path, "rows.sqlite")[0].write_bytes(b"not a database at all" * 400)
    else:
        files(tmp_path, "about.json")[0].write_text('{"base": "another"}')
    runner = cached(tmp_path)
    assert all(same(a, b) for a, b in zip(runner.prepare(rows), plain, strict=True))
    assert runner.cache is not None
    assert runner.cache.damaged > 0
    cached(tmp_path).prepare(rows)
    assert passes == [6, 6, 6, 0]


def test_a_killed_writer_leaves_nothing_that_is_used(tmp_path: Path, passes: list[int]) -> None:
    rows = some_rows(6, 0)
    runner = cached(tmp_path)
    assert runner.cache is not None
    runner.cache._add = lambda shelf: None  # type: ignore[method-assign]  # as if killed before the index was written
    runner.prepare(rows)
    assert len(files(tmp_path, "*.frozen")) == 1
    cached(tmp_path).prepare(rows[:2])
    assert passes == [6, 2]
    assert len(files(tmp_path, "*.frozen")) == 1, "the orphan is gone, the new file is there"


def test_a_second_writer_goes_without(tmp_path: Path) -> None:
    from filelock import FileLock

    runner = cached(tmp_path)
    assert isinstance(runner.cache, FrozenCache)
    with FileLock(runner.cache.path / "write.lock"):
        assert len(runner.prepare(some_rows(3, 0))) == 3
    assert files(tmp_path, "*.frozen") == []
