"""Stage 1 as a thing of its own: trained once, given to other users."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from small_base import CONFIG, TASK, dataset, write_base

from perfit.errors import StoreError
from perfit.personalizer import PerFit
from perfit.run import RunDirectory

DATA = dataset()


@pytest.fixture(scope="module")
def perfit(tmp_path_factory: pytest.TempPathFactory) -> PerFit:
    return PerFit.from_pretrained(write_base(tmp_path_factory.mktemp("base")), CONFIG, task=TASK)


def test_users_start_from_the_given_shift_and_the_manifest_says_which(perfit: PerFit, tmp_path: Path) -> None:
    one, other = tmp_path / "one", tmp_path / "other"
    perfit.fit(DATA, run=one)
    shared, trained = perfit.collective, perfit.shift_of(DATA.users[0].id)
    # Without the others stage 1 would come out differently.
    again = replace(DATA, users=DATA.users[:1], others=())
    perfit.fit(again, run=other, collective=one)
    assert shared is not None
    assert perfit.collective is not None
    for mine, theirs in zip(perfit.collective, shared, strict=True):
        assert all(torch.equal(tensor, theirs.tensors()[name]) for name, tensor in mine.tensors().items())
    torch.testing.assert_close(perfit.shift_of(DATA.users[0].id).D, trained.D, rtol=1e-2, atol=1e-3)
    assert len(str(RunDirectory(other).manifest()["stage1_from"])) == 64
    assert RunDirectory(one).manifest()["stage1_from"] is None
    assert PerFit.from_pretrained(other).users() == [DATA.users[0].id]
    perfit.fit(again, run=other, collective=one)  # goes on, and finds it done
    with pytest.raises(StoreError, match="another collective shift"):
        perfit.fit(again, run=other)


@pytest.fixture(scope="module")
def one(perfit: PerFit, tmp_path_factory: pytest.TempPathFactory) -> Path:
    run = tmp_path_factory.mktemp("given") / "one"
    perfit.fit(DATA, run=run)
    return run


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"positions": "l2"}, "has positions l3, not l2; set positions to the same"),
        ({"layers": (0, 2)}, r"has layers \(0, 1\), not \(0, 2\); set layers to the same"),
        ({"collective_rank": 5}, "has collective_rank 4, not 5"),
        ({"personal_rank": 2}, "has personal_rank 3, not 2"),
    ],
)
def test_a_shift_that_edits_otherwise_is_refused(
    perfit: PerFit, one: Path, tmp_path: Path, change: dict[str, Any], said: str
) -> None:
    other = PerFit(perfit.backbone, TASK, CONFIG.with_options(**change), perfit.identity)
    with pytest.raises(StoreError, match=said):
        other.fit(DATA, run=tmp_path / "two", collective=one)
    assert not (tmp_path / "two").exists()


def test_a_shift_of_another_base_is_refused(perfit: PerFit, one: Path, tmp_path: Path) -> None:
    other = PerFit(perfit.backbone, TASK, CONFIG, replace(perfit.identity, weights="0" * 64))
    with pytest.raises(StoreError, match="its collective shift is of another base"):
        other.fit(DATA, run=tmp_path / "two", collective=one)
    assert not (tmp_path / "two").exists()
