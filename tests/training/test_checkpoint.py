from __future__ import annotations

from collections.abc import Sequence
from functools import cache
from pathlib import Path

import pytest
import torch
from learners import assert_bitwise, learner, new_loop, runner
from safetensors.torch import save_file

from perfit.config import StageConfig
from perfit.errors import StoreError
from perfit.training.checkpoint import load_loop, save_loop
from perfit.training.evidence import Evidence
from perfit.training.learner import Learner, Trained
from perfit.training.loop import Loop
from perfit.training.rows import Runner

CONFIG = StageConfig(epochs=2, batch_size=4, learning_rate=1e-2)
CONTEXT = {"run": "one", "layers": [1, 2]}


def learners() -> list[Learner]:
    """Six users for two slots, one of them without rows."""
    return [learner(name, count) for name, count in (("a", 9), ("b", 3), ("none", 0), ("c", 6), ("d", 1), ("e", 5))]


@cache
def how() -> Runner:
    return runner()


def fresh(evidence: Evidence | None = None) -> Loop:
    return new_loop(CONFIG, 2, how(), evidence=evidence)


def run(loop: Loop, people: Sequence[Learner], folder: Path | None = None) -> tuple[list[Trained], list[int]]:
    """Results in order, and how many there were at each checkpoint."""
    done: list[Trained] = []
    counts: list[int] = []

    def after_step() -> None:
        if folder is not None:
            save_loop(loop, folder / f"{len(counts)}.safetensors", context=CONTEXT)
        counts.append(len(done))

    for trained in loop.run(people, after_step):
        done.append(trained)
    return done, counts


@pytest.mark.parametrize("evidence", [None, Evidence(share=0.3, strength=0.75, prior=0.0)], ids=["plain", "trial"])
def test_a_run_resumed_at_any_step_ends_with_the_same_bits(tmp_path: Path, evidence: Evidence | None) -> None:
    people = learners()
    whole, counts = run(fresh(evidence), people, tmp_path)
    assert len(counts) > 8
    assert len(whole) == 6
    for place, finished in enumerate(counts):
        loop = fresh(evidence)
        assert load_loop(loop, tmp_path / f"{place}.safetensors", people, context=CONTEXT)
        rest, _ = run(loop, people)
        assert [t.name for t in whole[:finished] + rest] == [t.name for t in whole]
        for got, expected in zip(rest, whole[finished:], strict=True):
            assert (got.steps, got.problem, got.strength) == (expected.steps, expected.problem, expected.strength)
            assert_bitwise(got, expected)


def test_a_resumed_run_counts_memory_as_before(tmp_path: Path) -> None:
    loop = fresh()
    path = tmp_path / "c.safetensors"
    held: list[list[int]] = []

    def after_step() -> None:
        save_loop(loop, path, context=CONTEXT)
        held.append([group.held for group in loop.groups])
        again = fresh()
        assert load_loop(again, path, learners(), context=CONTEXT)
        assert [group.held for group in again.groups] == held[-1]
        assert [p.step for p in again.active] == [p.step for p in loop.active]

    for _ in loop.run(learners()[:2], after_step):
        pass
    assert held


def stop_midway(path: Path) -> None:
    loop = fresh()
    saved: list[int] = []

    def after_step() -> None:
        if len(saved) == 2:
            save_loop(loop, path, context=CONTEXT)
        saved.append(1)

    for _ in loop.run(learners(), after_step):
        pass


def test_no_checkpoint_or_one_of_another_context_is_not_taken(tmp_path: Path) -> None:
    path = tmp_path / "c.safetensors"
    assert not load_loop(fresh(), path, learners(), context=CONTEXT)
    stop_midway(path)
    loop = fresh()
    before = {name: t.detach().clone() for name, t in loop.trained[0].shift.tensors().items()}
    assert not load_loop(loop, path, learners(), context={**CONTEXT, "run": "two"})
    assert loop.taken == 0
    assert not loop.active
    assert all(torch.equal(t, before[name]) for name, t in loop.trained[0].shift.tensors().items())
    assert load_loop(loop, path, learners(), context=CONTEXT)


@pytest.mark.parametrize("share", [0.0, 0.001, 0.1, 0.5, 0.999])
def test_a_cut_checkpoint_is_named_as_damaged(tmp_path: Path, share: float) -> None:
    path = tmp_path / "c.safetensors"
    stop_midway(path)
    content = path.read_bytes()
    path.write_bytes(content[: int(len(content) * share)])
    with pytest.raises(StoreError, match="is damaged; delete it"):
        load_loop(fresh(), path, learners(), context=CONTEXT)


@pytest.mark.parametrize("metadata", [None, {"other": "x"}, {"notes": "{"}, {"notes": "{}", "sha256": "nonsense"}])
def test_a_file_that_is_no_checkpoint_is_named_as_damaged(tmp_path: Path, metadata: dict[str, str] | None) -> None:
    path = tmp_path / "c.safetensors"
    save_file({"slots": torch.tensor([1])}, path, metadata=metadata)
    with pytest.raises(StoreError, match="delete it to start this stage again"):
        load_loop(fresh(), path, learners(), context=CONTEXT)


@pytest.mark.parametrize("place", [0.3, 0.6, 0.9])
def test_a_flipped_bit_among_the_numbers_is_noticed(tmp_path: Path, place: float) -> None:
    path = tmp_path / "c.safetensors"
    stop_midway(path)
    content = bytearray(path.read_bytes())
    header = 8 + int.from_bytes(content[:8], "little")
    content[header + int((len(content) - header) * place)] ^= 1
    path.write_bytes(content)
    with pytest.raises(StoreError, match="is not as it was written"):
        load_loop(fresh(), path, learners(), context=CONTEXT)
