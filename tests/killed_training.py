"""Runs ``perfit train`` again and again and kills it at random moments; a script, so that nothing is imported twice.

Every training is a fork of this process, which has imported everything and computed nothing. Prints JSON.
"""

from __future__ import annotations

import contextlib
import json
import os
import random
import signal
import sys
import time
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

import torch
import transformers.models.llama.modeling_llama

import perfit.personalizer
from perfit.cli import main as cli
from perfit.store import ShiftStore
from perfit.training import stages


def start(arguments: Sequence[str], log: Path) -> int:
    """``perfit`` with these arguments in a process of its own; its id."""
    child = os.fork()
    if child:
        return child
    code = 1
    with contextlib.suppress(BaseException):
        file = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
        for stream in (1, 2):
            os.dup2(file, stream)
        sys.argv = ["perfit", *arguments]
        try:
            cli.main()
        except SystemExit as stop:
            code = int(stop.code or 0)
        except BaseException as error:
            print(repr(error), flush=True)
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code)


def finish(arguments: Sequence[str], log: Path) -> None:
    """Run to the end."""
    _, status = os.waitpid(start(arguments, log), 0)
    if status:
        raise SystemExit(f"training failed: {log.read_text()}")


def state(run: Path) -> str:
    """How far a killed run came; its store must be whole."""
    if (run / "personal.sqlite").exists():
        with ShiftStore.open(run / "personal.sqlite", readonly=True) as store:
            damaged = store.verify()
            for user in store.users():
                store.get(user)
        if damaged:
            raise SystemExit(f"damaged after a kill: {damaged}")
    training = run / "training.jsonl"
    if training.exists():
        return "done" if '"complete"' in training.read_text() else "stage 2, users stored"
    if (run / "collective.safetensors").exists():
        return "stage 2"
    if (run / "checkpoints" / "stage1.safetensors").exists():
        return "stage 1, checkpoint"
    return "stage 1" if (run / "manifest.json").exists() else "nothing"


def main(arguments: Sequence[str], folder: Path, kills: int, seed: int) -> None:
    """One whole training, then ``kills`` kills spread over trainings that are taken up until they end."""
    torch.set_num_threads(1)
    stages._CHECKPOINT_SECONDS = 0.01
    log = folder / "log.txt"
    finish([*arguments, "--run", str(folder / "warm")], log)  # fills the page cache
    began = time.monotonic()
    finish([*arguments, "--run", str(folder / "whole")], log)
    seconds = time.monotonic() - began
    chance = random.Random(seed)
    seen: Counter[str] = Counter()
    runs = done = 0
    while done < kills:
        run = folder / f"killed-{runs}"
        runs += 1
        for _ in range(chance.choice((1, 1, 2, 3))):
            child = start([*arguments, "--run", str(run)], log)
            time.sleep(chance.uniform(0.02, seconds))
            os.kill(child, signal.SIGKILL)
            _, status = os.waitpid(child, 0)
            if os.WIFSIGNALED(status):
                done += 1
                seen[state(run)] += 1
        finish([*arguments, "--run", str(run)], log)
        if state(run) != "done":
            raise SystemExit(f"{run} did not end")
    print(json.dumps({"runs": runs, "kills": done, "seen": seen, "seconds": seconds}))


if __name__ == "__main__":
    assert transformers.models.llama.modeling_llama
    assert perfit.personalizer
    main(json.loads(sys.argv[1]), Path(sys.argv[2]), int(sys.argv[3]), int(sys.argv[4]))
