"""Folders and files of an earlier perfit (tests/fixtures/of_before): each is opened, or refused in one line; none is misread."""

from __future__ import annotations

import json
import re
import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pytest
import torch
from command_line import Outcome, Perfit
from safetensors.torch import load_file
from small_base import CONFIG, TASK, dataset, write_task

from perfit.analysis.deltas import DeltaVectors
from perfit.analysis.folder import alone_in
from perfit.backbone.fingerprint import base_identity
from perfit.backbone.load import load_base
from perfit.backbone.model import Backbone
from perfit.data.jsonl import write_jsonl
from perfit.errors import StoreError
from perfit.methods.method import Setting
from perfit.methods.work import Work
from perfit.run import RunDirectory
from perfit.store import ShiftStore

OF_BEFORE = Path(__file__).parents[1] / "fixtures" / "of_before"
DATA = dataset(("anna", "ben"), others=2, history=4, queries=2)
# Of fixtures/of_before/make.py.
OPTIONS = {
    **{name: value for name, value in CONFIG.as_dict().items() if not isinstance(value, dict) and value is not None},
    **{
        f"{stage}.{name}": value for stage in ("stage1", "stage2") for name, value in (("epochs", 2), ("batch_size", 4))
    },
    "collective_rank": 2,
    "personal_rank": 2,
    "users_together": 1,
}
SETTINGS = tuple(part for name, value in OPTIONS.items() for part in ("--set", f"{name}={json.dumps(value)}"))
METHODS = ("--methods", "base,perfit")
SPACE = "stage1.learning_rate: {low: 1.0e-4, high: 1.0e-2, log: true}\n"
TRAIN = "use the perfit that wrote it, or train again in another folder"
COMPARE = "use the perfit that wrote it, or compare again in another folder"
SEARCH = "use the perfit that wrote it, or search again in another folder"
ANALYSE = "use the perfit that wrote it, or analyse again in another folder"


@dataclass(frozen=True)
class Place:
    """A copy of the fixtures, and the data, task and base that they were made of."""

    old: Path
    data: Path
    common: tuple[str | Path, ...]


@pytest.fixture
def place(tmp_path: Path, base: Path) -> Place:
    shutil.copytree(OF_BEFORE, tmp_path / "old", ignore=shutil.ignore_patterns("*.py", "__pycache__"))
    data = tmp_path / "data.jsonl"
    write_jsonl(DATA, data)
    (tmp_path / "space.yaml").write_text(SPACE)
    return Place(tmp_path / "old", data, (data, "--task", write_task(tmp_path / "task.yaml"), "--base", base))


@pytest.fixture(scope="session")
def setting(base: Path, tmp_path_factory: pytest.TempPathFactory) -> Setting:
    loaded = load_base(base)
    backbone = Backbone(loaded.model, loaded.tokenizer, name=loaded.name)
    identity = base_identity(backbone.model, backbone.tokenizer)
    return Setting(backbone, identity, TASK, CONFIG, 0, tmp_path_factory.mktemp("work"))


def contents(folder: Path) -> dict[str, bytes]:
    """All files but locks."""
    return {
        path.relative_to(folder).as_posix(): path.read_bytes()
        for path in sorted(folder.rglob("*"))
        if path.is_file() and path.suffix != ".lock" and path.name != ".lock"
    }


Command = Callable[[Place], tuple[str | Path, ...]]
RUN: dict[str, Command] = {
    "train": lambda p: ("train", *p.common, *SETTINGS, "--run", p.old / "run"),
    "train, stage 1": lambda p: ("train", *p.common, *SETTINGS, "--run", p.old / "run_killed_in_stage_1"),
    "train, stage 2": lambda p: ("train", *p.common, *SETTINGS, "--run", p.old / "run_killed_in_stage_2"),
    "train on its stage 1": lambda p: (
        *("train", *p.common, *SETTINGS, "--run", p.data.parent / "new", "--collective", p.old / "run"),
    ),
    "evaluate": lambda p: ("evaluate", p.data, "--run", p.old / "run"),
    "generate": lambda p: ("generate", "river stone", "--run", p.old / "run", "--user", "anna"),
    "report": lambda p: ("report", p.old / "run"),
    "info": lambda p: ("info", p.old / "run"),
    "users list": lambda p: ("users", "list", "--run", p.old / "run"),
    "users add": lambda p: ("users", "add", "anna", "--data", p.data, "--run", p.old / "run"),
    "users export": lambda p: ("users", "export", "anna", p.data.parent / "anna", "--run", p.old / "run"),
    "users delete": lambda p: ("users", "delete", "anna", "--run", p.old / "run"),
}
REFUSED: dict[str, tuple[Command, str]] = {
    **{f"run: {name}": (command, TRAIN) for name, command in RUN.items()},
    "comparison": (lambda p: ("compare", *p.common, *SETTINGS, *METHODS, "--out", p.old / "comparison"), COMPARE),
    "comparison, killed": (
        lambda p: ("compare", *p.common, *SETTINGS, *METHODS, "--out", p.old / "comparison_killed"),
        COMPARE,
    ),
    "comparison: report": (lambda p: ("report", p.old / "comparison"), COMPARE),
    "search": (
        lambda p: (
            *("search", *p.common, *SETTINGS, "--trials", "3", "--out", p.old / "search"),
            *("--space", p.data.parent / "space.yaml"),
        ),
        SEARCH,
    ),
    "analysis": (lambda p: ("analyze", *p.common, "--out", p.old / "analysis", "--no-texts"), ANALYSE),
    "analysis: report": (lambda p: ("analyze", "--out", p.old / "analysis"), ANALYSE),
}


@pytest.mark.parametrize("name", REFUSED)
def test_a_folder_of_before_is_refused_in_one_line_that_says_what_to_do(
    place: Place, perfit: Perfit, name: str
) -> None:
    before = contents(place.old)
    command, way_out = REFUSED[name]
    found = perfit(*command(place))
    assert found.code == 1
    assert way_out in the_line(found)
    assert re.search(r"json: format (1|none) of an earlier perfit is not \d", found.err)
    assert contents(place.old) == before


def the_line(found: Outcome) -> str:
    """What a command ended with; everything else on stderr is no fault."""
    lines = [line for line in found.err.splitlines() if line.startswith("perfit: ")]
    assert len(lines) == 1, found.err
    assert "Traceback" not in found.err
    return lines[0]


@pytest.mark.parametrize(
    ("also", "way_out"),
    [("comparison", COMPARE), ("comparison_killed", COMPARE), ("analysis", ANALYSE), ("run", TRAIN)],
)
def test_erasing_stops_at_a_folder_of_before(
    place: Place, perfit: Perfit, tmp_path: Path, also: str, way_out: str
) -> None:
    run = tmp_path / "new" / "run"
    assert perfit("train", *place.common, *SETTINGS, "--run", run).code == 0
    before = contents(place.old)
    found = perfit("users", "delete", "anna", "--run", run, "--also", place.old / also)
    assert found.code == 1
    assert way_out in the_line(found)
    assert contents(place.old) == before
    assert "anna" in perfit("users", "list", "--run", run).out


@pytest.mark.parametrize("also", ["search", "frozen_cache", "analysis_killed"])
def test_erasing_reaches_states_of_before(place: Place, perfit: Perfit, tmp_path: Path, also: str) -> None:
    run = tmp_path / "new" / "run"
    assert perfit("train", *place.common, *SETTINGS, "--run", run).code == 0
    assert perfit("users", "delete", "anna", "--run", run, "--also", place.old / also).code == 0
    assert not [path for path in (place.old / also).rglob("*") if path.suffix in (".frozen", ".safetensors")]


def test_an_export_of_before_is_refused(place: Place, perfit: Perfit, tmp_path: Path) -> None:
    run = tmp_path / "run"
    assert perfit("train", *place.common, *SETTINGS, "--run", run).code == 0
    found = perfit("users", "import", place.old / "export.safetensors", "--user", "zoe", "--run", run)
    assert found.code == 1
    assert "has the old export format 1, which had no checksum; export the user again" in the_line(found)
    assert "zoe" not in perfit("users", "list", "--run", run).out


def test_a_store_of_before_opens_with_the_shifts_that_were_written(place: Place) -> None:
    exported = load_file(place.old / "export.safetensors")
    with ShiftStore.open(place.old / "run" / "personal.sqlite", readonly=True) as store:
        assert store.users() == ["anna", "ben"]
        assert store.verify() == []
        for name, tensor in store.get("anna").tensors.items():
            assert torch.equal(tensor, exported[name])
        assert not torch.equal(store.get("ben").tensors["D"], exported["D"])


def test_a_store_of_before_in_a_run_of_today_is_refused(place: Place, perfit: Perfit, tmp_path: Path) -> None:
    run = tmp_path / "run"
    assert perfit("train", *place.common, *SETTINGS, "--run", run).code == 0
    shutil.copy(place.old / "run" / "personal.sqlite", run / "personal.sqlite")
    found = perfit("evaluate", place.data, "--run", run)
    assert found.code != 0
    assert str(run / "personal.sqlite") in the_line(found)


@pytest.mark.parametrize("stage", [1, 2])
def test_a_checkpoint_of_before_in_a_run_of_today_is_refused(
    place: Place, perfit: Perfit, tmp_path: Path, stage: int
) -> None:
    run = tmp_path / "run"
    train = ("train", *place.common, *SETTINGS, "--run", run)
    assert perfit(*train).code == 0
    for path in ("training.jsonl", "personal.sqlite", *(["collective.safetensors"] if stage == 1 else [])):
        (run / path).unlink()
    old = place.old / f"run_killed_in_stage_{stage}" / "checkpoints" / f"stage{stage}.safetensors"
    shutil.copy(old, RunDirectory(run).checkpoint_path(stage))
    found = perfit(*train)
    assert found.code != 0
    assert "delete it to start this stage again" in the_line(found)


@pytest.mark.parametrize("what", ["collective-shift-ee10454264adeef5", "collective-lora-520005a4b7ddb3d9"])
def test_work_of_before_is_refused(place: Place, setting: Setting, what: str) -> None:
    work = Work(place.old / "comparison" / "shared" / "seed-0" / what, setting, what[:-17], {})
    for act in (work.collective, lambda: work.user(DATA.users[0]), lambda: work.fit_once(DATA.others, lambda pool: {})):
        with pytest.raises(StoreError, match=r"format 1 of an earlier perfit is not \d; .* or delete the folder"):
            act()


def test_scores_and_answers_of_before_in_a_run_of_today_are_refused(
    place: Place, perfit: Perfit, tmp_path: Path
) -> None:
    run = tmp_path / "run"
    assert perfit("train", *place.common, *SETTINGS, "--run", run).code == 0
    assert perfit("evaluate", place.data, "--run", run).code == 0
    now = (run / "metrics.json").read_bytes()
    shutil.copy(place.old / "run" / "metrics.json", run / "metrics.json")
    found = perfit("report", run)
    assert found.code != 0
    assert "metrics.json: has no checksum; " in the_line(found)
    (run / "metrics.json").write_bytes(now)
    shutil.copy(place.old / "run" / "predictions" / "personal.jsonl", run / "predictions" / "personal.jsonl")
    found = perfit("report", run)
    assert found.code != 0
    assert "personal.jsonl: line 1 has no checksum; " in the_line(found)


def test_frozen_parts_of_before_are_left_alone_and_computed_anew(place: Place, perfit: Perfit, tmp_path: Path) -> None:
    cache, before = place.old / "frozen_cache", contents(place.old / "frozen_cache")
    train = ("train", *place.common, *SETTINGS, "--memory", "2GB", "--run")
    assert perfit(*train, tmp_path / "with", "--frozen-cache", cache).code == 0
    assert perfit(*train, tmp_path / "without").code == 0
    assert {name: content for name, content in contents(cache).items() if name in before} == before
    assert len(list(cache.glob("*/about.json"))) == 2
    shifts = [(tmp_path / name / "collective.safetensors").read_bytes() for name in ("with", "without")]
    assert shifts[0] == shifts[1]


def same_vectors(one: Path, other: Path, group: str) -> bool:
    a, b = (DeltaVectors.load(out / "folders" / group) for out in (one, other))
    return torch.equal(a.means.nan_to_num(7.0), b.means.nan_to_num(7.0)) and torch.equal(a.counts, b.counts)


def test_an_analysis_under_way_keeps_others_out(place: Place, perfit: Perfit, tmp_path: Path) -> None:
    out, run = tmp_path / "analysis", tmp_path / "run"
    analyze = ("analyze", *place.common, "--no-texts", "--out", out)
    assert perfit("train", *place.common, *SETTINGS, "--run", run).code == 0
    assert perfit(*analyze).code == 0
    with alone_in(out):
        for command in (analyze, ("users", "delete", "anna", "--run", run, "--also", out)):
            found = perfit(*command)
            assert found.code == 1
            assert "another process analyses here; wait for it or choose another folder" in the_line(found)
    assert "anna" in perfit("users", "list", "--run", run).out


def test_parts_of_a_measurement_of_before_are_not_taken(place: Place, perfit: Perfit, tmp_path: Path) -> None:
    new, old = tmp_path / "new", place.old / "analysis_killed"
    analyze = ("analyze", *place.common, "--no-texts", "--out")
    for out in (new, old):
        assert perfit(*analyze, out).code == 0
    for group in ("test", "stage1"):
        assert same_vectors(old, new, group)


def test_a_part_of_before_under_todays_name_is_measured_again(place: Place, perfit: Perfit, tmp_path: Path) -> None:
    new, old = tmp_path / "new", place.old / "analysis_killed"
    analyze = ("analyze", *place.common, "--no-texts", "--out")
    assert perfit(*analyze, new).code == 0
    stamp = json.loads((new / "folders" / "test" / "recipe.json").read_text())["stamp"]
    (part,) = (old / "folders" / "test" / "parts").iterdir()
    part.rename(part.with_name(f"{stamp}-0000.safetensors"))
    found = perfit(*analyze, old)
    assert found.code == 0
    assert "1 damaged part of what was measured before: measured again" in found.err
    assert same_vectors(old, new, "test")
