"""Frozen parts on disk are found again bit by bit; what is damaged or of another kind is computed again."""

from __future__ import annotations

import copy
import errno
import json
import os
import sqlite3
import tempfile
from pathlib import Path
from typing import Any

import pytest
import torch
from families import random_shift, tiny
from hypothesis import given, settings
from hypothesis import strategies as st
from learners import HEAD, LAYERS, RULE, some_rows
from torch import Tensor

from perfit.backbone.model import Backbone
from perfit.edits.positions import Positions
from perfit.errors import ConfigError
from perfit.training.frozen import FrozenRunner
from perfit.training.frozen_cache import FrozenCache, FrozenHome
from perfit.training.frozen_pass import FrozenPass, FrozenRow
from perfit.training.plain import PlainRunner
from perfit.training.rows import Runner, TokenRow

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


@pytest.mark.parametrize("shapes", ['{"satates": [1]}', "[" * 100_000, "[]", "swapped"])
def test_changed_shapes_are_found_and_computed_again(tmp_path: Path, passes: list[int], shapes: str) -> None:
    rows = some_rows(6, 0)
    plain = FrozenRunner(tiny("llama"), Positions.parse(RULE), LAYERS, shared=HEAD).prepare(rows)
    cached(tmp_path).prepare(rows)
    with sqlite3.connect(files(tmp_path, "rows.sqlite")[0]) as index:
        ((digest, text),) = index.execute("select digest, shapes from rows limit 1")
        # The same bytes in another order of axes.
        changed = json.dumps({name: shape[::-1] for name, shape in json.loads(text).items()})
        changed = changed if shapes == "swapped" else shapes
        index.execute("update rows set shapes = ? where digest = ?", (changed, digest))
    index.close()
    runner = cached(tmp_path)
    assert all(same(a, b) for a, b in zip(runner.prepare(rows), plain, strict=True))
    assert runner.cache is not None
    assert runner.cache.damaged == 1
    assert passes == [6, 6, 1]


def test_a_nested_about_is_passed_over(tmp_path: Path, passes: list[int]) -> None:
    rows = some_rows(6, 0)
    cached(tmp_path).prepare(rows)
    strange = tmp_path / "strange"
    strange.mkdir()
    (strange / "about.json").write_text('{"shared":' + "[" * 100_000)
    cached(tmp_path).prepare(rows)
    assert passes == [6, 0]


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


def loss_of(runner: Runner, rows: list[TokenRow], layers: tuple[int, ...] = LAYERS) -> Tensor:
    with torch.no_grad():
        return runner.answer_loss(runner.prepare(rows), [(1, 1)] * len(rows), random_shift(layers))


SHORT_AND_LONG = [TokenRow((*HEAD, *range(20, 20 + n)), (3, 2)) for n in (1, 2, 3, 5, 9)]
OFTEN_MET = ("f2+l1", "f2+l3", "f2+l6", "f5", "f1+l4", "all", "0,1,-3", "l2", "-2,-1")


@given(st.lists(st.sampled_from(OFTEN_MET), min_size=2, max_size=3), st.sampled_from([HEAD, HEAD[:2], ()]))
@settings(max_examples=20, deadline=None)
def test_rules_that_share_a_folder_each_equal_the_plain_runner(rules: list[str], shared: tuple[int, ...]) -> None:
    # Short prompts are edited inside the shared tokens by one rule and not by another: they start elsewhere.
    with tempfile.TemporaryDirectory() as folder:
        for rule in rules:
            got = loss_of(cached(Path(folder), rule, shared=shared), SHORT_AND_LONG)
            plain = PlainRunner(tiny("llama"), Positions.parse(rule))
            torch.testing.assert_close(got, loss_of(plain, SHORT_AND_LONG), rtol=2e-5, atol=2e-5)


@pytest.mark.parametrize(("layers", "shared"), [((3,), HEAD), (LAYERS, ())], ids=["the last layer", "no prefix"])
def test_steps_run_although_no_frozen_pass_ran(
    tmp_path: Path, passes: list[int], layers: tuple[int, ...], shared: tuple[int, ...]
) -> None:
    rows = some_rows(5, 0)
    first = loss_of(cached(tmp_path, layers=layers, shared=shared), rows, layers)
    assert torch.equal(loss_of(cached(tmp_path, layers=layers, shared=shared), rows, layers), first)
    assert passes == [5, 0]


def test_the_same_weights_under_other_settings_are_another_base(tmp_path: Path, passes: list[int]) -> None:
    rows = some_rows(4, 0)
    cached(tmp_path).prepare(rows)
    model = copy.deepcopy(tiny("llama").model)
    model.config.rms_norm_eps = 0.5
    other = FrozenRunner(
        Backbone(model, tiny("llama").tokenizer),
        Positions.parse(RULE),
        LAYERS,
        shared=HEAD,
        home=FrozenHome(tmp_path, BASE),
    )
    other.prepare(rows)
    assert passes == [4, 4]


def test_a_known_prefix_of_another_rule_is_not_taken(tmp_path: Path) -> None:
    cached(tmp_path, "f2+l3").prepare(some_rows(4, 0))
    longer = some_rows(1, 0)[0].prompt_ids[: len(HEAD) + 2]
    assert cached(tmp_path, "f1+l3", shared=longer).frozen.shared == longer


def test_an_index_that_another_process_locks_is_left_alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    cached(tmp_path).prepare(some_rows(4, 0))
    connect = sqlite3.connect
    monkeypatch.setattr(sqlite3, "connect", lambda path, timeout: connect(path, timeout=0.05))
    (path,) = files(tmp_path, "rows.sqlite")
    other = connect(path)
    other.execute("begin exclusive")
    assert len(cached(tmp_path).prepare(some_rows(4, 0))) == 4
    other.execute("rollback")
    other.close()
    assert connect(path).execute("select count(*) from rows").fetchone() == (4,)
    assert len(files(tmp_path, "*.frozen")) == 1


def test_an_index_with_one_torn_page_is_rebuilt(tmp_path: Path, passes: list[int]) -> None:
    rows = some_rows(120, 0)
    cached(tmp_path).prepare(rows)
    (path,) = files(tmp_path, "rows.sqlite")
    content = path.read_bytes()
    size = int.from_bytes(content[16:18], "big")
    for page in range(1, len(content) // size):  # each in turn: leaves of the table, and of its index
        path.write_bytes(content[: page * size] + b"\xa5" * size + content[(page + 1) * size :])
        assert len(cached(tmp_path).prepare(rows[:9])) == 9
        path.parent.mkdir(exist_ok=True)
        path.write_bytes(content)


def test_a_full_disk_costs_the_cache_and_not_the_training(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    rows = some_rows(6, 0)
    plain = FrozenRunner(tiny("llama"), Positions.parse(RULE), LAYERS, shared=HEAD).prepare(rows)

    def full(handle: int, begin: int, size: int) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(os, "posix_fallocate", full)
        assert all(same(a, b) for a, b in zip(cached(tmp_path).prepare(rows), plain, strict=True))
    assert files(tmp_path, "*.frozen") == []
    runner = cached(tmp_path)
    assert runner.cache is not None
    runner.cache.index.execute("pragma max_page_count=1")  # no room for one more entry
    many = some_rows(400, 1)
    assert [item.row for item in runner.prepare(many)] == many


def test_a_file_in_place_of_the_folder_is_refused(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("x")
    with pytest.raises(ConfigError, match=r"frozen_cache: .*file is not a folder"):
        FrozenHome(tmp_path / "file", BASE)
