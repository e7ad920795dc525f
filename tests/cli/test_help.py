"""Help: every verb shows how it is typed."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

import click
import pytest
import typer.main
from typer.testing import CliRunner

from perfit.cli.main import app

ROOT = Path(__file__).parents[2]


def verbs(command: click.Command, path: tuple[str, ...] = ()) -> Iterator[tuple[str, ...]]:
    inner = getattr(command, "commands", None)
    if inner is None:
        yield path
        return
    for name, child in inner.items():
        yield from verbs(child, (*path, name))


VERBS = list(verbs(typer.main.get_command(app)))


def test_the_verbs_are_those_that_are_meant() -> None:
    assert {" ".join(verb) for verb in VERBS} == {
        *(
            "quickstart",
            "train",
            "evaluate",
            "compare",
            "analyze",
            "report",
            "search",
            "reproduce",
            "generate",
            "info",
            "serve",
            "client",
            "verify",
        ),
        *(f"users {verb}" for verb in ("list", "show", "add", "export", "import", "delete")),
        *(f"store {verb}" for verb in ("fsck", "gc", "encrypt", "move")),
        *(f"keys {verb}" for verb in ("add", "list")),
        *(f"data {verb}" for verb in ("audit", "convert", "download", "demo")),
    }


@pytest.mark.parametrize("verb", VERBS, ids=" ".join)
def test_every_verb_shows_an_example_of_itself(verb: tuple[str, ...]) -> None:
    shown = CliRunner().invoke(app, [*verb, "--help"])
    assert shown.exit_code == 0
    assert f"Example: perfit {' '.join(verb)}" in " ".join(shown.output.split())


@pytest.mark.parametrize("verb", VERBS, ids=" ".join)
def test_the_example_of_a_verb_uses_options_that_exist(verb: tuple[str, ...]) -> None:
    text = " ".join(CliRunner().invoke(app, [*verb, "--help"]).output.split())
    body, _, example = text.partition("Example:")
    for option in re.findall(r"(?<!\S)--[a-z-]+", example):
        assert option in body


def test_help_names_documents_that_exist() -> None:
    for verb in VERBS:
        for name in re.findall(r"docs/\w+\.md", CliRunner().invoke(app, [*verb, "--help"]).output):
            assert (ROOT / name).is_file(), name


def test_help_is_short_and_also_h() -> None:
    assert CliRunner().invoke(app, ["-h"]).output == CliRunner().invoke(app, ["--help"]).output
    assert "perfit quickstart" in CliRunner().invoke(app, ["--help"]).output


def test_the_version_is_the_packages() -> None:
    assert re.fullmatch(r"perfit \d+\.\d+\.\d+\S*\n", CliRunner().invoke(app, ["--version"]).output)
