"""A run directory: documented by itself, whole or refused in one line."""

from __future__ import annotations

import json
import os
import shutil
from pathlib import Path
from typing import Any
from unittest import mock

import pytest
import torch
from small_base import CONFIG, TASK, dataset, write_base

from perfit.belonging import open_store
from perfit.durable.records import sealed
from perfit.edits.shift import new_shift
from perfit.errors import DamagedError, StoreError
from perfit.evaluation.evaluate import evaluate
from perfit.events import EventFile
from perfit.personalizer import PerFit
from perfit.run import RunDirectory, versions
from perfit.store.collective_file import Collective, encode_collective

MANIFEST: dict[str, Any] = {"base": {"name": "b"}, "task": {}, "config": {}}


def written(content: dict[str, Any]) -> bytes:
    """A manifest whose checksum holds."""
    return json.dumps(sealed(content)).encode()


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> RunDirectory:
    """A run after training and evaluation."""
    folder = tmp_path_factory.mktemp("run")
    perfit = PerFit.from_pretrained(write_base(tmp_path_factory.mktemp("base")), CONFIG, task=TASK)
    data = dataset()
    perfit.fit(data, run=folder, listener=EventFile(folder / "events.jsonl"))
    evaluate(perfit, data.users, run=RunDirectory(folder))
    return RunDirectory(folder)


def named(text: str) -> set[str]:
    """Files named in the first column of a table."""
    rows = [line.split("|")[1] for line in text.splitlines() if line.startswith("| `")]
    return {name for row in rows for name in row.split("`")[1::2]}


def test_the_readme_names_every_file_and_nothing_that_cannot_be(run: RunDirectory) -> None:
    found = {str(path.relative_to(run.path)) for path in run.path.rglob("*") if path.is_file()}
    names = named((run.path / "README.md").read_text())
    unnamed = {name for name in found if not any(Path(name).match(pattern) for pattern in names)}
    assert not unnamed
    absent = {pattern for pattern in names if not any(Path(name).match(pattern) for name in found)}
    # Checkpoints are gone after training; only LaMP's own tasks have files for its evaluator; nobody asked for a report
    # or for curves, was erased, used a frozen cache, or was served.
    assert absent == {
        "tensorboard/",
        "checkpoints/",
        "predictions/*.lamp.json",
        "report.html",
        "figures/*",
        "erased.json",
        "elsewhere.json",
        "serving.sqlite",
    }
    assert list((run.path / "checkpoints").iterdir()) == []


def test_the_documentation_names_every_file(run: RunDirectory) -> None:
    text = (Path(__file__).parents[1] / "docs" / "artifacts.md").read_text()
    names = {name.replace("<method>", "*") for name in named(text)}
    for path in run.path.rglob("*"):
        name = path.relative_to(run.path)
        assert path.is_dir() or any(name.match(pattern) for pattern in names), name


def test_events_are_those_documented(run: RunDirectory) -> None:
    text = (Path(__file__).parents[1] / "docs" / "training.md").read_text()
    kinds = {json.loads(line)["event"] for line in run.events_path.read_text().splitlines()}
    assert {"stage", "prepare", "step", "finished", "phase"} <= kinds
    assert all(f"| `{kind}` |" in text for kind in kinds)


def test_the_manifest_says_what_the_numbers_came_from(run: RunDirectory) -> None:
    manifest = run.manifest()
    assert manifest["data"]["fingerprint"] == dataset().fingerprint()
    assert (manifest["data"]["users"], manifest["data"]["others"]) == (3, 3)
    assert manifest["config"] == json.loads(json.dumps(CONFIG.as_dict()))
    assert manifest["versions"] == versions()
    assert {"python", "perfit", "torch", "transformers"} <= set(versions())
    assert manifest["base"]["identity"]["architecture"] == "LlamaForCausalLM"


def test_nothing_a_user_wrote_is_in_the_files(run: RunDirectory) -> None:
    texts = [item.fields["text"] for user in dataset().users for item in user.history]
    texts += [query.input for user in dataset().users for query in user.queries]
    for path in run.path.rglob("*"):
        if path.is_file():
            content = path.read_bytes()
            assert not any(text.encode() in content for text in texts), path


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "cannot be read as JSON"),
        (b'{"format": 1, ', "cannot be read as JSON"),
        (b"\xff\xfe", "cannot be read as JSON"),
        (b"[1]", "not a JSON object"),
        (b"{}", "format none of an earlier"),
        (b'{"format": 3}', "format 3 of another perfit is not 2"),
        (b'{"format": 1, "base": {"name": "b"}}', "format 1 of an earlier perfit is not 2; .* train again in another"),
        (b'{"format": 2, "base": {"name": "b"}}', "has no checksum"),
        (written({"format": 2, "base": 3}), "'base' is missing"),
        (written({"format": 2, "base": {}, "task": {}, "config": {}, "versions": {}}), "the base has no name"),
        (written({"format": 2, **MANIFEST, "versions": {}, "context": {}}), "its parts are not of one run"),
    ],
)
def test_a_damaged_manifest_is_one_line(content: bytes, message: str, tmp_path: Path) -> None:
    (tmp_path / "manifest.json").write_bytes(content)
    with pytest.raises(StoreError, match=message) as caught:
        RunDirectory(tmp_path).manifest()
    assert "manifest.json" in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_collective_shift_cut_anywhere_or_of_other_tensors_is_one_line(run: RunDirectory, tmp_path: Path) -> None:
    from safetensors.torch import save

    whole = run.read_collective()
    contents = [whole[:size] for size in range(0, len(whole), len(whole) // 40)]
    contents += [save({"first.R": torch.zeros(1, 1, 2)}), b"<html>", save({})]
    damaged = RunDirectory(tmp_path)
    damaged.create(MANIFEST)
    for content in contents:
        damaged.save_collective(content)  # whatever its checksum says
        with pytest.raises(StoreError, match=r"collective\.safetensors: is damaged") as caught:
            damaged.collective()
        assert "\n" not in str(caught.value)


def test_missing_files_say_what_is_missing(tmp_path: Path) -> None:
    run = RunDirectory(tmp_path)
    assert not run.exists()
    assert not run.has_collective()
    with pytest.raises(StoreError, match=r"is .* a run of perfit train"):
        run.manifest()
    with pytest.raises(StoreError, match="stage 1 of this run is not finished"):
        run.collective()


def test_both_collective_shifts_come_back_bit_for_bit() -> None:
    generator = torch.Generator().manual_seed(1)
    shifts = tuple(new_shift((2, rank, 32), init="loreft", generator=generator) for rank in (4, 3))
    first = Collective.of_file(encode_collective(shifts)).shifts  # type: ignore[arg-type]
    for mine, theirs in zip(shifts, first, strict=True):
        for name, tensor in mine.tensors().items():
            torch.testing.assert_close(tensor, theirs.tensors()[name], rtol=0, atol=1e-6)
    again = Collective.of_file(encode_collective(shifts)).shifts  # type: ignore[arg-type]
    for mine, theirs in zip(first, again, strict=True):
        assert all(torch.equal(t, theirs.tensors()[name]) for name, t in mine.tensors().items())


def test_a_folder_that_cannot_be_written_is_one_line(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("x")
    for path in (tmp_path / "file", tmp_path / "file" / "run"):
        with pytest.raises(StoreError, match="cannot write here"):
            RunDirectory(path).create(MANIFEST)


def test_a_fault_of_the_training_is_not_taken_for_one_of_the_folder(tmp_path: Path) -> None:
    run = RunDirectory(tmp_path)
    with pytest.raises(PermissionError, match="elsewhere"), run.locked():
        raise PermissionError(13, "elsewhere")
    with run.locked():
        pass


def test_a_write_that_fails_leaves_the_old_content(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    run = RunDirectory(tmp_path)
    run.create(MANIFEST)
    before = run.manifest()

    def full(handle: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(StoreError, match="No space left"):
        run.create({})
    assert run.manifest() == before


def test_no_character_of_a_manifest_changes_unnoticed(run: RunDirectory, tmp_path: Path) -> None:
    whole, wanted = run.manifest_path.read_bytes(), run.manifest()
    other, same = RunDirectory(tmp_path), []
    for place, byte in enumerate(whole):
        content = bytearray(whole)
        content[place] = byte ^ (1 << (place % 7))
        # Not through the disk each time: what is read is what counts.
        with mock.patch("perfit.durable.records.read_bounded", lambda path, content=bytes(content): content):
            try:
                found = other.manifest()
            except StoreError:
                continue
        assert found == wanted, place
        same.append(place)
    # One blank for another between values, nothing else.
    assert all(whole[place : place + 1] in b" \n" for place in same)
    assert len(same) < len(whole) / 20


def test_another_runs_collective_shift_is_refused_before_there_is_a_store(run: RunDirectory, tmp_path: Path) -> None:
    perfit = PerFit.from_pretrained(run.path)
    ours = RunDirectory(tmp_path / "ours")
    ours.create(perfit.belonging.manifest(dataset()))
    (ours.path / "collective.safetensors").write_bytes(run.read_collective())
    assert not ours.store_path.exists()
    for use in (ours.read_collective, ours.collective, lambda: perfit.fit(dataset(), run=ours.path)):
        with pytest.raises(DamagedError, match="of another run"):
            use()


def test_a_manifest_changed_throughout_is_not_the_one_users_were_trained_with(
    run: RunDirectory, tmp_path: Path
) -> None:
    shutil.copytree(run.path, tmp_path / "copy")
    copy = RunDirectory(tmp_path / "copy")
    manifest = copy.manifest()
    changes = [("config", "positions", "l2"), ("config", "max_length", 255), ("task", "prompt", "Folder? {input} is:")]
    for part, name, value in changes:
        copy._folder.write(manifest | {part: manifest[part] | {name: value}})
        with pytest.raises(DamagedError, match="not of one run"):
            copy.manifest()
        copy.create(
            {key: value for key, value in manifest.items() if key != "context"} | {part: manifest[part] | {name: value}}
        )
        for use in (lambda: PerFit.from_pretrained(copy.path), lambda: open_store(copy)):
            with pytest.raises(StoreError, match="another base, task or settings than its users were trained with"):
                use()
