"""What a run belongs to: precision and device as much as base, task and data; a hub's base at the commit it was trained on."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from small_base import dataset

from perfit import opening
from perfit.belonging import task_from_record, task_record
from perfit.errors import StoreError
from perfit.personalizer import PerFit
from perfit.run import RunDirectory, context_of

DATA = dataset()


@pytest.fixture
def run(scored: Path, tmp_path: Path) -> RunDirectory:
    shutil.copytree(scored / "run", tmp_path / "run")
    return RunDirectory(tmp_path / "run")


def rewritten(run: RunDirectory, **base: Any) -> None:
    """The manifest as a training elsewhere would have written it."""
    manifest = run.manifest()
    manifest["base"] |= base
    run._folder.write(manifest | {"context": context_of(manifest)})


@pytest.mark.parametrize(
    ("part", "value", "said"),
    [("dtype", "bfloat16", "dtype bfloat16, not float32"), ("device", "cuda", "device cuda, not cpu")],
)
def test_a_training_goes_on_in_the_same_precision_on_the_same_device(
    part: str, value: str, said: str, run: RunDirectory
) -> None:
    perfit = PerFit.from_pretrained(run.path)
    mine = perfit.belonging.context(DATA)
    perfit.fit(DATA, run=run.path)
    # The settings are the same: "auto" is another precision on another machine.
    rewritten(run, **{part: value})
    with pytest.raises(StoreError, match=f"holds another run, with {said}; choose another folder"):
        perfit.fit(DATA, run=run.path)
    assert run.context() != mine
    # A shift is of use on any device, and so are the users who were trained elsewhere.
    assert PerFit.from_pretrained(run.path).users() == perfit.users()


def test_checkpoints_belong_to_precision_and_device(scored: Path) -> None:
    perfit = PerFit.from_pretrained(scored / "run")
    mine, other = perfit.belonging, SimpleNamespace(**vars(perfit.backbone))
    seen = {mine.context(DATA)}
    for change in ({"dtype": "torch.bfloat16"}, {"device": SimpleNamespace(type="cuda")}):
        parts = {"name": other.name, "model": other.model, "layers_path": perfit.backbone.layers_path}
        parts |= {"dtype": perfit.backbone.dtype, "device": perfit.backbone.device}
        seen.add(replace(mine, backbone=SimpleNamespace(**{**parts, **change})).context(DATA))  # type: ignore[arg-type]
    assert len(seen) == 3


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch) -> list[dict[str, Any]]:
    """The options every base is loaded with, by a loader that has the revisions of a hub."""
    seen: list[dict[str, Any]] = []
    load: Callable[..., Any] = opening.load_base

    def loader(name: str, **options: Any) -> Any:
        seen.append({"name": name, **options})
        return load(name, **{key: value for key, value in options.items() if key != "revision"})

    monkeypatch.setattr(opening, "load_base", loader)
    return seen


def test_a_hubs_base_is_loaded_at_the_commit_the_run_was_trained_on(
    scored: Path, tmp_path: Path, asked: list[dict[str, Any]]
) -> None:
    from small_base import CONFIG, TASK

    perfit = PerFit.from_pretrained(scored / "base", CONFIG, task=TASK, revision="main")
    perfit.backbone.model.config._commit_hash = "0123abcd"  # as transformers notes where a base came from a hub
    perfit.fit(dataset(("anna",), others=1), run=tmp_path / "run")
    assert RunDirectory(tmp_path / "run").manifest()["base"]["revision"] == "0123abcd"
    PerFit.from_pretrained(tmp_path / "run")
    PerFit.from_pretrained(tmp_path / "run", revision="v2")
    PerFit.from_pretrained(tmp_path / "run", base_at=scored / "base")
    assert [options.get("revision") for options in asked] == ["main", "0123abcd", "v2", None]


def test_a_base_that_is_a_folder_has_no_revision(scored: Path, asked: list[dict[str, Any]]) -> None:
    assert RunDirectory(scored / "run").manifest()["base"]["revision"] is None
    PerFit.from_pretrained(scored / "run")
    assert "revision" not in asked[0]


def test_a_task_without_stop_strings_is_recorded_as_before_and_one_with_them_is_another() -> None:
    from small_base import TASK

    assert "stop" not in task_record(TASK)
    stopping = replace(TASK, stop=("\n", "note:"))
    assert task_record(stopping)["stop"] == ["\n", "note:"]
    for task in (TASK, stopping):
        assert task_from_record(json.loads(json.dumps(task_record(task)))) == task


def test_a_task_without_repetition_control_is_recorded_as_before() -> None:
    from small_base import TASK

    assert not {"repetition_penalty", "no_repeat_ngram", "chat"} & set(task_record(TASK))
    controlled = replace(TASK, repetition_penalty=1.2, no_repeat_ngram=3)
    assert (task_record(controlled)["repetition_penalty"], task_record(controlled)["no_repeat_ngram"]) == (1.2, 3)
    assert task_from_record(json.loads(json.dumps(task_record(controlled)))) == controlled


@pytest.mark.parametrize("way", [(), ("\n",)])
def test_stop_strings_that_came_or_went_make_another_task(way: tuple[str, ...], scored: Path, tmp_path: Path) -> None:
    from small_base import CONFIG, TASK

    def one(stop: tuple[str, ...]) -> PerFit:
        return PerFit.from_pretrained(scored / "base", CONFIG, task=replace(TASK, stop=stop))

    one(way).fit(dataset(("anna",)), run=tmp_path)
    other = () if way else ("\n",)
    with pytest.raises(StoreError, match=r"another task \(they differ in stop\)"):
        one(other).fit(dataset(("anna",)), run=tmp_path)
