"""A run that was killed for its memory goes on with less of it: who is through stays, the rest comes to the same."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from small_base import CONFIG, TASK, dataset, write_base
from test_resume import StoppedError, stop_at

from perfit.belonging import open_store
from perfit.durable.ledger import Ledger
from perfit.edits.shift import from_stored
from perfit.events import Event, Finished
from perfit.personalizer import PerFit
from perfit.run import RunDirectory
from perfit.training import stages
from perfit.training.record import TrainingRecord

# Of different lengths, so that company changes who is done when.
DATA = dataset(("anna", "ben", "cleo", "dora"), history=6)
MORE = {"users_together": 3, "step_tokens": 200}
LESS: list[dict[str, Any]] = [{"users_together": 1, "step_tokens": 200}, {"step_tokens": 90}, {"memory_gib": 1.5}]


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_base(tmp_path_factory.mktemp("base"))


def fit(base: Path, run: Path, settings: dict[str, Any], listener: Any = lambda event: None) -> list[tuple[str, Any]]:
    perfit = PerFit.from_pretrained(base, CONFIG.with_options(**settings), task=TASK)
    return [(trained.name, trained.problem) for trained in perfit.fit(DATA, run=run, listener=listener)]


def shifts(run: Path) -> dict[str, torch.Tensor]:
    """W, R and b of everybody, and of both shared shifts."""
    found = {}
    with open_store(RunDirectory(run)) as store:
        for user in store.users():
            shift = from_stored(store.get(user).tensors)
            found[user] = torch.cat([(shift.D + shift.R).flatten(), shift.R.flatten(), shift.b.flatten()])
    for number, shift in enumerate(RunDirectory(run).collective().shifts):
        found[f"shared {number}"] = torch.cat([(shift.D + shift.R).flatten(), shift.R.flatten(), shift.b.flatten()])
    return found


@pytest.fixture(scope="module")
def whole(base: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, torch.Tensor]:
    run = tmp_path_factory.mktemp("whole")
    fit(base, run, MORE)
    return shifts(run)


def same(run: Path, whole: dict[str, torch.Tensor]) -> None:
    found = shifts(run)
    assert found.keys() == whole.keys()
    for name, values in found.items():
        # The order of sums, and bf16 in the store.
        torch.testing.assert_close(
            values, whole[name], rtol=1.6e-2, atol=2e-3, msg=lambda text, who=name: f"{who}: {text}"
        )


@pytest.mark.parametrize("less", LESS)
@pytest.mark.parametrize("place", [2, 12])
def test_stage_1_stopped_goes_on_with_less(
    less: dict[str, Any],
    place: int,
    base: Path,
    whole: dict[str, torch.Tensor],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(stages, "_CHECKPOINT_SECONDS", -1.0)
    with pytest.raises(StoppedError):
        fit(base, tmp_path, MORE, stop_at(place))
    fit(base, tmp_path, MORE | less)
    same(tmp_path, whole)


@pytest.mark.parametrize("less", LESS)
def test_who_is_through_stays_and_who_is_not_trains_with_less(
    less: dict[str, Any],
    base: Path,
    whole: dict[str, torch.Tensor],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    # A checkpoint after every step, so that there is one of users under way.
    monkeypatch.setattr(stages, "_CHECKPOINT_SECONDS", -1.0)
    events: list[dict[str, Any]] = []

    def listener(event: Event) -> None:
        events.append(event)
        kinds = [one.kind for one in events if getattr(one, "learner", None) != "collective"]
        # The second step after somebody was through: by then they are kept, and a checkpoint has the others.
        if "finished" in kinds and kinds[kinds.index("finished") :].count("step") == 2:
            raise StoppedError

    with pytest.raises(StoppedError):
        fit(base, tmp_path, MORE, listener)
    run = RunDirectory(tmp_path)
    through = list(TrainingRecord(run).users)
    assert 0 < len(through) < len(DATA.users)
    assert run.checkpoint_path(2).exists()
    with open_store(run) as store:
        before = {user: store.get(user) for user in through}
    events.clear()
    assert fit(base, tmp_path, MORE | less, events.append) == [
        (user, None) for user in [*through, *(user.id for user in DATA.users if user.id not in through)]
    ]
    again = [event.learner for event in events if isinstance(event, Finished)]
    assert sorted(again) == sorted({user.id for user in DATA.users} - set(through))
    with open_store(run) as store:
        for user, kept in before.items():
            assert all(torch.equal(tensor, store.get(user).tensors[name]) for name, tensor in kept.tensors.items())
    same(tmp_path, whole)
    assert run.manifest()["config"]["users_together"] == (MORE | less)["users_together"]
    resources = [record["resources"] for record in Ledger(run.training_path, mend="").records if "resources" in record]
    assert [found["users_together"] for found in resources] == [3, (MORE | less)["users_together"]]
