"""A fault the user can mend is one line on stderr, an exit code of its kind, no traceback, and never the user's text."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from command_line import SETTINGS, House, Perfit
from small_base import TASK_RECORD, dataset, person

from perfit.data.jsonl import own_records, write_jsonl
from perfit.data.schema import Dataset, User
from perfit.durable.records import sealed
from perfit.run import context_of

SECRET = "my private thoughts"


@pytest.fixture
def bad(tmp_path: Path, house: House) -> Path:
    """A folder of unusable things."""
    line = own_records(dataset(("anna",)))[0]
    history = [{"text": SECRET, "folder": SECRET}]
    queries = [{"input": SECRET, "gold": "work"}]
    for name, content in {
        "broken.jsonl": f'{{"user": "{SECRET}", ',
        "label.jsonl": json.dumps(line | {"history": history}),
        "gold.jsonl": json.dumps(line)
        + "\n"
        + json.dumps({"user": "zoe", "history": [], "queries": [{"input": "a", "gold": SECRET}], "split": "other"}),
        "field.jsonl": json.dumps(line | {SECRET: "x"}),
        "leak.jsonl": json.dumps(
            line
            | {"history": [{"text": SECRET + " of today", "folder": "work"}]}
            | {"queries": [{"input": SECRET + " of today", "gold": "work"}]}
        ),
        "unasked.jsonl": json.dumps(line | {"queries": []}),
        "stranger.jsonl": json.dumps(line | {"user": "stranger", "queries": queries}),
        "binary.jsonl": "\x00\x01",
        "empty.jsonl": "",
        "input.jsonl": f'{{"user": "anna", "text": "{SECRET}"}}',
        "list.yaml": "[1, 2]",
        "broken.yaml": "layers: [1",
        "task.yaml": "name: x",
        "brief.yaml": json.dumps(
            TASK_RECORD | {"labels": ["work", "family", "travel", "a long one"], "max_new_tokens": 1}
        ),
        "golds.json": '{"task": "LaMP_2N", "golds": [{"id": "1", "output": "politics"}]}',
        "other.json": '{"task": "LaMP_4", "golds": [{"id": "1", "output": "politics"}]}',
        "broken.json": SECRET,
        "file": SECRET,
    }.items():
        (tmp_path / name).write_text(content, encoding="utf-8")
    (tmp_path / "latin.yaml").write_bytes("ß".encode("latin-1"))
    (tmp_path / "latin.jsonl").write_bytes("ß".encode("latin-1"))
    for name in ("base", "collective"):
        write_jsonl(Dataset((person(name), person("anna"))), tmp_path / f"{name}.jsonl")
    write_jsonl(Dataset((User("hollow"), person("anna"))), tmp_path / "hollow.jsonl")
    (tmp_path / "damaged").mkdir()
    (tmp_path / "damaged" / "manifest.json").write_text(SECRET)
    (tmp_path / "partial").mkdir()
    (tmp_path / "partial" / "manifest.json").write_text(json.dumps(sealed({"format": 2})))
    (tmp_path / "hollow").mkdir()
    parts = {part: {"name": "x"} for part in ("base", "task", "config", "versions")}
    (tmp_path / "hollow" / "manifest.json").write_text(
        json.dumps(sealed({"format": 2, **parts, "context": context_of(parts)}))
    )
    (tmp_path / "unfinished").mkdir()
    (tmp_path / "unfinished" / "manifest.json").write_bytes((house.run / "manifest.json").read_bytes())
    return tmp_path


TRAIN = "train {data} --task {task} --base {base} --run {bad}/new"
FAULTS = {
    # what is named in the message: the command
    "no such file": "train {bad}/missing.jsonl --task {task} --base {base} --run {bad}/new",
    "not valid JSON": "train {bad}/broken.jsonl --task {task} --base {base} --run {bad}/new",
    "not one of the 3 labels": "train {bad}/label.jsonl --task {task} --base {base} --run {bad}/new",
    "not one of the 3 labels ": "train {bad}/gold.jsonl --task {task} --base {base} --run {bad}/new",
    "unusual name": "train {bad}/field.jsonl --task {task} --base {base} --run {bad}/new",
    "no users in the file": "train {bad}/empty.jsonl --task {task} --base {base} --run {bad}/new",
    "not UTF-8": "train {bad}/latin.jsonl --task {task} --base {base} --run {bad}/new",
    "leaks of test answers": "train {bad}/leak.jsonl --task {task} --base {base} --run {bad}/new",
    "'base' means a pseudo-user": "train {bad}/base.jsonl --task {task} --base {base} --run {bad}/new",
    "'collective' means": "train {bad}/collective.jsonl --task {task} --base {base} --run {bad}/new",
    "format is not clear": "train {bad}/file --task {task} --base {base} --run {bad}/new",
    "does not say which task": "train {data} --base {base} --run {bad}/new",
    "task is 'poems'": "train {data} --task poems --base {base} --run {bad}/new",
    "kind is missing": "train {data} --task {bad}/task.yaml --base {base} --run {bad}/new",
    "no such folder": "train {data} --task {task} --base {bad}/nowhere --run {bad}/new",
    "no config.json": "train {data} --task {task} --base {bad} --run {bad}/new",
    "file/new: cannot write here": "train {data} --task {task} --base {base} --run {bad}/file/new",
    "collective_rank 4, not 32; ": "train {data} --task {task} --base {base} --run {run}",
    "nonsense: no such setting": TRAIN + " --set nonsense=1",
    "epochs: 0": TRAIN + " --set stage2.epochs=0",
    "epochs: 'many'": TRAIN + " --set stage2.epochs=many",
    "epochs: 1.5": TRAIN + " --set stage2.epochs=1.5",
    "learning_rate: 'fast'": TRAIN + " --set stage2.learning_rate=fast",
    "learning_rate: True": TRAIN + " --set stage2.learning_rate=true",
    "stage1: 5": TRAIN + " --set stage1=5",
    "layers: 9": TRAIN + " --set layers=9",
    "layers: (0, 0)": TRAIN + " --set layers=[0,0]",
    "layers: ('a',)": TRAIN + " --set layers=[a]",
    "layers: 7 is not a layer": TRAIN + " --set layers=[7]",
    "layers: None": TRAIN + " --set layers=",
    "dtype: 'int8'": TRAIN + " --set dtype=int8",
    "positions: 'x'": TRAIN + " --set positions=x",
    "positions: 1.5": TRAIN + " --set positions=1.5",
    "max_length: 4096": TRAIN + " --set max_length=4096",
    "write name=value": TRAIN + " --set seed",
    "is not YAML; lists": TRAIN + " --set seed=[",
    "--preset: 'huge'": TRAIN + " --preset huge",
    "the paper has no setting": TRAIN + " --preset paper",
    "missing.yaml: No such file": TRAIN + " --config {bad}/missing.yaml",
    "must be a mapping": TRAIN + " --config {bad}/list.yaml",
    "broken.yaml: is not YAML": TRAIN + " --config {bad}/broken.yaml",
    "latin.yaml: is not YAML": TRAIN + " --config {bad}/latin.yaml",
    "--users: 0": TRAIN + " --users 0",
    "there is no 'cuda:99'": TRAIN + " --device cuda:99",
    "layers_path: 'model' is not": TRAIN + " --layers-path model",
    "device: 'warp'": TRAIN + " --device warp",
    "file or folder": "evaluate {bad}/missing.jsonl --run {run}",
    "missing/manifest.json: not found": "evaluate {data} --run {bad}/missing",
    "methods: ['best']": "evaluate {data} --run {run} --methods base,best",
    "methods: []": "evaluate {data} --run {run} --methods ,",
    "--users: -1": "evaluate {data} --run {run} --users -1",
    "they differ in": "evaluate {data} --run {run} --task movie_tagging",
    "give the users' data": "evaluate",
    "nothing to evaluate": "evaluate {bad}/stranger.jsonl --run {run}",
    "nothing to evaluate ": "evaluate {bad}/unasked.jsonl --run {run}",
    "no_golds.json: no such file": "evaluate --lamp {bad}/golds.json {bad}/no_golds.json",
    "line 1, column 1: not valid JSON": "evaluate --lamp {bad}/golds.json {bad}/broken.json",
    "the task is 'LaMP_4'": "evaluate --lamp {bad}/other.json {bad}/golds.json",
    "task is 'odes'": "evaluate --lamp {bad}/golds.json {bad}/golds.json --task odes",
    "'nobody' has no personal shift": "generate text --user nobody --run {run}",
    "missing/manifest.json: not found ": "generate text --run {bad}/missing",
    "is {base} a run": "generate text --user base --run {base}",
    "cannot be read as JSON": "generate text --run {bad}/damaged",
    "'base' is missing": "generate text --run {bad}/partial",
    "stage 1 of this run is not finished": "generate text --run {bad}/unfinished",
    "max_new_tokens is 1,": "train {data} --task {bad}/brief.yaml --base {base} --run {bad}/new",
    "max_new_tokens is 1, ": "compare {data} --task {bad}/brief.yaml --base {base} --methods base --out {bad}/compared",
    "give texts to answer": "generate --run {run}",
    "give texts to answer ": "generate text --input {bad}/input.jsonl --run {run}",
    "leave --user out": "generate --input {bad}/input.jsonl --user anna --run {run}",
    "missing.jsonl: no such file": "generate --input {bad}/missing.jsonl --run {run}",
    "the field 'input' is missing": "generate --input {bad}/input.jsonl --run {run}",
    "line 1: not UTF-8": "generate --input {bad}/latin.jsonl --run {run}",
    "holds no lines": "generate --input {bad}/empty.jsonl --run {run}",
    "max_new_tokens: 0": "generate text --max-new-tokens 0 --run {run}",
    "no shift is stored for user 'nobody'": "users show nobody --run {run}",
    "no shift is stored for user 'nob'": "users export nob {bad}/nob.safetensors --run {run}",
    "no shift is stored for user 'no'": "users delete no --run {run}",
    "not got to the users yet": "users list --run {bad}/unfinished",
    "missing/manifest.json: not found  ": "users list --run {bad}/missing",
    "is not in": "users add nobody --data {data} --run {run}",
    "leaks": "users add anna --data {bad}/leak.jsonl --run {run}",
    "'hollow' was not trained": "users add hollow --data {bad}/hollow.jsonl --run {run}",
    "'base' means a pseudo-user ": "users add base --data {bad}/base.jsonl --run {run}",
    "is {base} a run ": "users add anna --data {data} --run {base}",
    "not readable as safetensors": "users import {bad}/file --run {run}",
    "none.safetensors": "users import {bad}/none.safetensors --run {run}",
    "'collective' means ": "users import {bad}/file --user collective --run {run}",
    "missing/manifest.json": "info {bad}/missing",
    "cannot be read as JSON ": "info {bad}/damaged",
    "'base' is missing ": "info {bad}/partial",
    "a value is missing or wrong": "info {bad}/hollow",
    "no such file ": "data audit {bad}/missing.jsonl --task {task}",
    "has no demo users": "data demo {bad}/demo.jsonl --task movie_tagging",
    "at least one test user": "data demo {bad}/demo.jsonl --users 0",
    "split: 'all'": "data download movie_tagging all {bad}/new",
    "missing: no such file or folder": "data convert {bad}/missing {bad}/new",
}  # fmt: skip

USAGE = (
    "max_new_tokens is 1,",
    "max_new_tokens is 1, ",
    "does not say which task",
    "task is 'poems'",
    "kind is missing",
    "nonsense: no such setting",
    "epochs: 0",
    "epochs: 'many'",
    "epochs: 1.5",
    "learning_rate: 'fast'",
    "learning_rate: True",
    "stage1: 5",
    "layers: 9",
    "layers: (0, 0)",
    "layers: ('a',)",
    "layers: 7 is not a layer",
    "layers: None",
    "dtype: 'int8'",
    "positions: 'x'",
    "positions: 1.5",
    "max_length: 4096",
    "write name=value",
    "is not YAML; lists",
    "--preset: 'huge'",
    "the paper has no setting",
    "must be a mapping",
    "broken.yaml: is not YAML",
    "latin.yaml: is not YAML",
    "--users: 0",
    "there is no 'cuda:99'",
    "device: 'warp'",
    "methods: ['best']",
    "methods: []",
    "--users: -1",
    "they differ in",
    "give the users' data",
    "nothing to evaluate",
    "nothing to evaluate ",
    "task is 'odes'",
    "give texts to answer",
    "give texts to answer ",
    "leave --user out",
    "max_new_tokens: 0",
    "has no demo users",
    "at least one test user",
    "split: 'all'",
)
LEAK = ("leaks of test answers", "leaks")
DAMAGED = (
    "cannot be read as JSON",
    "'base' is missing",
    "not readable as safetensors",
    "cannot be read as JSON ",
    "'base' is missing ",
    "a value is missing or wrong",
)
CODES = dict.fromkeys(USAGE, 2) | dict.fromkeys(LEAK, 3) | dict.fromkeys(DAMAGED, 4)  # all others: 1


@pytest.mark.parametrize("message", FAULTS)
def test_a_fault_is_one_line_and_an_exit_code(message: str, house: House, bad: Path, perfit: Perfit) -> None:
    places = {"bad": bad, "data": house.data, "task": house.task, "base": house.base, "run": house.run}
    done = perfit(*(part.format(**places) for part in FAULTS[message].split()))
    assert done.code == CODES.get(message, 1), done
    assert done.out == ""
    assert done.err.startswith("perfit: "), done.err
    assert len(done.err.splitlines()) == 1, done.err
    assert message.strip().format(**places) in done.err
    assert SECRET not in done.err
    assert not (bad / "new" / "manifest.json").exists()


def test_a_leak_in_the_data_is_exit_code_3_of_the_audit(house: House, bad: Path, perfit: Perfit) -> None:
    done = perfit("data", "audit", bad / "leak.jsonl", "--task", house.task)
    assert (done.code, done.err) == (3, "")
    assert "1 leaks" in done.out
    assert SECRET not in done.out
    as_json = perfit("data", "audit", bad / "leak.jsonl", "--task", house.task, "--json")
    assert as_json.code == 3
    assert json.loads(as_json.out)["leaks"] == 1


def test_wrong_usage_is_exit_code_2_without_a_traceback(perfit: Perfit) -> None:
    for arguments in (["train"], ["generate", "--colour", "red"], ["dance"], ["evaluate", "--seed", "x"]):
        done = perfit(*arguments)
        assert done.code == 2
        assert "Traceback" not in done.err


def test_exit_codes_of_the_real_command(tmp_path: Path) -> None:
    def run(*arguments: str) -> subprocess.CompletedProcess[str]:
        environment = os.environ | {"OMP_NUM_THREADS": "1"}
        command = [sys.executable, "-m", "perfit.cli.main", *arguments]
        return subprocess.run(command, capture_output=True, text=True, env=environment, check=False)

    done = run("data", "demo", str(tmp_path / "demo.jsonl"), "--users", "1", "--others", "0")
    assert (done.returncode, done.stderr) == (0, "")
    failed = run("info", str(tmp_path / "missing"))
    assert (failed.returncode, failed.stdout) == (1, "")
    assert failed.stderr.startswith("perfit: ")
    assert len(failed.stderr.splitlines()) == 1
    failed = run("train", str(tmp_path / "demo.jsonl"), "--task", "poems", "--run", str(tmp_path / "run"), *SETTINGS)
    assert (failed.returncode, failed.stdout) == (2, "")
    assert len(failed.stderr.splitlines()) == 1
