"""Answers of several threads that share one PerFit: are they those of one thread, and how many come in a second?

    python benchmarks/threads.py RUN --data USERS --calls 200 --threads 8 --rounds 3

RUN is a finished run (``perfit quickstart`` makes one), USERS its data. A call asks for one answer or one row of label
scores for one user, "base" or "collective". All calls are made by one thread first, then, in each round, by one thread and
by many in turn; every result is compared with the first one, to the bit. torch itself uses ``--torch-threads``.
"""

from __future__ import annotations

import argparse
import random
import statistics
import time
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import torch
from tables import markdown

from perfit import PerFit, read_dataset
from perfit.data.schema import Query


def main() -> None:
    """Run the benchmark and print its table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("run", help="a finished run")
    parser.add_argument("--data", required=True, help="the users of that run")
    parser.add_argument("--calls", type=int, default=200)
    parser.add_argument("--threads", type=int, default=8)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--torch-threads", type=int, default=1)
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.torch_threads)
    perfit = PerFit.from_pretrained(arguments.run)
    queries = [query for user in read_dataset(arguments.data).users for query in user.queries]
    rng = random.Random(0)
    owners = [*perfit.users(), "base", "collective"]
    calls = [(rng.choice(queries), rng.choice(owners), rng.random() < 0.5) for _ in range(arguments.calls)]

    def ask(call: tuple[Query, str, bool]) -> Any:
        query, owner, scored = call
        if scored:
            return tuple(perfit.score_labels([query], [owner])[0].tolist())
        return perfit.generate([query], [owner])[0]

    expected = [ask(call) for call in calls]
    seconds: dict[int, list[float]] = {1: [], arguments.threads: []}
    wrong = dict.fromkeys(seconds, 0)
    for _ in range(arguments.rounds):
        for threads in seconds:
            with ThreadPoolExecutor(threads) as pool:
                began = time.perf_counter()
                got = list(pool.map(ask, calls))
                seconds[threads].append(time.perf_counter() - began)
            wrong[threads] += sum(a != b for a, b in zip(got, expected, strict=True))
    one = statistics.median(seconds[1])
    rows = [
        [
            str(threads),
            str(wrong[threads]),
            f"{arguments.calls / statistics.median(times):.1f}",
            f"{one / statistics.median(times):.2f} x",
        ]
        for threads, times in seconds.items()
    ]
    print(markdown(["threads", "wrong of all", "calls a second", "against one"], rows))


if __name__ == "__main__":
    main()
