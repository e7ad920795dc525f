"""A run's record of training: who was trained and still is, whose run it is, and what it cannot be."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
from small_base import dataset

from perfit.belonging import open_store
from perfit.durable.ledger import Ledger
from perfit.errors import DamagedError, StoreError
from perfit.personalizer import PerFit
from perfit.run import RunDirectory
from perfit.training.record import TrainingRecord


@pytest.fixture
def run(scored: Path, tmp_path: Path) -> RunDirectory:
    shutil.copytree(scored / "run", tmp_path / "run")
    return RunDirectory(tmp_path / "run")


def again(run: RunDirectory) -> dict[str, str | None]:
    results = PerFit.from_pretrained(run.path).fit(dataset(), run=run.path, listener=lambda event: None)
    return {trained.name: trained.problem for trained in results}


def test_who_was_deleted_is_not_counted_as_trained(run: RunDirectory) -> None:
    assert again(run) == dict.fromkeys(("anna", "ben", "cleo"))
    with open_store(run, readonly=False) as store:
        store.delete("ben")  # of the store alone: nothing else of the run knows
    assert again(run) == {
        "anna": None,
        "cleo": None,
        "ben": "its shift was deleted from the store; perfit users add trains it again",
    }
    with open_store(run) as store:
        assert store.users() == ["anna", "cleo"]


def test_who_was_erased_is_not_told_of_at_all(run: RunDirectory) -> None:
    PerFit.from_pretrained(run.path).erase("ben")
    assert again(run) == {"anna": None, "cleo": None}
    assert set(TrainingRecord(run).users) == {"anna", "cleo"}


def test_the_record_of_another_run_is_refused(run: RunDirectory) -> None:
    ledger = Ledger(run.training_path, mend="")
    first, *others = ledger.records
    run.training_path.unlink()
    Ledger(run.training_path, mend="").append([{**first, "run": "0" * 64}, *others])
    with pytest.raises(StoreError, match=r"training\.jsonl: is another run's") as caught:
        TrainingRecord(run)
    assert caught.type is StoreError


@pytest.mark.parametrize("value", [{"user": "zoe"}, {"user": "zoe", "steps": "many", "losses": 3, "problem": None}])
def test_a_line_that_is_no_users_is_damage(value: dict[str, object], run: RunDirectory) -> None:
    Ledger(run.training_path, mend="").append([value])
    with pytest.raises(DamagedError, match=r"training\.jsonl: a value is missing or wrong"):
        TrainingRecord(run)


def test_a_line_torn_by_a_kill_is_told_again(run: RunDirectory) -> None:
    whole = run.training_path.read_bytes()
    run.training_path.write_bytes(whole[:-7])
    assert not TrainingRecord(run).complete
    assert again(run) == dict.fromkeys(("anna", "ben", "cleo"))
    assert TrainingRecord(run).complete
    assert run.training_path.read_bytes() == whole
