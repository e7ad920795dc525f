from __future__ import annotations

import copy
import json
import pickle
import re
from typing import Any

import pytest

from perfit.config import TABLE_9, PerFitConfig, StageConfig, paper_preset, small_preset
from perfit.errors import ConfigError


@pytest.mark.parametrize(
    "change",
    [
        {"layers": ()},
        {"layers": (1, 1)},
        {"layers": (-1,)},
        {"positions": "x9"},
        {"collective_rank": 0},
        {"personal_rank": 0},
        {"init": "zeros"},
        {"stage1_data": "all"},
        {"dtype": "int8"},
        {"engine": "fast"},
        {"max_length": 7},
        {"users_together": 0},
        {"step_tokens": 0},
        {"memory_gib": 0},
        {"memory_gib": float("inf")},
        {"stage1.epochs": 0},
        {"stage2.batch_size": 0},
        {"stage2.learning_rate": 0},
        {"stage2.weight_decay": -1},
        {"stage2.warmup": 1},
        {"seed": 2**63},
        {"stage2.clip": 0},
    ],
)
def test_an_impossible_value_is_refused_by_name(change: dict[str, Any]) -> None:
    name = re.escape(next(iter(change)))  # with its stage
    with pytest.raises(ConfigError, match=rf"^{name}: "):
        PerFitConfig().with_options(**change)


@pytest.mark.parametrize(
    ("name", "meant"),
    [
        ("epochs", "stage1.epochs or stage2.epochs"),
        ("epoch", "stage1.epochs or stage2.epochs"),
        ("layer", "layers"),
        ("personal_ranks", "personal_rank"),
        ("stage2.learning_rat", "stage2.learning_rate or stage1.learning_rate"),
    ],
)
def test_an_unknown_setting_is_answered_with_the_nearest(name: str, meant: str) -> None:
    with pytest.raises(
        ConfigError, match=rf"^{re.escape(name)}: no such setting; perhaps {re.escape(meant)}; known are"
    ):
        PerFitConfig().with_options(**{name: 1})


@pytest.mark.parametrize("name", ["rank", "stage3.epochs", "stage1.rank", "layers.epochs", "stage1."])
def test_an_unknown_setting_is_refused(name: str) -> None:
    with pytest.raises(ConfigError, match="no such setting"):
        PerFitConfig().with_options(**{name: 1})


def test_dotted_names_reach_into_a_stage_and_leave_the_rest() -> None:
    config = PerFitConfig().with_options(**{"stage2.epochs": 9, "stage2.clip": 1.0, "seed": 5})
    assert config.stage2 == StageConfig(epochs=9, clip=1.0)
    assert config.stage1 == StageConfig()
    assert config.seed == 5


def test_a_config_survives_json() -> None:
    config = PerFitConfig(layers=(1, 3), positions="f2+l3", stage1=StageConfig(epochs=2))
    again = PerFitConfig.from_dict(json.loads(json.dumps(config.as_dict())))
    assert again == config
    assert again.digest_text() == config.digest_text()
    assert config.digest_text() != config.with_options(seed=1).digest_text()


@pytest.mark.parametrize("task", TABLE_9)
def test_the_papers_presets_are_its_table_9(task: str) -> None:
    config, row = paper_preset(task), TABLE_9[task]
    assert (config.layers, config.positions) == (row.layers, row.positions)
    assert (config.collective_rank, config.personal_rank) == (row.collective_rank, row.personal_rank)
    assert config.stage1 == config.stage2
    stage = config.stage1
    assert (stage.epochs, stage.batch_size, stage.learning_rate) == (row.epochs, row.batch_size, 1e-4)
    assert (stage.weight_decay, stage.warmup, stage.clip, stage.group_by_length) == (1e-2, 0.1, 0.3, True)


def test_an_unknown_paper_task_is_refused() -> None:
    with pytest.raises(ConfigError, match="no setting for task 'poems'"):
        paper_preset("poems")


@pytest.mark.parametrize("kind", ["label", "rating", "text"])
@pytest.mark.parametrize("depth", [1, 2, 3, 12, 30])
def test_the_small_preset_fits_every_depth(depth: int, kind: str) -> None:
    layers = small_preset(depth, kind).layers
    assert all(0 <= layer < depth for layer in layers)
    assert depth != 30 or layers == (14, 15)


def test_the_small_preset_keeps_to_the_width_of_a_narrow_base() -> None:
    narrow, wide = small_preset(4, hidden_size=24), small_preset(4, hidden_size=576)
    assert (narrow.collective_rank, narrow.personal_rank) == (24, 16)
    assert small_preset(4, hidden_size=8).personal_rank == 8
    assert wide == small_preset(4)
    assert (wide.collective_rank, wide.personal_rank) == (64, 16)


def test_what_was_made_before_strengths_by_the_history_is_still_the_same() -> None:
    assert not {"held_out", "strength_prior"} & set(PerFitConfig().as_dict())
    tried = PerFitConfig(held_out=0.2, strength_prior=-0.5)
    assert PerFitConfig.from_dict(tried.as_dict()) == tried
    assert PerFitConfig.from_dict(PerFitConfig(strength_prior=1.0).as_dict()).strength_prior == 1.0
    assert PerFitConfig(held_out=0.2).digest_text() != PerFitConfig().digest_text()


def test_the_small_preset_asks_the_history_of_those_who_rate() -> None:
    rating = small_preset(30, "rating")
    assert (rating.held_out, rating.strength_prior, rating.strength) == (0.2, -0.5, 0.75)
    assert small_preset(30, "label").held_out == small_preset(30, "text").held_out == 0


def test_what_is_given_wins_over_a_preset_and_the_rest_is_the_presets() -> None:
    preset = small_preset(30, "rating")
    assert PerFitConfig().over(preset) == preset
    assert PerFitConfig((4,), "f7+l7").over(preset) == preset.with_options(layers=(4,), positions="f7+l7")
    # A value that is the plain one counts as given, too; of a stage the part that was given.
    assert PerFitConfig(held_out=0.0).over(preset).held_out == 0.0 != preset.held_out
    part = PerFitConfig().with_options(**{"stage2.epochs": 9}).over(preset)
    assert (part.stage2.epochs, part.stage2.learning_rate) == (9, 2e-3)
    whole = PerFitConfig(stage2=StageConfig(epochs=9)).over(preset)
    assert (whole.stage2, whole.stage1) == (StageConfig(epochs=9), preset.stage1)


def test_what_was_read_back_or_preset_is_given_whole() -> None:
    preset = small_preset(30, "rating")
    plain = PerFitConfig()
    old = {name: value for name, value in plain.as_dict().items() if name not in ("strength", "retrieved")}
    assert PerFitConfig.from_dict(old).over(preset) == plain
    paper = paper_preset("product_rating")
    assert paper.over(preset) == paper
    for copied in (copy.deepcopy(PerFitConfig(strength=0.5)), pickle.loads(pickle.dumps(PerFitConfig(strength=0.5)))):
        assert copied.over(preset) == preset.with_options(strength=0.5)
