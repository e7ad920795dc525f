"""Whatever a method learnt lies in its folder: a second one trains nothing, and a killed one goes on."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from method_world import ALL, ANNA, BEN, CONFIG, OTHERS, asks, make, ready, setting

from perfit.data.schema import HistoryItem, User
from perfit.durable.records import read_record, write_record
from perfit.durable.tensors import write_tensors
from perfit.errors import DamagedError, StoreError
from perfit.events import Event, Finished, Stepped
from perfit.methods import tuning
from perfit.methods.method import Method
from perfit.methods.work import user_file
from perfit.training import stages

USERS = [ANNA, BEN]
WITH_STAGE_1 = ("lora-c", "oppu", "perfit-stage-1", "perfit", "lora-c-all+perfit-p", "lora-c-partial+perfit-p")
Events = list[dict[str, Any]]


class Killer:
    """Stops everything at the n-th event of a kind."""

    def __init__(self, kind: str, at: int):
        self.kind, self.left = kind, at

    def __call__(self, event: Event) -> None:
        self.left -= event.kind == self.kind
        if self.left == 0:
            raise KeyboardInterrupt


def both_stages(method: Method) -> None:
    method.fit(OTHERS)
    method.adapt(USERS)


def files(folder: Path) -> dict[Path, bytes]:
    return {path: path.read_bytes() for path in folder.rglob("*.safetensors")}


@pytest.mark.parametrize("name", [name for name in ALL if name not in ("base", "rag-2", "rag-4", "floor-nearest")])
def test_a_second_method_on_the_same_folder_trains_nothing_and_answers_the_same(name: str, tmp_path: Path) -> None:
    first = ready(name, setting(tmp_path), USERS)
    expected, written = first.predict(asks(*USERS)), files(tmp_path)
    events: Events = []
    second = ready(name, setting(tmp_path, listener=events.append), USERS)
    assert second.predict(asks(*USERS)) == expected
    assert files(tmp_path) == written
    assert not [event for event in events if event.kind in ("step", "stage", "prepare")]
    assert second.cost() == first.cost()


@pytest.mark.parametrize("name", ["lora-p", "pag", "style-vector"])
def test_killed_between_users_it_goes_on_with_the_next(name: str, tmp_path: Path) -> None:
    whole = ready(name, setting(tmp_path / "whole"), USERS)
    killed = make(name, setting(tmp_path / "killed", listener=Killer("finished", 2)))
    with pytest.raises(KeyboardInterrupt):
        both_stages(killed)
    events: Events = []
    again = ready(name, setting(tmp_path / "killed", listener=events.append), USERS)
    assert [event.learner for event in events if isinstance(event, Finished)] == ["ben"]
    assert again.predict(asks(*USERS)) == whole.predict(asks(*USERS))


@pytest.mark.parametrize("name", ["lofit", "oppu", "perfit"])
def test_killed_in_the_middle_of_training_it_ends_with_the_same_bits(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tuning, "_CHECKPOINT_SECONDS", 0.0)
    monkeypatch.setattr(stages, "_CHECKPOINT_SECONDS", 0.0)
    steps: Events = []
    whole = ready(name, setting(tmp_path / "whole", listener=steps.append), USERS)
    count = len([event for event in steps if isinstance(event, Stepped)])
    for at in sorted({2, count}):
        folder = tmp_path / f"killed at {at}"
        killed = make(name, setting(folder, listener=Killer("step", at)))
        with pytest.raises(KeyboardInterrupt):
            both_stages(killed)
        again: Events = []
        ready(name, setting(folder, listener=again.append), USERS)
        assert len([event for event in again if isinstance(event, Stepped)]) <= count - at + 1
        assert learnt(folder) == learnt(tmp_path / "whole")
    assert whole.predict(asks(ANNA)) == make(name, setting(folder)).predict(asks(ANNA))


def learnt(folder: Path) -> dict[str, bytes]:
    """All files of tensors, without what they say about time."""
    found = {}
    for path, content in files(folder).items():
        head = int.from_bytes(content[:8], "little")
        found[str(path.relative_to(folder))] = content[8 + head :]
    return found


@pytest.mark.parametrize("name", ["lora-p", "perfit", "pag"])
def test_the_folder_of_another_seed_or_setting_is_refused(name: str, tmp_path: Path) -> None:
    ready(name, setting(tmp_path), [ANNA])
    others = {
        "seed": setting(tmp_path, seed=1),
        "settings": setting(tmp_path, max_length=90),
        "base": setting(tmp_path, "qwen2"),
    }
    for what, other in others.items():
        method = make(name, other)
        method.fit(OTHERS)
        with pytest.raises(StoreError, match=f"holds work with another {what}; choose another folder, or delete it"):
            method.adapt([ANNA])


def test_work_that_does_not_say_what_decides_it_is_taken_or_refused_as_a_whole(tmp_path: Path) -> None:
    ready("lora-p", setting(tmp_path), [ANNA])
    (path,) = tmp_path.rglob("manifest.json")
    whole = read_record(path, missing="", mend="")
    write_record(path, {name: value for name, value in whole.items() if name != "parts"})
    with pytest.raises(StoreError, match="holds work with another base, task, setting or seed; choose another folder"):
        make("lora-p", setting(tmp_path, seed=1)).adapt([ANNA])
    make("lora-p", setting(tmp_path)).adapt([ANNA])
    assert read_record(path, missing="", mend="") == whole


@pytest.mark.parametrize("name", ["lora-c", "perfit"])
def test_a_first_stage_of_other_users_is_refused(name: str, tmp_path: Path) -> None:
    ready(name, setting(tmp_path), [])
    with pytest.raises(StoreError, match="was trained on other users"):
        make(name, setting(tmp_path)).fit([*OTHERS, ANNA])


@pytest.mark.parametrize("name", ["lora-p", "style-vector", "reft-p"])
def test_a_user_whose_history_changed_is_refused(name: str, tmp_path: Path) -> None:
    method = ready(name, setting(tmp_path), [ANNA])
    grown = User(ANNA.id, (*ANNA.history, HistoryItem("new", dict(ANNA.history[0].fields))), ANNA.queries)
    for use in (method.adapt, lambda users: method.predict(asks(*users))):
        with pytest.raises(StoreError, match="adapted to user 'anna' with another history"):
            use([grown])


@pytest.mark.parametrize("name", ["pag", "style-vector", "lora-p", "lofit", "oppu", "reft-p", "perfit"])
def test_answering_for_a_user_never_adapted_to_is_refused(name: str, tmp_path: Path) -> None:
    method = ready(name, setting(tmp_path), [ANNA])
    with pytest.raises(StoreError, match="not adapted to user 'ben'; call adapt first"):
        method.predict(asks(BEN))


@pytest.mark.parametrize("name", WITH_STAGE_1)
def test_answering_without_a_first_stage_is_refused(name: str, tmp_path: Path) -> None:
    with pytest.raises(StoreError, match="not done; call fit first"):
        make(name, setting(tmp_path)).predict(asks(ANNA))


@pytest.mark.parametrize("name", ["pag", "style-vector", "lora-p", "lofit", "perfit", "perfit-stage-2"])
def test_a_user_without_a_history_is_named_and_answered_without_one(name: str, tmp_path: Path) -> None:
    nobody = User("nobody", (), ANNA.queries)
    method = make(name, setting(tmp_path))
    method.fit(OTHERS)
    assert method.adapt([ANNA, nobody]) == {"nobody": "has nothing to train on (empty history)"}
    texts = method.predict(asks(ANNA, nobody))
    fallback = "perfit-stage-1" if name == "perfit" else "base"
    bare = ready(fallback, setting(tmp_path / "bare"), [])
    assert texts[2:] == bare.predict(asks(nobody))


def test_a_damaged_file_and_a_foreign_manifest_are_said(tmp_path: Path) -> None:
    method = ready("lora-p", setting(tmp_path), [ANNA])
    (path,) = (tmp_path / "own" / "users").iterdir()
    path.write_bytes(path.read_bytes()[:100])
    with pytest.raises(StoreError, match="is damaged; delete it"):
        method.predict(asks(ANNA))
    (tmp_path / "own" / "manifest.json").write_text("{")
    with pytest.raises(StoreError, match="cannot be read as JSON; delete the folder"):
        method.adapt([ANNA])


def flipped(path: Path, place: int) -> None:
    content = bytearray(path.read_bytes())
    content[place] ^= 1
    path.write_bytes(bytes(content))


def test_a_flipped_byte_of_any_file_of_work_is_refused(tmp_path: Path) -> None:
    method = ready("perfit", setting(tmp_path), USERS)
    written = [path for path in tmp_path.rglob("*") if path.suffix in (".json", ".safetensors")]
    assert len(written) == 5  # two manifests, stage 1, two users
    for path in written:
        whole = path.read_bytes()
        for place in range(len(whole) // 20, len(whole), len(whole) // 20):
            flipped(path, place)
            with pytest.raises(DamagedError) as caught:
                method.predict(asks(*USERS))
            assert len(str(caught.value).splitlines()) == 1
            path.write_bytes(whole)
    assert method.predict(asks(*USERS))


@pytest.mark.parametrize(
    ("name", "file"), [("lofit", ""), ("oppu", ""), ("perfit", "personal.safetensors"), ("perfit", "users.json")]
)
def test_a_flipped_byte_of_training_under_way_is_refused(
    name: str, file: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tuning, "_CHECKPOINT_SECONDS", 0.0)
    monkeypatch.setattr(stages, "_CHECKPOINT_SECONDS", 0.0)
    make(name, setting(tmp_path)).fit(OTHERS)
    with pytest.raises(KeyboardInterrupt):
        both_stages(make(name, setting(tmp_path, listener=Killer("step", 2))))
    (path,) = (path for path in (tmp_path / "own" / "checkpoints").iterdir() if path.name.endswith(file))
    whole = path.read_bytes()
    for place in (9, len(whole) // 3, len(whole) - 12):
        flipped(path, place)
        with pytest.raises(
            DamagedError, match=r"; delete it to train (this )?anew|to start this stage again"
        ) as caught:
            both_stages(make(name, setting(tmp_path)))
        assert len(str(caught.value).splitlines()) == 1
        path.write_bytes(whole)
    both_stages(make(name, setting(tmp_path)))


def test_a_checkpoint_of_other_parameters_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "c.safetensors"
    write_tensors(path, {"value.x": torch.zeros(2)}, {"context": "mine", "step": 1, "losses": []})
    state = tuning._State({"x": torch.zeros(2, requires_grad=True)}, CONFIG.stage2)
    with pytest.raises(DamagedError, match="lacks what a checkpoint holds; delete it"):
        state.load(path, "mine")
    assert state.step == 0


def test_a_users_file_in_anothers_place_is_refused(tmp_path: Path) -> None:
    method = ready("lofit", setting(tmp_path), USERS)
    place = tmp_path / "own" / "users"
    anna, ben = (place / user_file(user.id) for user in USERS)
    kept = anna.read_bytes()
    anna.write_bytes(ben.read_bytes())
    with pytest.raises(StoreError, match="is of other work; delete it"):
        method.predict(asks(ANNA))
    anna.write_bytes(kept)
    assert method.predict(asks(ANNA))


def test_work_of_before_there_were_checksums_is_said(tmp_path: Path) -> None:
    method = ready("lora-p", setting(tmp_path), [ANNA])
    path = tmp_path / "own" / "manifest.json"
    old = {name: value for name, value in json.loads(path.read_text()).items() if name != "sha256"}
    path.write_text(json.dumps(old | {"format": 1}))
    with pytest.raises(
        StoreError, match=r"format 1 of an earlier perfit is not 2; .* or delete the folder to work anew"
    ):
        method.adapt([ANNA])


@pytest.mark.parametrize("less", [{"users_together": 1}, {"step_tokens": 30}, {"memory_gib": 7.0}])
def test_what_was_killed_for_memory_goes_on_with_less(
    less: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(stages, "_CHECKPOINT_SECONDS", 0.0)
    whole: Events = []
    ready("perfit", setting(tmp_path / "whole", listener=whole.append), USERS)
    first = make("perfit", setting(tmp_path / "killed"))
    first.fit(OTHERS)
    kept = files(tmp_path / "killed")
    killed = make("perfit", setting(tmp_path / "killed", listener=Killer("step", 2)))
    with pytest.raises(KeyboardInterrupt):
        both_stages(killed)
    again: Events = []
    method = ready("perfit", setting(tmp_path / "killed", listener=again.append, **less), USERS)
    assert [event.kind for event in again].count("found") == 1
    assert kept.items() <= files(tmp_path / "killed").items()
    for path, content in learnt(tmp_path / "killed").items():
        assert len(content) == len(learnt(tmp_path / "whole")[path])
    assert method.predict(asks(*USERS)) == make("perfit", setting(tmp_path / "whole")).predict(asks(*USERS))


def test_two_processes_do_not_work_in_one_folder(tmp_path: Path) -> None:
    method = make("lora-p", setting(tmp_path))
    with method.stage2.work.locked(), pytest.raises(StoreError, match="another process works here"):  # type: ignore[attr-defined]
        make("lora-p", setting(tmp_path)).adapt([ANNA])


def test_users_are_no_file_names(tmp_path: Path) -> None:
    odd = User("../../odd\nuser", ANNA.history, ANNA.queries)
    ready("lora-p", setting(tmp_path), [odd])
    assert not [path for path in tmp_path.rglob("*") if "odd" in path.name]
    assert len(list((tmp_path / "own" / "users").iterdir())) == 1
