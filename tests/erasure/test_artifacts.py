"""Every file of the full flow is named in docs/artifacts.md and is for its owner alone."""

from __future__ import annotations

import re
from fnmatch import fnmatch
from pathlib import Path

import pytest
from flow import Flow

DOCS = Path(__file__).parents[2] / "docs" / "artifacts.md"
# They hold nothing.
LOCKS = ("*.lock",)


def named(section: str) -> list[str]:
    """Patterns of paths in a section's table; ``<anything>`` stands for a part of a name."""
    text = DOCS.read_text(encoding="utf-8")
    body = re.search(rf"^## {section}[^\n]*\n(.*?)(?=^## |\Z)", text, re.MULTILINE | re.DOTALL)
    assert body is not None, section
    cells = [row.split("|")[1] for row in body[1].splitlines() if row.startswith("| `")]
    return [re.sub(r"<[^>]+>", "*", name) for cell in cells for name in re.findall(r"`([^`]+)`", cell)]


@pytest.mark.parametrize(
    ("place", "section"),
    [
        ("run", "Files of a run"),
        ("compared", "Files of a comparison"),
        ("analysed", "Files of an analysis"),
        ("searched", "Files of a search"),
        ("cache", "Files of a frozen cache"),
    ],
)
def test_every_file_is_documented_and_private(made: Flow, place: str, section: str) -> None:
    folder: Path = getattr(made, place)
    patterns = named(section)
    files = [path for path in folder.rglob("*") if path.is_file()]
    assert files
    for path in files:
        name = path.relative_to(folder).as_posix()
        assert any(fnmatch(name, pattern) for pattern in patterns), f"{name} is not in docs/artifacts.md"
        if not any(fnmatch(path.name, lock) for lock in LOCKS):
            assert path.stat().st_mode & 0o777 == 0o600, name
    for path in (folder, *(one for one in folder.rglob("*") if one.is_dir())):
        assert path.stat().st_mode & 0o777 == 0o700, path


def test_no_documented_pattern_takes_in_everything() -> None:
    assert not {"*", "*/*", "**"} & {name for section in ("Files of a run",) for name in named(section)}
