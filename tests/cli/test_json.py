"""``--json`` of every verb: JSON alone on stdout, and keys that are plain names, documented in docs/cli.md."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import typer.main
from command_line import House, Perfit, furnish
from small_base import dataset
from test_help import VERBS

from perfit.cli.main import app
from perfit.data.jsonl import write_jsonl
from perfit.serving.keys import add_key

ROOT = Path(__file__).parents[2]
KEY = re.compile(r"[a-z][a-z0-9_]*")
# Keys below these are names of the user's own: ids, settings, labels, packages.
OWN = {"per_query", "settings", "versions"}


def takes_json(verb: tuple[str, ...]) -> bool:
    command: Any = typer.main.get_command(app)
    for name in verb:
        command = command.commands[name]
    return any("--json" in option.opts for option in command.params)


def keys(content: Any, place: str = "") -> Iterator[str]:
    """Paths of all keys."""
    if isinstance(content, dict):
        for name, inner in content.items():
            yield f"{place}{name}"
            if name not in OWN:
                yield from keys(inner, f"{place}{name}.")
    elif isinstance(content, list):
        for inner in content:
            yield from keys(inner, place)


@pytest.fixture(scope="module")
def own(base: Path, tmp_path_factory: pytest.TempPathFactory) -> House:
    return furnish(tmp_path_factory.mktemp("json"), base, "anna", "ben")


def commands(house: House) -> dict[str, tuple[str | Path, ...]]:
    """One command of every verb that has --json; later ones use what earlier ones made."""
    folder, run = house.run.parent, ("--run", house.run)
    write_jsonl(dataset(("dora",)), folder / "dora.jsonl")
    add_key(folder / "keys.json", "a tenant", ["anna"], ["answer"], None)
    work = (house.data, "--task", house.task, "--base", house.base)
    few = ("--set", "dtype=float32", "--set", "stage1.epochs=1", "--set", "stage2.epochs=1")
    layers = ("--set", "layers=[0]", "--set", "positions=l3")
    return {
        "train": (*house.train, *run),
        "evaluate": ("evaluate", house.data, *run),
        "compare": (
            *("compare", *work, "--methods", "base,floor-majority", "--out", folder / "compared"),
            *("--against", "base", *few, *layers),
        ),
        "report": ("report", folder / "compared"),
        "reproduce": (
            *("reproduce", "table12", "--scale", "smoke", "--tasks", "news_categorize"),
            *("--device", "cpu", "--out", folder / "reproduced"),
        ),
        "search": ("search", *work, "--out", folder / "search", "--trials", "1", *few),
        "generate": ("generate", "a lamp", "--user", "anna", *run),
        "info": ("info", house.run),
        "users list": ("users", "list", *run),
        "users show": ("users", "show", "anna", *run),
        "users add": ("users", "add", "dora", "--data", folder / "dora.jsonl", *run),
        "users delete": ("users", "delete", "dora", *run),
        "store fsck": ("store", "fsck", house.run),
        "store gc": ("store", "gc", house.run),
        "keys list": ("keys", "list", folder / "keys.json"),
        "data audit": ("data", "audit", house.data, "--task", house.task),
    }


# Take minutes, more users than there are here, or a server: their keys are held by tests of their own.
ELSEWHERE = {"quickstart", "analyze", "verify"}


def test_every_verbs_keys_are_plain_names(own: House, perfit: Perfit) -> None:
    asked = commands(own)
    have = {" ".join(verb) for verb in VERBS if takes_json(verb)}
    assert have - set(asked) <= ELSEWHERE
    documented = (ROOT / "docs" / "cli.md").read_text(encoding="utf-8")
    for verb, command in asked.items():
        done = perfit(*command, "--json")
        assert done.code == 0, (verb, done.err)
        found = list(keys(json.loads(done.out)))
        odd = [one for one in found if not KEY.fullmatch(one.rpartition(".")[2])]
        assert odd == [], verb
        for name in {one.partition(".")[0] for one in found}:
            assert f"`{name}`" in documented, f"{verb}: {name} is not in docs/cli.md"


def test_the_plan_of_a_comparison_and_the_installation_have_plain_keys(own: House, perfit: Perfit) -> None:
    compare = (*commands(own)["compare"], "--out", own.run.parent / "planned", "--dry-run")
    for command in (compare, ("info",)):
        found = list(keys(json.loads(perfit(*command, "--json").out)))
        assert found
        assert all(KEY.fullmatch(one.rpartition(".")[2]) for one in found)
