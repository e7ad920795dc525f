"""Does anybody ever get another's answer? Random interleavings of requests, turns, cancels, trainings, roll-backs and
deletions on a tiny base, on engines with small pools and small steps, each answer held to one request served alone.

    python benchmarks/serving_interleavings.py --count 100000

Every program meets what the one before left in the bank and in the pages. It stops at the first answer that differs and
says with which seed. One core does about ten programs a second.
"""

from __future__ import annotations

import argparse
import sys
import time
from pathlib import Path

import tables
import torch

sys.path.insert(0, str(Path(__file__).parents[1] / "tests"))
sys.path.insert(0, str(Path(__file__).parents[1] / "tests" / "serving"))

from interleavings import Interleavings

_AT_ONCE = 100  # programs on one set of engines; a seed each


def main() -> None:
    """Run them and print what happened in them."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--count", type=int, default=1000)
    parser.add_argument("--seed", type=int, default=0, help="of the first hundred")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    begun, evicted = time.monotonic(), 0
    counts: dict[str, int] = {}
    for number in range(-(-arguments.count // _AT_ONCE)):
        seed = arguments.seed + number
        programs = Interleavings(seed)
        try:
            programs.run(min(_AT_ONCE, arguments.count - number * _AT_ONCE))
        except AssertionError:
            print(f"an answer differs; repeat with --count {_AT_ONCE} --seed {seed}", file=sys.stderr)
            raise
        for name, value in programs.counts.items():
            counts[name] = counts.get(name, 0) + value
        evicted += sum(engine.stats().evictions for engine in programs.engines)
        print(
            f"{counts['interleavings']:,} interleavings, {time.monotonic() - begun:,.0f} s", file=sys.stderr, flush=True
        )
    rows = [[name, f"{value:,}"] for name, value in {**counts, "evicted from the bank": evicted}.items()]
    print(tables.markdown(["what", "times"], rows))


if __name__ == "__main__":
    main()
