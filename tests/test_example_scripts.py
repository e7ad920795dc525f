"""The examples run as they stand: here on a tiny base, the slow way on the packaged one that they name."""

from __future__ import annotations

import importlib.util
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from small_base import CONFIG, write_base

EXAMPLES = Path(__file__).resolve().parents[1] / "examples"
SCRIPTS = sorted(EXAMPLES.glob("*.py"))


def example(name: str) -> Any:
    spec = importlib.util.spec_from_file_location(name, EXAMPLES / f"{name}.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> str:
    return str(write_base(tmp_path_factory.mktemp("base")))


def test_train_and_answer(base: str, tmp_path: Path) -> None:
    answers = example("train_and_answer").main(base, tmp_path, CONFIG)
    assert set(answers) == {"demo-user-000", "demo-user-001", "collective", "base"}


def test_a_task_of_your_own(base: str, tmp_path: Path) -> None:
    place = example("task_of_your_own").main(base, tmp_path, CONFIG)
    assert place in ("garden", "kitchen", "workshop")


def test_a_method_of_your_own(base: str, tmp_path: Path) -> None:
    settings = {"layers": [0, 1], "collective_rank": 4, "personal_rank": 3, "dtype": "float32", "stage1.epochs": 1}
    table = example("method_of_your_own").main(base, tmp_path, settings)
    assert "| Last answer" in table
    assert "failed" not in table
    assert (tmp_path / "comparison" / "table.json").exists()


@pytest.mark.slow
@pytest.mark.real
@pytest.mark.parametrize("script", SCRIPTS, ids=lambda path: path.stem)
def test_as_a_stranger_runs_it(script: Path, tmp_path: Path) -> None:
    done = subprocess.run([sys.executable, script], cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert done.stdout
