"""Streamed means against means of single prompts; stops, restarts and refusals."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import small_base
import torch

from perfit.analysis import extract as module
from perfit.analysis.deltas import DeltaVectors
from perfit.analysis.extract import able, estimate, extract
from perfit.analysis.prompts import PromptMaker
from perfit.analysis.recipe import Recipe
from perfit.backbone.model import Backbone
from perfit.data.schema import User
from perfit.errors import ConfigError, DamagedError, StoreError

RECIPE = Recipe(layers=(0, 2), items=2, history_tokens=20)
USERS = small_base.dataset(queries=3).users


def test_deltas_are_differences_of_means_of_single_prompts(backbone: Backbone) -> None:
    found = extract(backbone, small_base.TASK, USERS, RECIPE)
    maker = PromptMaker(small_base.TASK, backbone.tokenizer, USERS, RECIPE)
    for place in range(len(USERS)):
        states: dict[tuple[int, int], list[torch.Tensor]] = {}
        for prompt in maker.of(place):
            with torch.no_grad():
                output = backbone.model(torch.tensor([prompt.tokens]), output_hidden_states=True)
            states.setdefault((prompt.kind, prompt.half), []).append(output.hidden_states[1][0, -1])
        for kind, name in enumerate(RECIPE.kinds):
            for half in (None, 0, 1):
                mine = [s for (k, h), list_ in states.items() if k == kind and half in (None, h) for s in list_]
                bare = [s for (k, h), list_ in states.items() if k == 0 and half in (None, h) for s in list_]
                expected = (torch.stack(mine).mean(0) - torch.stack(bare).mean(0)).numpy()
                np.testing.assert_allclose(found.delta(0, name, half)[place], expected, atol=1e-5)


def test_batches_and_chunks_change_nothing(backbone: Backbone, monkeypatch: pytest.MonkeyPatch) -> None:
    one = extract(backbone, small_base.TASK, USERS, RECIPE, batch_tokens=100_000)
    monkeypatch.setattr(module, "_CHUNK", 1)
    two = extract(backbone, small_base.TASK, USERS, RECIPE, batch_tokens=1)
    torch.testing.assert_close(one.means, two.means, atol=1e-5, rtol=1e-4)
    assert torch.equal(one.counts, two.counts)


def test_a_stop_loses_one_chunk_at_most_and_the_end_is_the_same(
    backbone: Backbone, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "_CHUNK", 1)
    whole = extract(backbone, small_base.TASK, USERS, RECIPE)
    assert whole.notes["shortened"]["histories shortened"] > 0
    done: list[tuple[int, bool]] = []

    def stop(prompts: int, before: bool) -> None:
        done.append((prompts, before))
        if sum(rows for rows, _ in done) > 20:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        extract(backbone, small_base.TASK, USERS, RECIPE, folder=tmp_path, done=stop)
    again: list[tuple[int, bool]] = []
    found = extract(
        backbone, small_base.TASK, USERS, RECIPE, folder=tmp_path, done=lambda n, before: again.append((n, before))
    )
    assert again[0] == (18, True)
    assert sum(n for n, _ in again) == 3 * 18
    assert torch.equal(found.means, whole.means)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["deltas.safetensors", "recipe.json"]
    loaded = DeltaVectors.load(tmp_path)
    assert torch.equal(loaded.means, whole.means)
    assert (loaded.users, loaded.recipe, loaded.task) == (whole.users, RECIPE, "folders")
    assert loaded.notes["shortened"] == whole.notes["shortened"]


def test_a_finished_extraction_is_loaded_and_another_one_refused(backbone: Backbone, tmp_path: Path) -> None:
    extract(backbone, small_base.TASK, USERS, RECIPE, folder=tmp_path)
    done: list[tuple[int, bool]] = []
    extract(backbone, small_base.TASK, USERS, RECIPE, folder=tmp_path, done=lambda n, before: done.append((n, before)))
    assert done == [(54, True)]
    with pytest.raises(StoreError, match="other users or settings"):
        extract(backbone, small_base.TASK, USERS[:2], RECIPE, folder=tmp_path)


@pytest.mark.parametrize("edited", ["past item", "query"])
def test_edited_texts_are_not_taken_for_those_measured(backbone: Backbone, tmp_path: Path, edited: str) -> None:
    extract(backbone, small_base.TASK, USERS, RECIPE, folder=tmp_path)
    user = USERS[0]
    item, query = user.history[0], user.queries[0]
    if edited == "query":
        changed = replace(user, queries=(replace(query, input=query.input + " again"), *user.queries[1:]))
    else:
        fields = {name: text + " again" for name, text in item.fields.items()}
        changed = replace(user, history=(replace(item, fields=fields), *user.history[1:]))
    with pytest.raises(StoreError, match="other users or settings"):
        extract(backbone, small_base.TASK, (changed, *USERS[1:]), RECIPE, folder=tmp_path)


def test_a_single_query_has_no_odd_half_and_still_a_delta(backbone: Backbone) -> None:
    users = small_base.dataset(queries=1).users
    found = extract(backbone, small_base.TASK, users, RECIPE)
    assert np.isnan(found.delta(0, half=1)).all()
    np.testing.assert_array_equal(found.delta(0), found.delta(0, half=0))
    assert np.isfinite(found.delta(2, "other")).all()


def test_users_without_queries_or_history_are_left_out() -> None:
    assert able([User("a"), *USERS, User("b", USERS[0].history), User("c", (), USERS[0].queries)]) == list(USERS)


def test_nobody_to_measure_is_an_error(backbone: Backbone) -> None:
    with pytest.raises(ConfigError, match="none has both"):
        extract(backbone, small_base.TASK, [], RECIPE)


def test_the_estimate_counts_prompts_and_tokens(backbone: Backbone) -> None:
    cost = estimate(backbone, small_base.TASK, USERS, RECIPE, 1000)
    maker = PromptMaker(small_base.TASK, backbone.tokenizer, USERS, RECIPE)
    prompts = [prompt for place in range(len(USERS)) for prompt in maker.of(place)]
    assert cost.prompts == len(prompts)
    assert cost.tokens == pytest.approx(sum(len(prompt.tokens) for prompt in prompts), rel=0.05)
    assert cost.seconds > 0


def test_the_estimate_itself_stays_within_the_tokens_of_a_forward(
    backbone: Backbone, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[int] = []

    def states(backbone: Backbone, prompts: list[tuple[int, ...]], *more: Any) -> list[Any]:
        asked.append(sum(map(len, prompts)))
        return []

    monkeypatch.setattr(module, "last_states", states)
    estimate(backbone, small_base.TASK, USERS, RECIPE, 300)
    assert len(asked) == 2
    assert 150 < asked[0] <= 300


@pytest.mark.parametrize("harm", ["deltas.safetensors", "recipe.json"])
def test_damaged_files_are_said(backbone: Backbone, tmp_path: Path, harm: str) -> None:
    extract(backbone, small_base.TASK, USERS, RECIPE, folder=tmp_path)
    (tmp_path / harm).write_bytes(b"{}")
    with pytest.raises(StoreError, match="analyse again"):
        DeltaVectors.load(tmp_path)


@pytest.mark.parametrize("harm", ["deltas.safetensors", "recipe.json"])
def test_no_flipped_byte_is_another_measurement(backbone: Backbone, tmp_path: Path, harm: str) -> None:
    wanted = extract(backbone, small_base.TASK, USERS, RECIPE, folder=tmp_path)
    whole, said = (tmp_path / harm).read_bytes(), []
    for place in [*range(0, len(whole), len(whole) // 40), len(whole) - 2]:
        (tmp_path / harm).write_bytes(whole[:place] + bytes([whole[place] ^ 4]) + whole[place + 1 :])
        try:
            found = DeltaVectors.load(tmp_path)
        except DamagedError as error:
            said.append(str(error))
            continue
        assert found.record() == wanted.record(), place  # a blank of the indented file
        assert torch.equal(found.means.nan_to_num(), wanted.means.nan_to_num())
    assert len(said) > 30
    assert all(len(line.splitlines()) == 1 for line in said)


def test_vectors_beside_another_recipe_and_those_of_before_are_refused(backbone: Backbone, tmp_path: Path) -> None:
    extract(backbone, small_base.TASK, USERS, RECIPE, folder=tmp_path / "a")
    extract(backbone, small_base.TASK, USERS, replace(RECIPE, seed=7), folder=tmp_path / "b")
    recipe = tmp_path / "a" / "recipe.json"
    whole = recipe.read_bytes()
    recipe.write_bytes((tmp_path / "b" / "recipe.json").read_bytes())
    with pytest.raises(DamagedError, match="not those of its recipe"):
        DeltaVectors.load(tmp_path / "a")
    old = {name: value for name, value in json.loads(whole).items() if name != "sha256"} | {"format": 1}
    recipe.write_text(json.dumps(old))
    with pytest.raises(
        StoreError, match=r"format 1 of an earlier perfit is not 2; .* or analyse again in another folder"
    ):
        DeltaVectors.load(tmp_path / "a")


def test_vectors_of_another_shape_than_the_recipe_says_are_refused(backbone: Backbone, tmp_path: Path) -> None:
    found = extract(backbone, small_base.TASK, USERS, RECIPE)
    for change in (
        {"users": found.users[:-1]},
        {"counts": found.counts[:, :-1]},
        {"means": found.means[:, :, :, :1]},
        {"recipe": replace(RECIPE, layers=(0, 1, 2))},
    ):
        replace(found, **change).save(tmp_path)  # type: ignore[arg-type]
        with pytest.raises(DamagedError, match="another shape than its recipe"):
            DeltaVectors.load(tmp_path)


def test_a_damaged_or_foreign_part_is_measured_again_and_counted(
    backbone: Backbone, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "_CHUNK", 1)  # one user a part
    whole = extract(backbone, small_base.TASK, USERS, RECIPE)
    lines: list[str] = []

    def stop(prompts: int, before: bool) -> None:
        if len(list(tmp_path.glob("parts/*"))) == 2:
            raise KeyboardInterrupt

    for harm in ("flipped", "swapped"):
        with pytest.raises(KeyboardInterrupt):
            extract(backbone, small_base.TASK, USERS, RECIPE, folder=tmp_path, done=stop)
        first, second = sorted(tmp_path.glob("parts/*"))
        content = first.read_bytes()
        first.write_bytes(content[:-5] + bytes([content[-5] ^ 64]) + content[-4:])
        if harm == "swapped":
            first.write_bytes(second.read_bytes())
        found = extract(backbone, small_base.TASK, USERS, RECIPE, folder=tmp_path, listener=lines.append)
        assert torch.equal(found.means, whole.means)
        shutil.rmtree(tmp_path)
        tmp_path.mkdir()
    assert [event.text for event in lines] == ["1 damaged part of what was measured before: measured again"] * 2


def test_what_was_not_measured_is_said(backbone: Backbone) -> None:
    found: Any = extract(backbone, small_base.TASK, USERS, replace(RECIPE, variants=("history",)))
    with pytest.raises(KeyError, match="random"):
        found.delta(0, "random")
    with pytest.raises(KeyError, match="layer 1"):
        found.delta(1)
