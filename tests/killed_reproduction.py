"""Runs ``perfit reproduce`` again and again and kills it at random moments; a script, as ``killed_training`` is.

All of it lies in one place while it is made, because a base is known by where it lies, and moves away when it is done.
Prints JSON.
"""

from __future__ import annotations

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
from killed_training import finish, start

import perfit.comparison.runner
import perfit.experiments.comparing
import perfit.methods.two_stage
import perfit.personalizer
from perfit.training import stages


def state(out: Path) -> str:
    """How far a killed reproduction came."""
    if list(out.glob("results/*/*.json")):
        return "done"
    statuses = [json.loads(path.read_text()).get("status") for path in out.glob("cells/*/trials/*/*/trial.json")]
    if "done" in statuses:
        return "some cells"
    if list(out.glob("cells/*/shared/*/*/collective.safetensors")):
        return "stage 2"
    return "stage 1" if statuses else "nothing"


def main(arguments: Sequence[str], folder: Path, kills: int, seed: int) -> None:
    """One whole reproduction in ``whole``; then ``kills`` kills, spread over ones that are taken up until they end."""
    torch.set_num_threads(1)
    stages._CHECKPOINT_SECONDS = 0.01
    log, out = folder / "log.txt", folder / "out"
    words = [*arguments, "--out", str(out)]
    began = time.monotonic()
    finish(words, log)
    seconds = time.monotonic() - began
    out.rename(folder / "whole")
    chance = random.Random(seed)
    seen: Counter[str] = Counter()
    runs = done = 0
    while done < kills:
        for _ in range(min(kills - done, chance.choice((2, 3)))):
            child = start(words, log)
            time.sleep(chance.uniform(0.02, 0.8 * seconds))
            os.kill(child, signal.SIGKILL)
            _, status = os.waitpid(child, 0)
            if os.WIFSIGNALED(status):
                done += 1
                seen[state(out)] += 1
        finish(words, log)
        out.rename(folder / f"killed-{runs}")
        runs += 1
    print(json.dumps({"runs": runs, "kills": done, "seen": seen, "seconds": seconds}))


if __name__ == "__main__":
    assert transformers.models.llama.modeling_llama
    assert perfit.personalizer
    assert perfit.comparison.runner
    assert perfit.experiments.comparing
    assert perfit.methods.two_stage
    main(json.loads(sys.argv[1]), Path(sys.argv[2]), int(sys.argv[3]), int(sys.argv[4]))
