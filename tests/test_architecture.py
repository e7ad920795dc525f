"""docs/architecture.md names files and things that are there."""

from __future__ import annotations

import ast
import re

import pytest
import rooms

PAGE = rooms.PICTURE.read_text(encoding="utf-8")
PLACES = re.findall(r"^\| [^|]+ \| `([\w/]+\.py)` \| `(\w+)` \|$", PAGE, re.MULTILINE)


@pytest.mark.parametrize(("file", "name"), PLACES)
def test_what_it_sends_to_is_there(file: str, name: str) -> None:
    tree = ast.parse((rooms.SOURCE / file).read_text(encoding="utf-8"))
    assert name in {node.name for node in tree.body if isinstance(node, ast.ClassDef | ast.FunctionDef)}


def test_every_file_it_names_is_there() -> None:
    named = set(re.findall(r"(?:src|tests|examples|docs)/[\w/]+\.\w+", PAGE))
    inside = set(re.findall(r"(?<![\w/])((?:[a-z_]+/)*[a-z_0-9]+\.py)\b", PAGE)) - named
    assert len(PLACES) > 25
    assert sorted(path for path in named if not (rooms.ROOT / path).exists()) == []
    assert (
        sorted(path for path in inside if not (rooms.SOURCE / path).exists() and not (rooms.ROOT / path).exists()) == []
    )


def test_the_table_of_rooms_is_the_declared_order() -> None:
    here, written = rooms.table(rooms.declared())[2:], rooms.table_in(PAGE)[2:]
    assert [*map(_without_lines, written)] == [*map(_without_lines, here)], "python tests/rooms.py --write"
    # Every commit moves a few lines; only what is far from true must be printed anew.
    far = [row for row, now in zip(written, here, strict=True) if abs(_lines(row) - _lines(now)) > 60 + _lines(now) / 5]
    assert far == [], "python tests/rooms.py --write"


def _without_lines(row: str) -> list[str]:
    cells = [cell.strip() for cell in row.split("|")]
    return cells[:3] + cells[4:]


def _lines(row: str) -> int:
    return int(row.split("|")[3])
