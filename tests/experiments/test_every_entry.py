"""All of the paper's tables and figures at the smoke scale, as they are typed: whole, and within five minutes of one core."""

from __future__ import annotations

import os
import resource
import subprocess
import sys
from pathlib import Path

from perfit.experiments.outcome import outcomes
from perfit.experiments.paper.registry import entries

FIVE_MINUTES = 300


def test_every_entry_is_run_whole_within_five_minutes_of_one_core(tmp_path: Path) -> None:
    def seconds() -> float:
        used = resource.getrusage(resource.RUSAGE_CHILDREN)
        return used.ru_utime + used.ru_stime

    before, out = seconds(), tmp_path / "out"
    words = ("reproduce", "all", "--scale", "smoke", "--device", "cpu", "--out", str(out))
    done = subprocess.run(
        [sys.executable, "-m", "perfit", *words],
        env={**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": os.pathsep.join(sys.path)},
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    found = outcomes(out / "results" / "smoke", entries())
    assert [one.entry for one in found] == list(entries())
    for one in found:
        assert one.done == one.cells > 0, one.entry
        assert one.missing == {}, one.entry
        assert all((out / "results" / "smoke" / figure).is_file() for figure in one.figures)
    assert sum(bool(one.figures) for one in found) >= len([name for name in entries() if name.startswith("figure")])
    assert seconds() - before < FIVE_MINUTES
