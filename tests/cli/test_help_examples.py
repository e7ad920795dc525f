"""The examples of --help are typed as they stand: each parses, names what the demo has, and runs."""

from __future__ import annotations

import shlex
from pathlib import Path
from typing import Any

import pytest
import typer.main
from command_line import Perfit
from test_help import VERBS

from perfit.cli.main import app
from perfit.data import demo_dataset

# In the order of a first day; the others load much or need the network, and are only parsed.
DAY = (
    *("data demo", "data audit", "train", "evaluate", "report", "generate", "info", "users list", "users show"),
    *("users add", "users export", "users import", "users delete", "store fsck", "store gc", "store encrypt"),
)
SMALL = ("layers=[0, 1]", "positions=l3", "collective_rank=4", "personal_rank=3", "dtype=float32")
ONCE = ("stage1.epochs=1", "stage2.epochs=1", "stage1_data=queries")


def command_of(verb: tuple[str, ...]) -> Any:
    command: Any = typer.main.get_command(app)
    for name in verb:
        command = command.commands[name]
    return command


def example(verb: tuple[str, ...]) -> list[str]:
    """The example's words, "perfit" left out."""
    words = shlex.split(command_of(verb).epilog.removeprefix("Example: "))
    assert words[: 1 + len(verb)] == ["perfit", *verb]
    return words[1:]


@pytest.mark.parametrize("verb", VERBS, ids=" ".join)
def test_an_example_parses_and_its_users_exist(verb: tuple[str, ...]) -> None:
    command, words = command_of(verb), example(verb)
    context = command.make_context(" ".join(verb), words[len(verb) :])
    users = {user.id for user in demo_dataset().users}
    made = {example(("users", "import"))[4]}
    given = context.params.get("user")
    named = [given] if isinstance(given, str) else list(given or ())
    assert set(named) <= users | made
    for word in words:
        if word.startswith("demo-"):
            assert word in users | made


def test_the_examples_run_as_they_are_written(
    base: Path, tmp_path: Path, perfit: Perfit, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    sizes = ("--users", "2", "--others", "2", "--history", "4", "--queries", "1")
    settings = [part for one in (*SMALL, *ONCE) for part in ("--set", one)]
    for name in DAY:
        verb = tuple(name.split())
        # A small base and few users stand for those of a first day.
        more = {"data demo": sizes, "train": ("--base", base, *settings)}.get(name, ())
        done = perfit(*example(verb), *more)
        assert done.code == 0, (name, done.err)
        if name == "train":
            (tmp_path / "runs" / "demo").rename(tmp_path / "runs" / "quickstart")
