"""Verbs that open a base open it the same way: the same options, the same help, and a base that has moved."""

from __future__ import annotations

import inspect
import json
import re
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
import typer.main
from command_line import House, Outcome, Perfit, furnish
from small_base import dataset, write_base

from perfit.cli import options
from perfit.cli.main import app
from perfit.comparison.bench import Source
from perfit.data.jsonl import write_jsonl
from perfit.how_to_open import HowToOpen

OF_A_BASE = ("quickstart", "train", "search", "compare", "analyze")
OF_A_RUN = ("evaluate", "generate", "users add")
OPENING = (
    *("--base", "--revision", "--layers-path", "--device", "--dtype", "--trust-remote-code"),
    *("--quantization", "--attention"),
)


def declared(verb: str) -> dict[str, Any]:
    command: Any = typer.main.get_command(app)
    for name in verb.split():
        command = command.commands[name]
    return {option: parameter for parameter in command.params for option in parameter.opts}


def good(done: Outcome) -> Outcome:
    assert done.code == 0, done.err
    return done


@pytest.mark.parametrize("verb", [*OF_A_BASE, *OF_A_RUN])
def test_every_verb_that_opens_a_base_has_the_options_of_opening_one(verb: str) -> None:
    found = declared(verb)
    first = declared("generate" if verb in OF_A_RUN else "train")
    for name in OPENING:
        assert name in found, (verb, name)
        assert (found[name].help, found[name].default) == (first[name].help, first[name].default)
    assert found["--device"].default == "auto"


def test_options_of_one_name_and_help_are_written_once() -> None:
    folder = Path(inspect.getfile(options)).parent
    text = "\n".join(path.read_text() for path in folder.glob("*.py"))
    for shared in (*OPENING[1:], "--json"):
        assert len(re.findall(rf'typer\.Option\(\s*(?:False, )?"{shared}"', text)) == 1, shared


def test_a_run_whose_base_moved_is_opened_where_the_base_lies_now(tmp_path: Path, perfit: Perfit) -> None:
    house = furnish(tmp_path, write_base(tmp_path / "before"), "anna")
    (tmp_path / "before").rename(tmp_path / "after")
    write_jsonl(dataset(("dora",)), tmp_path / "dora.jsonl")
    other = write_base(tmp_path / "other", seed=1)
    run = ("--run", house.run)
    for verb in (
        ("evaluate", house.data, *run, "--methods", "personal"),
        ("generate", "a lamp", "--user", "anna", *run),
        ("users", "add", "dora", "--data", tmp_path / "dora.jsonl", *run),
    ):
        refused = perfit(*verb)
        assert (refused.code, len(refused.err.splitlines())) == (1, 1)
        assert "before: no such folder" in refused.err
        refused = perfit(*verb, "--base", other)
        assert refused.code == 1
        assert "belongs to another base" in refused.err.splitlines()[-1]
        good(perfit(*verb, "--base", tmp_path / "after"))
    assert "not on this machine" in good(perfit("info", house.run, "--verify")).out
    assert "every byte as in training" in good(perfit("info", house.run, "--verify", "--base", tmp_path / "after")).out
    assert "not those the run was trained on" in perfit("info", house.run, "--verify", "--base", other).err
    assert "nowhere: no such folder" in perfit("info", house.run, "--verify", "--base", tmp_path / "nowhere").err
    assert "--base: is where --verify looks" in perfit("info", house.run, "--base", other).err


def test_what_tells_the_loader_reaches_it(
    house: House, tmp_path: Path, perfit: Perfit, monkeypatch: pytest.MonkeyPatch
) -> None:
    from perfit import opening

    told: list[dict[str, Any]] = []
    reaching = ("revision", "trust_remote_code", "attn_implementation")
    wanted = {"revision": "v1", "trust_remote_code": True, "attn_implementation": "eager"}
    original = opening.load_base

    def load_base(*arguments: Any, **how: Any) -> Any:
        told.append({name: how[name] for name in reaching if name in how})
        return original(*arguments, **how)

    monkeypatch.setattr(opening, "load_base", load_base)
    shutil.copytree(house.run, tmp_path / "run")
    write_jsonl(dataset(("dora",)), tmp_path / "dora.jsonl")
    new, run = ("--base", house.base, "--task", house.task), ("--run", tmp_path / "run")
    small = ("--set", "stage1.epochs=1", "--set", "stage2.epochs=1", "--set", "max_length=256")
    verbs: list[tuple[str | Path, ...]] = [
        ("search", house.data, *new, *small, "--out", tmp_path / "search", "--trials", "1"),
        ("compare", house.data, *new, "--methods", "base", "--out", tmp_path / "compare", "--dry-run"),
        ("analyze", house.data, *new, "--out", tmp_path / "analysis", "--estimate"),
        ("evaluate", house.data, *run, "--methods", "base"),
        ("generate", "a lamp", *run),
        ("users", "add", "dora", "--data", tmp_path / "dora.jsonl", *run),
    ]
    for verb in verbs:
        more = ("--layers-path", "model.layers", "--attention", "eager")
        good(perfit(*verb, "--revision", "v1", "--trust-remote-code", *more))
        refused = perfit(*verb, "--layers-path", "model")
        assert "layers_path: 'model' is not" in refused.err.splitlines()[-1], verb
    assert len(told) == 2 * len(verbs)
    assert all(how == wanted for how in told[::2])
    assert not any(how.get("trust_remote_code") for how in told[1::2])


def test_a_device_that_was_chosen_is_said_once_and_json_stays_json(
    house: House, tmp_path: Path, perfit: Perfit, monkeypatch: pytest.MonkeyPatch
) -> None:
    from perfit import opening

    original = opening.load_base
    monkeypatch.setattr(opening, "load_base", lambda base, *, device, **how: original(base, **how))
    asked = ("generate", "a lamp", "--run", house.run, "--json")
    compared = ("compare", house.data, "--task", house.task, "--base", house.base, "--methods", "base", "--dry-run")
    assert "device" not in good(perfit(*asked)).err
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 1)
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda: "a card")
    done = good(perfit(*asked))
    assert done.err == "perfit: device: cuda (a card) is chosen; cpu would be the other choice\n"
    assert len(json.loads(done.out)) == 1
    more = ("--set", "dtype=float32", "--out", tmp_path / "c", "--json")
    assert good(perfit(*compared, *more)).err.count("device: cuda (a card) is chosen") == 1


def test_the_next_command_opens_the_base_as_this_one_did(house: House, tmp_path: Path, perfit: Perfit) -> None:
    told = ("--device", "cpu", "--attention", "eager", "--trust-remote-code")
    done = good(perfit(*house.train, "--run", tmp_path / "run", *told))
    assert done.err.splitlines()[-1].endswith(
        f"--run {tmp_path / 'run'} --device cpu --attention eager --trust-remote-code"
    )
    assert (
        good(perfit(*house.train, "--run", tmp_path / "run")).err.splitlines()[-1].endswith(f"--run {tmp_path / 'run'}")
    )
    more = ("--set", "stage1.epochs=1", "--set", "stage2.epochs=1", "--set", "max_length=256", "--trials", "1")
    search = ("search", house.data, "--task", house.task, "--base", house.base, "--out", tmp_path / "search", *more)
    line = good(perfit(*search, *told, "--layers-path", "model.layers")).err.splitlines()[-1]
    assert line.endswith("--layers-path model.layers --device cpu --attention eager --trust-remote-code --run RUN")


def test_a_dtype_that_is_given_is_what_every_verb_computes_in(
    house: House, tmp_path: Path, perfit: Perfit, monkeypatch: pytest.MonkeyPatch
) -> None:
    from perfit import opening

    seen: list[str] = []
    original = opening.load_base

    def load_base(*arguments: Any, **how: Any) -> Any:
        seen.append(str(how["dtype"]).removeprefix("torch."))
        return original(*arguments, **how)

    monkeypatch.setattr(opening, "load_base", load_base)
    new, run = ("--base", house.base, "--task", house.task), ("--run", tmp_path / "run")
    good(perfit(*house.train, *run, "--dtype", "bfloat16"))  # over --set dtype=float32
    assert json.loads((tmp_path / "run" / "manifest.json").read_text())["config"]["dtype"] == "bfloat16"
    good(
        perfit(
            "compare", house.data, *new, "--methods", "base", "--out", tmp_path / "c", "--dry-run", "--dtype", "float32"
        )
    )
    good(perfit("analyze", house.data, *new, "--out", tmp_path / "a", "--estimate", "--dtype", "bfloat16"))
    good(perfit("generate", "a lamp", *run))
    good(perfit("generate", "a lamp", *run, "--dtype", "float32"))
    assert seen == ["bfloat16", "float32", "bfloat16", "bfloat16", "float32"]
    source = Source(house.data, str(house.base), task=str(house.task), settings={"dtype": "bfloat16"})
    bench = replace(source, how=HowToOpen(dtype="float32")).open()
    assert (bench.backbone.dtype, bench.config.dtype) == (torch.float32, "float32")
    refused = perfit("generate", "a lamp", *run, "--attention", "flash")
    assert (refused.code, refused.err.splitlines()) == (
        2,
        ["perfit: attention: 'flash' is unknown; choose sdpa, eager or flash_attention_2"],
    )
