"""Every figure is drawn from whatever was measured, and equal tables give equal files."""

from __future__ import annotations

from pathlib import Path
from xml.etree import ElementTree

import numpy as np
from made import deltas_of
from planted import USERS, direction, noise

from perfit.analysis.figures import coordinates, figures
from perfit.analysis.subspace import basis
from perfit.analysis.tables import tables_of

TEST = deltas_of({0: {"history": noise(1) + direction()}, 1: {"history": noise(2) + direction()}})
OTHER = deltas_of({0: {"history": noise(3)}, 1: {"history": noise(4) + direction(7)}}, task="notes & <more>")
POOL = deltas_of({0: {"history": noise(5)}, 1: {"history": noise(6)}}, group="stage1", variants=("history",))
FEW = deltas_of({1: {"history": noise(5, users=2)}}, variants=("history",))


def test_all_figures_are_readable_svg(tmp_path: Path) -> None:
    tables = tables_of([TEST, OTHER, POOL])
    overlap = {"task": "folders", "layer": 1, "collective_cosine": 0.4, "first_energy": 0.2, "second_energy": 0.1}
    tables["overlaps"] = [overlap | {"personal_cosine": -0.1}]
    tables["gains"] = [{"task": "folders", "size": 1.0, "gain": 0.2}, {"task": "folders", "size": 2.0, "gain": -0.1}]
    drawn = figures([TEST, OTHER, POOL], tables, 1)
    names = ["observations", "layers", "cases", "controls", "halves", "tasks", "trained"]
    assert [one.name for one in drawn] == names
    for one in drawn:
        png, svg = one.save(tmp_path)
        assert ElementTree.parse(svg).getroot().tag.endswith("svg")
        assert png.read_bytes().startswith(b"\x89PNG")
        assert "user-1" not in svg.read_text()


def test_two_users_without_controls_have_figures_too() -> None:
    drawn = figures([FEW], tables_of([FEW]), 1)
    assert [one.name for one in drawn] == ["observations", "layers", "cases"]
    again = figures([FEW], tables_of([FEW]), 1)
    assert [(one.png, one.svg) for one in drawn] == [(one.png, one.svg) for one in again]


def test_stage1_users_are_shown_when_there_are_no_others() -> None:
    assert figures([POOL], tables_of([POOL]), 0)


def test_coordinates_come_back_from_the_tables() -> None:
    found = coordinates(tables_of([TEST]), "folders", 1)
    assert found.shape == (USERS, 5)
    np.testing.assert_allclose(found, basis(TEST.delta(1)).coordinates)
