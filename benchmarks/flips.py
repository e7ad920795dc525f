"""One changed byte in a finished run or in an exported user: is it found, harmless, or silently another answer?

    python benchmarks/flips.py --flips 2000 --seed 1

Each flip changes one byte of one file (files by turns) to another value; then ``info --verify``, ``users list``,
``users show`` of everybody, ``generate``, all label scores, ``report``, ``train`` (again, on what is trained),
``users import`` of the export and ``users delete`` run on it. Detected: at least one of them refuses with one line and an
exit code, and all others do what they did before. Harmless: all do what they did before, to the bit. Anything else is a
fault, and ends the command with 1. Without ``--run`` on a random base of three layers, trained, evaluated and reported,
with a user erased; ``--results`` adds up what several calls found.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path

import torch
from tables import markdown

sys.path.insert(0, str(Path(__file__).parents[1] / "tests"))

from flipped import DETECTED, HARMLESS, SILENT, TRACEBACK, UNREAD, Flips, one_base
from small_base import CONFIG, TASK, dataset, write_base

from perfit import PerFit, read_dataset
from perfit.data.jsonl import write_jsonl
from perfit.evaluation.evaluate import evaluate
from perfit.events import EventFile
from perfit.report.from_run import from_run
from perfit.report.page import write_report
from perfit.run import RunDirectory

KINDS = (DETECTED, HARMLESS, UNREAD, SILENT, TRACEBACK)


def finished(folder: Path) -> tuple[Path, Path]:
    """A run of everything: trained with a frozen cache, a user erased, evaluated, reported; and its data."""
    run, data = folder / "run", folder / "data.jsonl"
    write_jsonl(dataset(("anna", "ben", "cleo", "dora")), data)
    perfit = PerFit.from_pretrained(write_base(folder / "base"), CONFIG, task=TASK)
    read = read_dataset(data)
    perfit.fit(read, run=run, frozen_cache=folder / "frozen", listener=EventFile(run / "events.jsonl"))
    perfit.erase("dora")
    evaluate(perfit, read.users, others=read.others, run=RunDirectory(run))
    write_report(from_run(RunDirectory(run), read), run)
    return run, data


def main() -> None:
    """Flip and print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--flips", type=int, default=2000)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--run", type=Path, help="a run that was trained and evaluated, in place of a tiny one")
    parser.add_argument("--data", type=Path, help="the data of --run")
    parser.add_argument("--results", type=Path, help="file that several calls add up in")
    arguments = parser.parse_args()
    if (arguments.run is None) != (arguments.data is None):
        parser.error("give --run and --data together")
    torch.set_num_threads(1)
    counts: dict[str, Counter[str]] = {}
    if arguments.results is not None and arguments.results.exists():
        counts = {name: Counter(found) for name, found in json.loads(arguments.results.read_text()).items()}
    bad = []
    with tempfile.TemporaryDirectory() as folder, one_base():
        where = Path(folder)
        run, data = finished(where) if arguments.run is None else (arguments.run, arguments.data)
        flips = Flips(run, data, where / "flips")
        began = time.perf_counter()
        for flip in flips.drawn(arguments.flips, arguments.seed):
            kind, how = flips.judge(flip)
            counts.setdefault(flip.file, Counter())[kind] += 1
            if kind in (SILENT, TRACEBACK):
                bad.append(f"{kind}: {flip}: {how}")
                print(bad[-1], flush=True)
        seconds = time.perf_counter() - began
    if arguments.results is not None:
        arguments.results.write_text(json.dumps(counts, indent=1))
    rows = [[name, *(str(found[kind]) for kind in KINDS)] for name, found in sorted(counts.items())]
    sums = [str(sum(found[kind] for found in counts.values())) for kind in KINDS]
    print(markdown(["file", *KINDS], [*rows, ["all", *sums]]))
    print(f"{arguments.flips} flips in {seconds:.0f} s")
    sys.exit(1 if bad else 0)


if __name__ == "__main__":
    main()
