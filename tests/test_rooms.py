"""Imports between rooms run one way, up the list of rooms.toml."""

from __future__ import annotations

from functools import cache
from pathlib import Path

import pytest
import rooms
from rooms import Arrow

HOUSE = rooms.declared()


@cache
def found() -> dict[Arrow, set[str]]:
    """The arrows there are: every file is read for them, once."""
    return rooms.arrows()


def test_every_room_is_declared_once_and_is_there() -> None:
    assert len(HOUSE.order) == len(set(HOUSE.order))
    there = set(rooms.rooms_on_disk())
    assert there - set(HOUSE.order) == set(), "give it a place in tests/rooms.toml"
    assert set(HOUSE.order) - there == set(), "take it out of tests/rooms.toml"


def test_no_arrow_runs_back() -> None:
    back = {arrow: files for arrow, files in found().items() if HOUSE.runs_back(arrow)}
    new = [f"{arrow} in {', '.join(sorted(files))}" for arrow, files in back.items() if arrow not in HOUSE.exceptions]
    assert new == [], "move down what both need, or say in tests/rooms.toml why it must be"


def test_no_exception_is_there_without_need() -> None:
    unneeded = [str(arrow) for arrow in HOUSE.exceptions if arrow not in found() or not HOUSE.runs_back(arrow)]
    assert unneeded == [], "take it out of tests/rooms.toml"
    assert all(why.strip() for why in HOUSE.exceptions.values())


def test_no_circle_but_by_a_known_exception() -> None:
    assert rooms.circles({arrow: files for arrow, files in found().items() if arrow not in HOUSE.exceptions}) == []
    assert rooms.circles({arrow: files for arrow, files in found().items() if arrow.kind == "top"}) == []


def test_no_circle_of_modules() -> None:
    arrows = rooms.module_arrows()
    assert len(arrows) > 1000
    assert rooms.circles(dict.fromkeys(arrows)) == []


def test_circles_of_modules_are_found_through_packages(tmp_path: Path) -> None:
    for name, text in {
        "__init__": "", "a": "from perfit.pack import b", "pack/__init__": "from perfit.pack.c import x",
        "pack/b": "", "pack/c": "def f():\n    import perfit.pack.b\n", "d": "import perfit.a",
    }.items():  # fmt: skip
        (tmp_path / "perfit" / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "perfit" / f"{name}.py").write_text(text)
    found = rooms.module_arrows(tmp_path / "perfit")
    pairs = {(arrow.source.removeprefix("perfit."), arrow.target.removeprefix("perfit.")) for arrow in found}
    assert pairs == {("a", "pack"), ("a", "pack.b"), ("pack", "pack.c"), ("d", "a")}
    assert rooms.circles(dict.fromkeys(found)) == []
    (tmp_path / "perfit" / "pack" / "c.py").write_text("from perfit.d import x")
    assert rooms.circles(dict.fromkeys(rooms.module_arrows(tmp_path / "perfit"))) == [
        ["perfit.a", "perfit.d", "perfit.pack", "perfit.pack.c"]
    ]


def test_imports_are_read_wherever_they_stand(tmp_path: Path) -> None:
    house = tmp_path / "perfit"
    (house / "inner").mkdir(parents=True)
    (house / "__init__.py").write_text("from typing import TYPE_CHECKING\nif TYPE_CHECKING:\n    import perfit.typed\n")
    (house / "inner" / "__init__.py").write_text("")
    (house / "inner" / "one.py").write_text(
        "import torch\nfrom perfit import top\nfrom . import two\nfrom ..up import x\n"
        "class A:\n    def f(self):\n        if x:\n            import perfit.late.deep\n"
    )
    assert set(rooms.arrows(house)) == {
        Arrow("__init__", "typed", "types"),
        Arrow("inner", "top", "top"),
        Arrow("inner", "up", "top"),
        Arrow("inner", "late", "function"),
    }


@pytest.mark.parametrize(
    ("pairs", "expected"),
    [
        (["ab", "bc", "ac"], []),
        (["ab", "bc", "ca", "cd"], [["a", "b", "c"]]),
        (["ab", "ba", "bc", "cd", "dc"], [["a", "b"], ["c", "d"]]),
    ],
)
def test_circles_are_found(pairs: list[str], expected: list[list[str]]) -> None:
    assert rooms.circles({Arrow(pair[0], pair[1], "top"): () for pair in pairs}) == expected
