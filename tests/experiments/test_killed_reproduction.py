"""A reproduction killed with signal 9 at random moments, and repeated, ends with the bytes of one that nobody disturbed."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from safetensors import safe_open

WORDS = ("reproduce", "table16", "--scale", "smoke", "--tasks", "movie_tagging,news_categorize", "--device", "cpu")
SCRIPT = Path(__file__).resolve().parents[1] / "killed_reproduction.py"


def without_time(value: Any) -> Any:
    """All but how long it took and how much memory."""
    if isinstance(value, dict):
        return {name: without_time(inner) for name, inner in value.items() if name not in ("seconds", "starts")}
    return [without_time(inner) for inner in value] if isinstance(value, list) else value


def tensors(path: Path) -> dict[str, bytes]:
    with safe_open(path, "pt") as file:
        return {name: file.get_tensor(name).float().numpy().tobytes() for name in file.keys()}  # noqa: SIM118


def result(out: Path) -> dict[str, Any]:
    """Every result, figure, answer and trained number below a reproduction's folder, by its place."""
    found: dict[str, Any] = {}
    for path in sorted(out.rglob("*")):
        name = str(path.relative_to(out))
        if path.name == "predictions.jsonl" or "figures" in path.parts:
            found[name] = path.read_bytes()
        elif path.suffix == ".json" and "results" in path.parts:
            found[name] = without_time(json.loads(path.read_text()))
        elif path.suffix == ".safetensors" and "cells" in path.parts:
            found[name] = tensors(path)
    return found


def killed(folder: Path, kills: int, seed: int) -> dict[str, Any]:
    done = subprocess.run(
        [sys.executable, SCRIPT, json.dumps(WORDS), folder, str(kills), str(seed)],
        capture_output=True,
        text=True,
        timeout=1200,
        env=os.environ | {"OMP_NUM_THREADS": "1", "PYTHONPATH": os.pathsep.join(sys.path)},
        check=False,
    )
    assert done.returncode == 0, done.stderr[-2000:]
    report: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return report


@pytest.mark.parametrize("kills", [4, pytest.param(20, marks=pytest.mark.slow)])
def test_killed_at_random_moments_it_ends_with_the_same_bytes(kills: int, tmp_path: Path) -> None:
    report = killed(tmp_path, kills, seed=kills)
    assert report["kills"] == kills
    assert set(report["seen"]) - {"nothing", "done"}, report
    wanted = result(tmp_path / "whole")
    kinds = {Path(name).name for name in wanted}
    assert {"table16.json", "predictions.jsonl", "collective.safetensors"} <= kinds
    assert any("users" in Path(name).parts for name in wanted)
    for number in range(report["runs"]):
        assert result(tmp_path / f"killed-{number}") == wanted, number
