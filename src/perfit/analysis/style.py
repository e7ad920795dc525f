"""How figures look: publication size, colours that colour-blind readers tell apart, shapes that grey paper does."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from perfit.analysis.extra import extra
from perfit.private import private_file, private_folder

COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#56B4E9", "#E69F00", "#000000")
"""Okabe and Ito's palette, the darker ones first."""
MARKERS = ("o", "^", "s", "D", "v", "P", "X")
LINES: tuple[Any, ...] = ("-", "--", "-.", ":", (0, (5, 1, 1, 1, 1, 1)), (0, (1, 1)), (0, (8, 2)))
HATCHES = ("", "////", "\\\\\\\\", "xxxx", "----", "||||", "++++")
WIDTH = 6.8  # inches: two columns of a paper


def new_figure(rows: int, columns: int, height: float, **options: Any) -> tuple[Any, Any]:
    """A figure of full width and its axes [rows, columns].

    Raises:
        MissingExtraError: matplotlib is not installed.
    """
    extra("matplotlib").rcParams.update(
        {
            "font.size": 8,
            "axes.titlesize": 8,
            "axes.spines.top": False,
            "axes.spines.right": False,
            "legend.frameon": False,
            "legend.fontsize": 7,
            "lines.linewidth": 1.2,
            "svg.fonttype": "none",
            "svg.hashsalt": "perfit",
        }
    )
    figure = extra("matplotlib.figure").Figure(figsize=(WIDTH, height), layout="constrained")
    return figure, figure.subplots(rows, columns, squeeze=False, **options)


def save(figure: Any, folder: Path, name: str) -> Path:
    """Write a figure as SVG; equal figures give equal files."""
    private_folder(folder)
    path = folder / f"{name}.svg"
    private_file(path)
    figure.savefig(path, format="svg", metadata={"Date": None})
    return path


def by_task(names: Sequence[str]) -> dict[str, dict[str, Any]]:
    """Colour, marker and line of each task."""
    return {
        name: {
            "color": COLOURS[n % len(COLOURS)],
            "marker": MARKERS[n % len(MARKERS)],
            "linestyle": LINES[n % len(LINES)],
        }
        for n, name in enumerate(names)
    }
