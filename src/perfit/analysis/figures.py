"""The paper's figures on δ-vectors, drawn from tidy tables."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from perfit.analysis.deltas import Array, DeltaVectors
from perfit.analysis.recipe import BARE, HISTORY
from perfit.analysis.style import COLOURS, HATCHES, by_task, new_figure, save
from perfit.analysis.tables import COMPONENTS, Row, Tables
from perfit.analysis.tasks_together import tasks_together

_CIRCLED = 10


def write_figures(many: Sequence[DeltaVectors], tables: Tables, layer: int, folder: Path) -> list[Path]:
    """Draw all figures that the tables allow; test users where there are any.

    Args:
        many: The δ-vectors the tables were made of.
        tables: As ``tables_of`` gives them.
        layer: What figures of one layer show.
        folder: Where the SVG files go.

    Raises:
        MissingExtraError: matplotlib is not installed.
    """
    group = "test" if any(one.group == "test" for one in many) else many[0].group
    shown = [one for one in many if one.group == group]
    names = [one.task for one in shown]
    own = {name: [row for row in rows if row.get("group", group) == group] for name, rows in tables.items()}
    figures = {
        "observations": observations(own, names, layer),
        "layers": layers_figure(own, names),
        "cases": cases(own, names, layer),
    }
    if own.get("controls"):
        figures["controls"] = controls(own, names, layer)
    if own.get("halves"):
        figures["halves"] = halves(own, names)
    if len(shown) > 1:
        figures["tasks"] = tasks(shown, layer)
    if own.get("overlaps"):
        figures["trained"] = trained(own)
    return [save(figure, folder, name) for name, figure in figures.items()]


def _pick(rows: Sequence[Row], **wanted: Any) -> list[Row]:
    return [row for row in rows if all(row[name] == value for name, value in wanted.items())]


def coordinates(tables: Tables, task: str, layer: int) -> Array:
    """Users' coordinates [users, components] of one task and layer, users in their order."""
    columns = [
        [row["value"] for row in _pick(tables["coordinates"], task=task, layer=layer, component=component)]
        for component in range(COMPONENTS)
    ]
    return np.array([column for column in columns if column]).T


def observations(tables: Tables, names: Sequence[str], layer: int) -> Any:
    """Figures 2, 7 and 8: users on the first two components, and how each of the first five spreads."""
    figure, axes = new_figure(2, len(names), 3.6)
    styles = by_task(names)
    for column, name in enumerate(names):
        points, style = coordinates(tables, name, layer), styles[name]
        top, bottom = axes[0, column], axes[1, column]
        second = points[:, 1] if points.shape[1] > 1 else np.zeros(len(points))
        top.scatter(points[:, 0], second, s=10, color=style["color"], marker=style["marker"], alpha=0.7, linewidths=0)
        top.scatter(
            [points[:, 0].mean()], [second.mean()], s=90, marker="*", color="#F0E442", edgecolors="black", zorder=3
        )
        top.axvline(0, color="0.7", lw=0.6, zorder=0)
        top.axhline(0, color="0.7", lw=0.6, zorder=0)
        top.set(title=name, xlabel="component 0")
        parts = bottom.violinplot(list(points.T), positions=range(points.shape[1]), showmeans=True, showextrema=False)
        for body in parts["bodies"]:
            body.set(facecolor=style["color"], alpha=0.5, edgecolor="black", linewidth=0.5)
        parts["cmeans"].set(color="black", linewidth=1)
        bottom.axhline(0, color="0.7", lw=0.6, zorder=0)
        bottom.set(xlabel="component", xticks=range(points.shape[1]))
    axes[0, 0].set_ylabel("component 1")
    axes[1, 0].set_ylabel("coordinate")
    figure.suptitle(f"δ-vectors at layer {layer}; the star is the mean of all users", fontsize=8)
    return figure


def controls(tables: Tables, names: Sequence[str], layer: int) -> Any:
    """Figure 9: mean absolute coordinates of δ-vectors and of what stands in for the history."""
    figure, axes = new_figure(1, len(names), 2.2)
    for axis, name in zip(axes[0], names, strict=True):
        rows = _pick(tables["control_coordinates"], task=name, layer=layer)
        kinds = list(dict.fromkeys(row["kind"] for row in rows if row["kind"] != "half"))
        width = 0.8 / len(kinds)
        for place, kind in enumerate(kinds):
            bars = [row["mean_abs"] for row in rows if row["kind"] == kind]
            where = np.arange(len(bars)) + (place - (len(kinds) - 1) / 2) * width
            look = {"color": COLOURS[place], "edgecolor": "black", "linewidth": 0.4, "hatch": HATCHES[place]}
            axis.bar(where, bars, width, label="own history" if kind == HISTORY else kind, **look)
        axis.set(title=name, xlabel="component", xticks=range(COMPONENTS))
    axes[0, 0].set_ylabel("mean |coordinate|")
    axes[0, -1].legend()
    return figure


def layers_figure(tables: Tables, names: Sequence[str]) -> Any:
    """Figure 15: ranks by layer, and the first component's mean and spread, in units of the layer's mean |δ|."""
    figure, axes = new_figure(1, 3, 2.3)
    for name, style in by_task(names).items():
        look = {"color": style["color"], "linestyle": style["linestyle"], "marker": style["marker"], "markersize": 2.5}
        for axis, share in zip(axes[0], (0.85, 0.95), strict=False):
            rows = _pick(tables["ranks"], task=name, share=share, centred=False)
            axis.plot([row["layer"] for row in rows], [row["r"] for row in rows], label=name, **look)
            axis.set(title=f"r for {share} of the energy", xlabel="layer")
        where = [row["layer"] for row in _pick(tables["collective"], task=name)]
        points = [coordinates(tables, name, layer) for layer in where]
        units = [np.sqrt((p**2).sum(axis=1).mean()) or 1.0 for p in points]
        mean = np.array([abs(p[:, 0].mean()) / unit for p, unit in zip(points, units, strict=True)])
        spread = np.array([p[:, 0].std() / unit for p, unit in zip(points, units, strict=True)])
        axes[0, 2].plot(where, mean, **look)
        axes[0, 2].fill_between(where, mean - spread, mean + spread, color=style["color"], alpha=0.15, linewidth=0)
    axes[0, 2].set(title="component 0, |mean| ± std", xlabel="layer")
    axes[0, 0].set_ylabel("directions")
    axes[0, 0].legend()
    return figure


def halves(tables: Tables, names: Sequence[str]) -> Any:
    """How well a user's two halves find each other, by layer: δ-vectors, and two things that know no history."""
    figure, axes = new_figure(1, len(names), 2.1, sharey=True)
    looks = {"half": ("own history", "-"), "random": ("random text", "--"), BARE: ("query alone", ":")}
    for axis, name in zip(axes[0], names, strict=True):
        for place, (kind, (label, line)) in enumerate(looks.items()):
            rows = _pick(tables["halves"], task=name, kind=kind)
            if rows:
                where = [row["layer"] for row in rows]
                axis.plot(where, [row["auc"] for row in rows], line, color=COLOURS[place], label=label)
        axis.axhline(0.5, color="0.6", lw=0.6)
        axis.set(title=name, xlabel="layer", ylim=(0.3, 1.02))
    axes[0, 0].set_ylabel("same author nearer\n(0.5 by chance)")
    axes[0, 0].legend(loc="lower right")
    return figure


def cases(tables: Tables, names: Sequence[str], layer: int) -> Any:
    """Figure 11: the users nearest to the collective shift, in the middle, and farthest from it."""
    figure, axes = new_figure(1, len(names), 2.2)
    for axis, name in zip(axes[0], names, strict=True):
        points = coordinates(tables, name, layer)
        order = [row["order"] for row in _pick(tables["users"], task=name, layer=layer)]
        ranked = np.argsort(order)
        count = min(_CIRCLED, max(1, len(ranked) // 4))
        middle = (len(ranked) - count) // 2
        second = points[:, 1] if points.shape[1] > 1 else np.zeros(len(points))
        axis.scatter(points[:, 0], second, s=6, color="0.6", linewidths=0)
        groups = {
            "nearest": (ranked[:count], COLOURS[0], "o"),
            "middle": (ranked[middle : middle + count], COLOURS[2], "s"),
            "farthest": (ranked[-count:], COLOURS[1], "^"),
        }
        for label, (places, colour, marker) in groups.items():
            look = {"facecolors": "none", "edgecolors": colour, "marker": marker, "linewidths": 0.9}
            axis.scatter(points[places, 0], second[places], s=28, label=label, **look)
        axis.scatter(
            [points[:, 0].mean()], [second.mean()], s=80, marker="*", color="#F0E442", edgecolors="black", zorder=3
        )
        axis.set(title=name, xlabel="component 0")
    axes[0, 0].set_ylabel("component 1")
    axes[0, -1].legend()
    return figure


def tasks(shown: Sequence[DeltaVectors], layer: int) -> Any:
    """Figure 16: all tasks' users in one space, and the cosines between collective shifts."""
    found = tasks_together({one.task: one.delta(layer) for one in shown})
    figure, axes = new_figure(1, 2, 2.8)
    left, right = axes[0]
    for name, style in by_task(found.tasks).items():
        points = found.coordinates[name]
        left.scatter(
            points[:, 0], points[:, 1], s=10, color=style["color"], marker=style["marker"], label=name, alpha=0.7
        )
    left.axvline(0, color="0.7", lw=0.6, zorder=0)
    left.axhline(0, color="0.7", lw=0.6, zorder=0)
    left.set(xlabel="component 0", ylabel="component 1", title=f"all δ-vectors in one space, layer {layer}")
    left.legend()
    right.imshow(found.cosines, cmap="cividis", vmin=-1, vmax=1)
    for i, row in enumerate(found.cosines):
        for j, value in enumerate(row):
            right.text(
                j, i, f"{value:.2f}", ha="center", va="center", color="black" if value > 0.2 else "white", fontsize=7
            )
    ticks = range(len(found.tasks))
    right.set(xticks=ticks, yticks=ticks, yticklabels=found.tasks, title="cosine of collective shifts")
    right.set_xticklabels(found.tasks, rotation=30, ha="right")
    return figure


def trained(tables: Tables) -> Any:
    """What training put into the edited layers beside the δ-vectors, and users' gains by the size of their own part."""
    rows, points = tables["overlaps"], tables.get("gains", [])
    figure, axes = new_figure(1, 2, 2.3)
    left, right = axes[0]
    bars = {
        "collective shift, cosine": "collective_cosine",
        "δ in R of stage 1": "first_energy",
        "δ in the user's R": "second_energy",
        "personal part, cosine": "personal_cosine",
    }
    width = 0.8 / len(bars)
    for place, (label, field) in enumerate(bars.items()):
        where = np.arange(len(rows)) + (place - (len(bars) - 1) / 2) * width
        look = {"color": COLOURS[place], "edgecolor": "black", "linewidth": 0.4, "hatch": HATCHES[place]}
        left.bar(where, [row[field] for row in rows], width, label=label, **look)
    left.axhline(0, color="black", lw=0.6)
    left.set(xticks=range(len(rows)), xlabel="edited layer", title="δ-vectors and trained shifts")
    left.set_xticklabels([f"{row['task']} {row['layer']}" for row in rows])
    left.set_ylim(top=1.8 * max(max(row[field] for field in bars.values()) for row in rows))
    left.legend(loc="upper left", ncols=2)
    for name, style in by_task(list(dict.fromkeys(row["task"] for row in points))).items():
        mine = _pick(points, task=name)
        look = {"s": 12, "color": style["color"], "marker": style["marker"], "label": name}
        right.scatter([row["size"] for row in mine], [row["gain"] for row in mine], **look)
    right.axhline(0, color="0.7", lw=0.6, zorder=0)
    right.set(xlabel="|personal δ|", ylabel="gain of the personal shift", title="users")
    return figure
