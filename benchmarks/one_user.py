"""One new user on a trained run: from the command to a usable answer.

    python benchmarks/one_user.py --data NEWS_CATEGORIZE --run RUN [--items 50] [--rounds 3]

Cold is ``perfit users add`` in a fresh process, its imports and the base's loading included; with a frozen cache that
an earlier training filled, the frozen pass is skipped. Warm is the same through the library in a process that has the
base. An answer to one query closes each. RUN is copied first and not changed.
"""

from __future__ import annotations

import argparse
import json
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from dataclasses import replace
from pathlib import Path

import torch
from tables import markdown
from workload import spread

from perfit import Dataset, PerFit, User
from perfit.data import read_dataset
from perfit.data.jsonl import write_jsonl


def cold(run: Path, data: Path, cache: Path | None) -> float:
    """Seconds of ``perfit users add`` and ``perfit generate`` as a shell runs them; the second loads the base again."""
    more = [] if cache is None else ["--frozen-cache", str(cache)]
    begin = time.perf_counter()
    for command in (
        ["users", "add", "new", "--run", str(run), "--data", str(data), *more],
        ["generate", "A storm closed the harbour.", "--user", "new", "--run", str(run)],
    ):
        subprocess.run([sys.executable, "-m", "perfit.cli.main", *command], check=True, capture_output=True)
    return time.perf_counter() - begin


def warm(perfit: PerFit, user: User, cache: Path | None) -> float:
    """Seconds of ``personalize`` and one answer in a process that has the base."""
    begin = time.perf_counter()
    trained = perfit.personalize(user, frozen_cache=cache)
    assert trained.problem is None
    perfit.generate(["A storm closed the harbour."], [user.id])
    return time.perf_counter() - begin


def main() -> None:
    """Run the benchmark and print its table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--run", type=Path, required=True)
    parser.add_argument("--items", type=int, default=50)
    parser.add_argument("--rounds", type=int, default=3)
    arguments = parser.parse_args()
    full = next(user for user in read_dataset(arguments.data).users if len(user.history) >= arguments.items)
    user = replace(full, id="new", history=full.history[-arguments.items :], queries=())
    lines = []
    with tempfile.TemporaryDirectory() as folder:
        place = Path(folder)
        run = place / "run"
        shutil.copytree(arguments.run, run)
        task = json.loads((run / "manifest.json").read_text())["task"]["name"]
        data = place / "new.jsonl"
        write_jsonl(Dataset(users=(user,), task=task), data)
        perfit = PerFit.from_pretrained(run)
        for name, way in (
            ("cold, perfit users add + perfit generate", lambda: cold(run, data, None)),
            ("cold, frozen parts on disk", lambda: cold(run, data, place / "cache")),
            ("warm, personalize + generate", lambda: warm(perfit, user, None)),
            ("warm, frozen parts on disk", lambda: warm(perfit, user, place / "cache")),
        ):
            way()  # untimed: fills the system's and the frozen cache
            seconds = [way() for _ in range(arguments.rounds)]
            lines.append([name, f"{statistics.median(seconds):.1f}", spread(seconds)])
    print(
        f"{arguments.items} items, {perfit.config.stage2.epochs} epochs, {perfit.config.positions}, "
        f"{torch.get_num_threads()} threads, torch {torch.__version__}, {arguments.rounds} rounds\n"
    )
    print(markdown(["one new user", "seconds, median", "range"], lines))


if __name__ == "__main__":
    main()
