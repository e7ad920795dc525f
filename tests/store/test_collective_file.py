"""Stage 1 at rest: a comparison's file and a run's hold the same, and one reader reads both."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from perfit.durable.tensors import read_tensors, write_tensors
from perfit.edits.shift import Shift, new_shift
from perfit.store.collective_file import Collective, collective_shifts, collective_tensors, encode_collective


def some() -> tuple[Shift, Shift]:
    generator = torch.Generator().manual_seed(3)
    first, second = (new_shift((2, rank, 16), init="loreft", generator=generator) for rank in (4, 3))
    first.b += 1
    return first, second


def same(one: tuple[Shift, Shift], two: tuple[Shift, Shift]) -> bool:
    return all(
        torch.equal(a, b)
        for mine, theirs in zip(one, two, strict=True)
        for a, b in zip(mine.tensors().values(), theirs.tensors().values(), strict=True)
    )


def test_one_reader_reads_what_runs_and_comparisons_keep(tmp_path: Path) -> None:
    of_run = Collective.of_file(encode_collective(some()))
    path = tmp_path / "collective.safetensors"
    write_tensors(path, collective_tensors(some()), {"pool": "x", "seconds": 1.0})
    of_comparison, kept = Collective.of_file(path.read_bytes()), read_tensors(path, mend="")
    assert kept is not None
    assert same(of_run.shifts, of_comparison.shifts)
    assert same(of_run.shifts, collective_shifts(kept.tensors))


def test_shifts_that_were_never_kept_stay_as_they_are() -> None:
    shifts = some()
    found = Collective.of_shifts(shifts)
    assert found.shifts is shifts
    assert found.file == encode_collective(shifts)


def test_a_file_that_lacks_a_tensor_is_none() -> None:
    tensors = collective_tensors(some())
    del tensors["second.D"]
    with pytest.raises(KeyError):
        collective_shifts(tensors)
