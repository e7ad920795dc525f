"""What a server does when it is killed, sent nonsense, or spied on.

    python benchmarks/serving_faults.py kills --count 50
    python benchmarks/serving_faults.py fuzz --count 10000
    python benchmarks/serving_faults.py timing --count 200

``kills``: SIGKILL to server and training worker at a random moment while histories, feedback, versions, roll-backs and
erasures are written and answers are given; the next server must find everything that was acknowledged and nothing half.
``fuzz``: requests that nobody means; no fault of the server, and no text of them in a log. ``timing``: one tenant asks what
another has just asked; neither ``cached_tokens`` nor the time to the answer may tell, and its own prompt, asked again, must
(the control). All on a tiny base.
"""

from __future__ import annotations

import argparse
import hashlib
import multiprocessing
import os
import random
import statistics
import sys
import tempfile
import time
from pathlib import Path

import torch
from tables import markdown

sys.path.insert(0, str(Path(__file__).parents[1] / "tests"))
sys.path.insert(0, str(Path(__file__).parents[1] / "tests" / "serving"))

from fuzzing import Fuzzer
from kills import Kills
from served_run import Site, site, train

from perfit.serving.keys import Keys, Tenant


def main() -> None:
    """Run one of them and print its table; 1 where something is wrong."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=["kills", "fuzz", "timing"])
    parser.add_argument("--count", type=int, default=50)
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    os.environ["TOKENIZERS_PARALLELISM"] = "false"
    with tempfile.TemporaryDirectory() as folder:
        made = multiprocessing.get_context("fork").Process(target=train, args=(Path(folder),))
        made.start()  # in a process of its own: the kills fork, and this one must not have opened anything
        made.join()
        run = Path(folder) / "run"
        act = {"kills": kills, "fuzz": fuzz, "timing": timing}[arguments.what]
        sys.exit(act(run, arguments.count, arguments.seed))


def kills(run: Path, count: int, seed: int) -> bool:
    """Kill so often."""
    lives = Kills(run, seed)
    for number in range(count):
        lives.kill()
        print(f"{number + 1} kills, {len(lives.problems)} problems", file=sys.stderr, flush=True)
    rows = [[what, f"{times:,}"] for what, times in sorted(lives.counts.items())]
    print(
        markdown(["acknowledged, and there after the kill", "times"], [*rows, ["problems", str(len(lives.problems))]])
    )
    print("\n".join(lives.problems))
    return bool(lives.problems)


def fuzz(run: Path, count: int, seed: int) -> bool:
    """Send so many requests."""
    with site(run, engine="transformers") as one:
        fuzzer = Fuzzer(one, seed)
        for number in range(0, count, 500):
            fuzzer.run(min(500, count - number))
            print(f"{number + 500:,} requests", file=sys.stderr, flush=True)
    named = {0: "not sent: the client refuses it"}
    rows = [[named.get(status, str(status)), f"{times:,}"] for status, times in sorted(fuzzer.statuses.items())]
    print(markdown(["status", "answers"], rows))
    print(f"{len(fuzzer.wrong)} answers that nobody may get; no text in {count:,} requests' logs")
    print("\n".join(fuzzer.wrong[:10]))
    return bool(fuzzer.wrong)


def timing(run: Path, count: int, seed: int) -> bool:
    """Ask so often what another tenant asked, what nobody asked, and what one asked oneself."""
    keys = Keys([Tenant(name, (hashlib.sha256(name.encode()).hexdigest(),), ("anna",)) for name in ("victim", "spy")])
    chance = random.Random(seed)
    asked = ["new", "the victim's", "its own"]
    found: dict[str, list[tuple[float, int]]] = {name: [] for name in asked}
    with site(run, keys=keys, engine="transformers") as one:
        for turn in range(count + 5):
            prompts = {name: _prompt(chance) for name in asked}
            _probe(one, "victim", prompts["the victim's"])
            _probe(one, "spy", prompts["its own"])
            for name in chance.sample(asked, 3):
                probed = _probe(one, "spy", prompts[name])
                if turn >= 5:  # the first warm up
                    found[name].append(probed)
    rows, fresh = [], [seconds for seconds, _ in found["new"]]
    for name, probes in found.items():
        seconds = [one for one, _ in probes]
        tenths = statistics.quantiles(seconds, n=10)
        rows.append(
            [
                name,
                str(len(probes)),
                str(sum(cached for _, cached in probes)),
                f"{1000 * statistics.median(seconds):.1f}",
                f"{1000 * tenths[0]:.1f} to {1000 * tenths[-1]:.1f}",
                "" if name == "new" else f"{_faster(seconds, fresh):.3f}",
            ]
        )
    header = [
        "the spy asks a prompt that is",
        "times",
        "cached tokens",
        "median ms",
        "tenths ms",
        "faster than a new one",
    ]
    print(markdown(header, rows))
    print("The last column: in which share of pairs; 0.5 tells nothing.")
    return any(cached for _, cached in found["the victim's"]) or not any(cached for _, cached in found["its own"])


def _faster(one: list[float], other: list[float]) -> float:
    pairs = [(a < b) + (a == b) / 2 for a in one for b in other]
    return sum(pairs) / len(pairs)


def _prompt(chance: random.Random) -> str:
    return "".join(chance.choice("abcdefghijklmnopqrstuvwxyz ") for _ in range(900))


def _probe(one: Site, key: str, prompt: str) -> tuple[float, int]:
    body = {"user": "anna", "prompt": prompt, "max_tokens": 1}
    began = time.perf_counter()
    said = one.post("/v1/completions", body, headers={"authorization": f"Bearer {key}"})
    seconds = time.perf_counter() - began
    said.raise_for_status()
    return seconds, said.json()["usage"]["prompt_tokens_details"]["cached_tokens"]


if __name__ == "__main__":
    main()
