"""Everything perfit makes of three users, one of whom has a name and texts found nowhere else."""

from __future__ import annotations

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))

import pytest
from command_line import SETTINGS
from flow import CANARY, Flow, data_with_canary, do
from small_base import write_base, write_task

from perfit.data.jsonl import write_jsonl


@pytest.fixture(scope="session")
def made(tmp_path_factory: pytest.TempPathFactory) -> Flow:
    """The full flow, made once; a test that changes it takes ``flow``."""
    top = tmp_path_factory.mktemp("flow")
    flow = Flow(top, write_base(tmp_path_factory.mktemp("base")))
    write_task(flow.task)
    write_jsonl(data_with_canary(), flow.data)
    write_jsonl(data_with_canary("dora"), flow.more)
    with_task = ("--task", flow.task, "--base", flow.base)
    cache = ("--frozen-cache", flow.cache)
    do("train", flow.data, *with_task, *SETTINGS, "--run", flow.run, *cache)
    do("users", "add", "dora", "--data", flow.more, "--run", flow.run)
    do("evaluate", flow.data, "--run", flow.run)
    do("report", flow.run, "--data", flow.data)
    do("generate", "a lamp", "--user", CANARY, "--run", flow.run)
    methods = "floor-user-majority,pag,oppu,perfit"
    small = ("--option", "oppu.rank=2", "--option", "pag.tokens=8", "--option", "pag.prompt_tokens=600")
    compared = ("--methods", methods, "--seeds", "3", "--against", "oppu", *small)
    do("compare", flow.data, *with_task, *SETTINGS, *compared, "--out", flow.compared)
    do("report", flow.compared)
    few = ("--items", "2", "--history-tokens", "60", "--batch-tokens", "512", "--layers", "1")
    do("analyze", flow.data, *with_task, "--out", flow.analysed, *few)
    fixed = (
        "--set",
        "dtype=float32",
        "--set",
        "stage1.epochs=1",
        "--set",
        "stage2.epochs=1",
        "--set",
        "max_length=256",
    )
    do("search", flow.data, *with_task, *fixed, "--trials", "1", "--out", flow.searched)
    return flow


@pytest.fixture
def flow(made: Flow, tmp_path: Path) -> Flow:
    """A copy of the full flow that a test may change."""
    return made.copy(tmp_path / "flow")
