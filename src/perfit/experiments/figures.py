"""Figures of comparisons in the paper's form: curves over layers, score against parameters, a table of ranks."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from perfit.experiments.outcome import OutcomeRow
from perfit.experiments.paper.entry import METRICS, Entry
from perfit.pages.drawing import BLUE, GREY, MUTED, ORANGE, WIDTH, Drawn, draw

_PANEL, _HEIGHT = 3.2, 2.6  # inches
_LOOKS = ((BLUE, "o", "-"), (ORANGE, "s", "--"), (GREY, "^", ":"))


def figure_of(
    entry: Entry, rows: Mapping[str, OutcomeRow], tasks: tuple[str, ...], *, upright: bool = False
) -> Drawn | None:
    """An entry's figure, of the rows that are there; None where it has none, or nothing is finished.

    Panels stand side by side as in the paper, or one below the other where it must be read on a telephone.
    """
    whole = [row for row in rows.values() if any(value.mean is not None for value in row.values.values())]
    if entry.figure is None or not whole:
        return None
    paint = {"lines": _lines, "scatter": _scatter, "heatmap": _heatmap}[entry.figure]
    curves = len({row.curve for row in entry.rows if row.x is not None}) if entry.figure == "lines" else 1
    panels = len(METRICS[tasks[0]]) if entry.figure == "heatmap" else len(tasks) * curves
    return draw(
        entry.name,
        entry.title,
        f"{entry.title}; ours, the paper's dotted",
        _HEIGHT * panels if upright else _HEIGHT,
        lambda figure: paint(_axes(figure, panels, upright), entry, rows, tasks),
        width=WIDTH if upright else _PANEL * panels,
    )


def _axes(figure: Any, panels: int, upright: bool) -> list[Any]:
    return list(figure.subplots(*((panels, 1) if upright else (1, panels)), squeeze=False).ravel())


def _lines(panels: list[Any], entry: Entry, rows: Mapping[str, OutcomeRow], tasks: tuple[str, ...]) -> None:
    curves = list(dict.fromkeys(row.curve for row in entry.rows if row.x is not None))
    for axis, (curve, task) in zip(panels, [(curve, task) for curve in curves for task in tasks], strict=True):
        mine = sorted(
            (row for row in entry.rows if row.x is not None and row.curve == curve), key=lambda row: row.x or 0
        )
        for (colour, marker, line), metric in zip(_LOOKS, METRICS[task], strict=False):
            column = f"{task}.{metric}"
            ours = [(row.x, rows[row.label].values[column].mean) for row in mine if column in rows[row.label].values]
            ours = [(x, y) for x, y in ours if y is not None]
            axis.plot([x for x, _ in ours], [y for _, y in ours], line, color=colour, marker=marker, ms=3, label=metric)
            printed = [(row.x, entry.printed(row.label, column)) for row in mine]
            printed = [(x, y) for x, y in printed if y is not None]
            axis.plot([x for x, _ in printed], [y for _, y in printed], ":", color=colour, alpha=0.5, lw=1)
        axis.set_title(task)
        axis.set_xlabel(curve or entry.axis or "")
        axis.legend(fontsize=7)


def _scatter(panels: list[Any], entry: Entry, rows: Mapping[str, OutcomeRow], tasks: tuple[str, ...]) -> None:
    """Figure 4: the marker's area is the training time against the longest."""
    longest = max(row.seconds for row in rows.values()) or 1.0
    for axis, task in zip(panels, tasks, strict=True):
        column = f"{task}.{METRICS[task][0]}"
        for row in rows.values():
            value = row.values.get(column)
            count = (row.collective_parameters or 0) + (row.personal_parameters or 0)
            if value is not None and value.mean is not None and count:
                colour = ORANGE if row.label.startswith("PerFit") else BLUE
                axis.scatter([count], [value.mean], s=10 + 120 * row.seconds / longest, color=colour, alpha=0.6)
                axis.annotate(row.label, (count, value.mean), fontsize=6, color=MUTED)
        axis.set_xscale("log")
        axis.set_title(task)
        axis.set_xlabel("parameters")


def _heatmap(panels: list[Any], entry: Entry, rows: Mapping[str, OutcomeRow], tasks: tuple[str, ...]) -> None:
    task = tasks[0]
    xs = sorted({row.x for row in entry.rows if row.x is not None})
    ys = sorted({row.y for row in entry.rows if row.y is not None})
    cells = {(row.x, row.y): row.label for row in entry.rows if row.x is not None}
    for axis, metric in zip(panels, METRICS[task], strict=True):
        values = [[rows[cells[x, y]].values[f"{task}.{metric}"].mean for x in xs] for y in ys]
        known = [[float("nan") if one is None else one for one in line] for line in values]
        axis.imshow(known, origin="lower", cmap="cividis")
        for j, line in enumerate(values):
            for i, one in enumerate(line):
                axis.text(
                    i, j, "?" if one is None else f"{one:.3f}", ha="center", va="center", fontsize=6, color="white"
                )
        axis.set(xlabel="collective rank", ylabel="personal rank", title=metric)
        axis.set_xticks(range(len(xs)), [f"{x:g}" for x in xs])
        axis.set_yticks(range(len(ys)), [f"{y:g}" for y in ys])
        axis.grid(False)
