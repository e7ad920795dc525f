"""PerFit on a stage 1 that was trained elsewhere: taken bit for bit, counted by its content, refused where it does not fit."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import pytest
from method_world import ANNA, BEN, OTHERS, asks, make, ready, setting
from safetensors.torch import load_file

from perfit.errors import ConfigError, StoreError
from perfit.events import StageBegun


def stage_1(folder: Path, **changes: Any) -> Path:
    """A trained stage 1's file."""
    make("perfit-stage-1", setting(folder, **changes)).fit(OTHERS)
    (path,) = (folder / "shared").glob("collective-shift-*/collective.safetensors")
    return path


def test_users_stand_on_what_was_given_and_nothing_trains(tmp_path: Path) -> None:
    given = stage_1(tmp_path / "a", seed=5)
    events: list[Any] = []
    method = make("perfit", setting(tmp_path / "b", listener=events.append), collective=str(given))
    method.fit(OTHERS)
    assert [event for event in events if isinstance(event, StageBegun)] == []
    (taken,) = (tmp_path / "b" / "shared").glob("collective-shift-*/collective.safetensors")
    ours, theirs = load_file(taken), load_file(given)
    assert ours.keys() == theirs.keys()
    assert all((ours[name] == theirs[name]).all() for name in ours)
    method.adapt([ANNA, BEN])
    own = ready("perfit", setting(tmp_path / "c"), [ANNA, BEN])
    assert len(method.predict(asks(ANNA, BEN))) == len(own.predict(asks(ANNA, BEN))) == 4


def test_a_given_stage_1_may_lie_elsewhere_later(tmp_path: Path) -> None:
    given = stage_1(tmp_path / "a")
    ready("perfit", setting(tmp_path / "b"), [ANNA], collective=str(given))
    moved = shutil.copy(given, tmp_path / "moved.safetensors")
    method = make("perfit", setting(tmp_path / "b"), collective=str(moved))
    method.fit(OTHERS)
    assert method.adapt([ANNA]) == {}


def test_users_of_one_stage_1_are_not_taken_on_another(tmp_path: Path) -> None:
    first, second = stage_1(tmp_path / "a", seed=1), stage_1(tmp_path / "d", seed=2)
    ready("perfit", setting(tmp_path / "b"), [ANNA], collective=str(first))
    method = make("perfit", setting(tmp_path / "b"), collective=str(second))
    method.fit(OTHERS)
    with pytest.raises(StoreError, match="on another stage 1"):
        method.adapt([ANNA])


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"personal_rank": 2}, "not \\[\\(2, 4, 32\\), \\(2, 2, 32\\)\\]"),
        ({"layers": (1,)}, "give layers and ranks as it has"),
    ],
)
def test_other_layers_or_ranks_are_refused(changes: dict[str, Any], said: str, tmp_path: Path) -> None:
    given = stage_1(tmp_path / "a")
    with pytest.raises(ConfigError, match=said):
        make("perfit", setting(tmp_path / "b"), collective=str(given), **changes)


def test_what_is_no_stage_1_is_one_line(tmp_path: Path) -> None:
    (tmp_path / "x").write_bytes(b"nothing")
    for path, said in ((tmp_path / "x", "holds no shared shifts"), (tmp_path / "none", "cannot be read")):
        with pytest.raises(ConfigError, match=said):
            make("perfit", setting(tmp_path / "b"), collective=str(path))
    with pytest.raises(ConfigError, match="collective gives a stage 1, and this method has none"):
        make("reft-p", setting(tmp_path / "b"), collective=str(tmp_path / "x"))
