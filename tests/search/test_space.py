"""Spaces: Table 8 digit for digit, files, and what cannot be searched."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from perfit.config import PerFitConfig, small_preset
from perfit.errors import ConfigError
from perfit.search.space import Choice, Range, check_space, read_space, settings_of, table_8, without


def test_a_base_of_32_layers_gets_the_papers_table_8() -> None:
    assert {name: entry.record() for name, entry in table_8(32, 4096).items()} == {
        "collective_rank": [4, 8, 16, 32, 64],
        "personal_rank": [4, 8, 16, 32, 64],
        "layers": [[15], [14, 15], [14, 15, 16], [14, 15, 16, 17, 18]],
        "positions": ["f7+l7", "f5+l5", "l7", "l5"],
        "epochs": [2, 4, 6],
    }


def test_a_rank_as_large_as_the_base_is_wide_is_among_its_ranks() -> None:
    assert table_8(30, 32)["personal_rank"].record() == [4, 8, 16, 32]
    assert table_8(30, 31)["personal_rank"].record() == [4, 8, 16]


@given(st.integers(1, 100), st.sampled_from([2, 32, 576]))
def test_every_base_gets_layers_and_ranks_that_it_has(depth: int, width: int) -> None:
    space = table_8(depth, width)
    layers = space["layers"]
    assert isinstance(layers, Choice)
    assert layers.values
    assert all(layer in range(depth) for chosen in layers.values for layer in chosen)
    assert max(space["personal_rank"].record()) <= width
    check_space(space, small_preset(depth))


def test_a_file_holds_choices_and_ranges(tmp_path: Path) -> None:
    path = tmp_path / "space.yaml"
    path.write_text(
        "layers: [[9], [9, 10]]\npositions: [-1, l7]\nepochs: [2, 4]\n"
        "stage2.learning_rate: {low: 1e-4, high: 3e-3, log: true}\npersonal_rank: {low: 2, high: 8}\n"
    )
    space = read_space(path)
    assert space == {
        "layers": Choice(((9,), (9, 10))),
        "positions": Choice(("-1", "l7")),
        "epochs": Choice((2, 4)),
        "stage2.learning_rate": Range(1e-4, 3e-3, log=True),
        "personal_rank": Range(2, 8),
    }
    check_space(space, PerFitConfig())


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("[1, 2]", "must be a mapping"),
        ("", "must be a mapping"),
        ("a: [", "is not YAML"),
        ("positions: l7", "positions: 'l7' is no choice"),
        ("positions: []", "is no choice"),
        ("seed: [2020-01-01]", "is no choice"),
        ("layers: [[1], [2020-01-01]]", "is no choice"),
        ("layers: [{1: 2}]", "is no choice"),
        ("positions: [l7, l7]", "names a value twice"),
        ("personal_rank: {low: 1}", "is no choice"),
        ("personal_rank: {low: 8, high: 2}", "is no choice"),
        ("stage2.learning_rate: {low: 0, high: 1, log: true}", "is no choice"),
        ("stage2.learning_rate: {low: fast, high: 1}", "is no choice"),
    ],
)
def test_files_that_are_no_space_are_refused(tmp_path: Path, text: str, said: str) -> None:
    path = tmp_path / "space.yaml"
    path.write_text(text)
    with pytest.raises(ConfigError, match=said):
        read_space(path)


@pytest.mark.parametrize(
    ("space", "said"),
    [
        ({}, "nothing is left"),
        ({"rank": Choice((4,))}, "rank: no such setting"),
        ({"positions": Choice(("l7", "x7"))}, "x7"),
        ({"personal_rank": Range(0, 4)}, "personal_rank: 0"),
        ({"personal_rank": Range(1.5, 4)}, "personal_rank: 1.5"),
        ({"epochs": Choice((2,)), "stage1.epochs": Choice((3,))}, "stage1.epochs: is set by epochs"),
        ({"dtype": Choice(("float32",))}, "one base serves all trials"),
    ],
)
def test_what_no_config_can_take_is_refused_before_anything_trains(space: dict[str, Choice | Range], said: str) -> None:
    with pytest.raises(ConfigError, match=said):
        check_space(space, PerFitConfig())


def test_what_is_fixed_is_not_searched() -> None:
    assert set(without(table_8(30, 576), ["positions", "stage2.epochs"])) == {
        "collective_rank",
        "personal_rank",
        "layers",
    }


def test_epochs_are_those_of_both_stages() -> None:
    assert settings_of({"epochs": 6, "layers": (1,)}) == {"stage1.epochs": 6, "stage2.epochs": 6, "layers": (1,)}
