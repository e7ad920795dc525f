"""Killed in the middle of writing, a server has everything that it acknowledged, and nothing half."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

_BENCHMARK = Path(__file__).parents[2] / "benchmarks" / "serving_faults.py"


def test_two_kills() -> None:
    """In a process of its own, for it forks."""
    done = subprocess.run([sys.executable, _BENCHMARK, "kills", "--count", "2"], capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr[-2000:]
    rows = dict(line.strip("| ").split(" | ") for line in done.stdout.splitlines() if line.startswith("| "))
    found = {name.strip(): times.strip() for name, times in rows.items()}
    assert (found["kills"], found["problems"]) == ("2", "0")
    assert found["feedback"] != "0"
