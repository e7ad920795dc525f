"""Stage 1 as a thing of its own: trained once, given to other users."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

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


def test_a_shift_that_edits_otherwise_is_refused(perfit: PerFit, tmp_path: Path) -> None:
    perfit.fit(DATA, run=tmp_path / "one")
    other = PerFit(perfit.backbone, TASK, CONFIG.with_options(positions="l2"), perfit.identity)
    with pytest.raises(StoreError, match="has positions l3, not l2; set positions to the same"):
        other.fit(DATA, run=tmp_path / "two", collective=tmp_path / "one")
    assert not (tmp_path / "two").exists()
