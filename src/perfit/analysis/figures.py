"""The paper's figures on δ-vectors, drawn from tidy tables."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np

from perfit.analysis.deltas import Array, DeltaVectors
from perfit.analysis.recipe import BARE, HISTORY
from perfit.analysis.tables import COMPONENTS, Row, Tables
from perfit.analysis.tasks_together import tasks_together
from perfit.pages.drawing import COLOURS, GREY, HATCHES, INK, MUTED, STAR, WIDE, Drawn, by_name, draw, folded

_CIRCLED = 10
_COLUMNS = 2
_EDGE = {"edgecolor": INK, "linewidth": 0.4}


def figures(many: Sequence[DeltaVectors], tables: Tables, layer: int) -> list[Drawn]:
    """All figures that the tables allow, of test users where there are any; none holds a user's name or text.

    Args:
        many: The δ-vectors the tables were made of.
        tables: As ``tables_of`` gives them.
        layer: What figures of one layer show.

    Raises:
        MissingExtraError: matplotlib is not installed.
    """
    group = "test" if any(one.group == "test" for one in many) else many[0].group
    shown = [one for one in many if one.group == group]
    names = [one.task for one in shown]
    own = {name: [row for row in rows if row.get("group", group) == group] for name, rows in tables.items()}
    made = [observations(own, names, layer), layers_figure(own, names), cases(own, names, layer)]
    if own.get("controls"):
        made.append(controls(own, names, layer))
    if own.get("halves"):
        made.append(halves(own, names))
    if len(shown) > 1:
        made.append(tasks(shown, layer))
    if own.get("overlaps"):
        made.append(trained(own))
    return made


def _pick(rows: Sequence[Row], **wanted: Any) -> list[Row]:
    return [row for row in rows if all(row[name] == value for name, value in wanted.items())]


def coordinates(tables: Tables, task: str, layer: int) -> Array:
    """Users' coordinates [users, components] of one task and layer, users in their order."""
    columns = [
        [row["value"] for row in _pick(tables["coordinates"], task=task, layer=layer, component=component)]
        for component in range(COMPONENTS)
    ]
    return np.array([column for column in columns if column]).T


def observations(tables: Tables, names: Sequence[str], layer: int) -> Drawn:
    """Figures 2, 7 and 8: users on the first two components, and how each of the first five spreads."""

    def paint(figure: Any) -> None:
        axes = figure.subplots(2, len(names), squeeze=False)
        for column, (name, style) in enumerate(by_name(names).items()):
            points = coordinates(tables, name, layer)
            top, bottom = axes[0, column], axes[1, column]
            _users(top, points, s=10, color=style["color"], marker=style["marker"], alpha=0.7)
            top.set_title(folded(name, 20), loc="left", fontsize=8)
            top.set_xlabel("component 0")
            where = range(points.shape[1])
            parts = bottom.violinplot(list(points.T), positions=where, showmeans=True, showextrema=False)
            for body in parts["bodies"]:
                body.set(facecolor=style["color"], alpha=0.5, edgecolor=INK, linewidth=0.5)
            parts["cmeans"].set(color=INK, linewidth=1)
            bottom.axhline(0, color=MUTED, lw=0.6, zorder=0)
            bottom.set(xlabel="component", xticks=where)
        axes[0, 0].set_ylabel("component 1")
        axes[1, 0].set_ylabel("coordinate")

    caption = (
        f"δ-vectors of users at layer {layer}, in their own SVD basis: each user on the first two components (the star is the "
        "mean of all), and the spread of users on each of the first five."
    )
    return draw("observations", "Users on the first components", caption, 3.9, paint, width=WIDE)


def _users(axes: Any, points: Array, **look: Any) -> Array:
    """Users on the first two components [users, 2], with a star at their mean."""
    second = points[:, 1] if points.shape[1] > 1 else np.zeros(len(points))
    axes.scatter(points[:, 0], second, linewidths=0, **look)
    axes.scatter([points[:, 0].mean()], [second.mean()], s=90, marker="*", color=STAR, edgecolors=INK, zorder=3)
    axes.axvline(0, color=MUTED, lw=0.6, zorder=0)
    axes.axhline(0, color=MUTED, lw=0.6, zorder=0)
    found: Array = np.stack([points[:, 0], second], axis=1)
    return found


def _panels(figure: Any, names: Sequence[str], **options: Any) -> list[Any]:
    """One panel a task, two beside each other: a figure of a page."""
    columns = min(_COLUMNS, len(names))
    grid = figure.subplots(_rows(names), columns, squeeze=False, **options)
    for axes in grid.flat[len(names) :]:
        axes.set_axis_off()
    for axes, name in zip(grid.flat, names, strict=False):
        axes.set_title(folded(name, 20), loc="left", fontsize=8)
    panels: list[Any] = list(grid.flat[: len(names)])
    return panels


def _rows(names: Sequence[str]) -> int:
    return math.ceil(len(names) / _COLUMNS)


def _height(names: Sequence[str]) -> float:
    return 0.7 + (1.6 if len(names) > 1 else 1.9) * _rows(names)


def controls(tables: Tables, names: Sequence[str], layer: int) -> Drawn:
    """Figure 9: mean absolute coordinates of δ-vectors and of what stands in for the history."""

    def paint(figure: Any) -> None:
        for axis, name in zip(_panels(figure, names), names, strict=True):
            rows = _pick(tables["control_coordinates"], task=name, layer=layer)
            kinds = list(dict.fromkeys(row["kind"] for row in rows if row["kind"] != "half"))
            width = 0.8 / len(kinds)
            for place, kind in enumerate(kinds):
                bars = [row["mean_abs"] for row in rows if row["kind"] == kind]
                where = np.arange(len(bars)) + (place - (len(kinds) - 1) / 2) * width
                look = {**_EDGE, "color": COLOURS[place], "hatch": HATCHES[place]}
                axis.bar(where, bars, width, label="own history" if kind == HISTORY else kind, **look)
            axis.set(xlabel="component", xticks=range(COMPONENTS))
        figure.supylabel("mean |coordinate|", fontsize=9, color=MUTED)
        _legend(figure, axis)

    caption = (
        f"How far users stand out on each component at layer {layer} with their own history before the query, and with what "
        "stands in for it: random tokens, another user's history, the same words shuffled."
    )
    return draw("controls", "Is it the user, or any text?", caption, _height(names), paint)


def _legend(figure: Any, axes: Any) -> None:
    handles, labels = axes.get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside upper left", ncols=4, columnspacing=1.0, borderpad=0)


def layers_figure(tables: Tables, names: Sequence[str]) -> Drawn:
    """Figure 15: ranks by layer, and the first component's mean and spread, in units of the layer's mean |δ|."""

    def paint(figure: Any) -> None:
        axes = figure.subplots(1, 3)
        for name, style in by_name(names).items():
            look = {**style, "markersize": 2.5}
            for axis, share in zip(axes, (0.85, 0.95), strict=False):
                rows = _pick(tables["ranks"], task=name, share=share, centred=False)
                axis.plot([row["layer"] for row in rows], [row["r"] for row in rows], label=folded(name, 24), **look)
                axis.set(title=f"r for {share} of the energy", xlabel="layer")
            where = [row["layer"] for row in _pick(tables["collective"], task=name)]
            points = [coordinates(tables, name, layer) for layer in where]
            units = [np.sqrt((p**2).sum(axis=1).mean()) or 1.0 for p in points]
            mean = np.array([abs(p[:, 0].mean()) / unit for p, unit in zip(points, units, strict=True)])
            spread = np.array([p[:, 0].std() / unit for p, unit in zip(points, units, strict=True)])
            axes[2].plot(where, mean, **look)
            axes[2].fill_between(where, mean - spread, mean + spread, color=style["color"], alpha=0.15, linewidth=0)
        axes[2].set(title="component 0, |mean| ± std", xlabel="layer")
        axes[0].set_ylabel("directions")
        axes[0].legend()

    caption = (
        "By layer: how many directions hold 0.85 and 0.95 of the energy of the δ-vectors, and the first component's mean and "
        "spread over users, in units of the layer's mean |δ|."
    )
    return draw("layers", "Layer by layer", caption, 2.4, paint, width=WIDE)


def halves(tables: Tables, names: Sequence[str]) -> Drawn:
    """How well a user's two halves find each other, by layer: δ-vectors, and two things that know no history."""
    looks = {"half": ("own history", "-"), "random": ("random text", "--"), BARE: ("query alone", ":")}

    def paint(figure: Any) -> None:
        for axis, name in zip(_panels(figure, names, sharey=True), names, strict=True):
            for place, (kind, (label, line)) in enumerate(looks.items()):
                rows = _pick(tables["halves"], task=name, kind=kind)
                if rows:
                    where = [row["layer"] for row in rows]
                    axis.plot(where, [row["auc"] for row in rows], line, color=COLOURS[place], label=label)
            axis.axhline(0.5, color=MUTED, lw=0.6)
            axis.set(xlabel="layer", ylim=(0.3, 1.02))
        figure.supylabel("same author nearer (0.5 by chance)", fontsize=9, color=MUTED)
        _legend(figure, axis)

    caption = (
        "How often one half of an author's history and queries is nearer to the other half than another author's, by layer: with "
        "the own history before the query, with random text, and by the query alone."
    )
    return draw("halves", "Do two halves of an author find each other?", caption, _height(names), paint)


def cases(tables: Tables, names: Sequence[str], layer: int) -> Drawn:
    """Figure 11: the users nearest to the collective shift, in the middle, and farthest from it."""

    def paint(figure: Any) -> None:
        for axis, name in zip(_panels(figure, names), names, strict=True):
            points = _users(axis, coordinates(tables, name, layer), s=6, color=GREY)
            order = [row["order"] for row in _pick(tables["users"], task=name, layer=layer)]
            ranked = np.argsort(order)
            count = min(_CIRCLED, max(1, len(ranked) // 4))
            middle = (len(ranked) - count) // 2
            groups = {
                "nearest": (ranked[:count], COLOURS[0], "o"),
                "middle": (ranked[middle : middle + count], COLOURS[2], "s"),
                "farthest": (ranked[-count:], COLOURS[1], "^"),
            }
            for label, (places, colour, marker) in groups.items():
                look = {"facecolors": "none", "edgecolors": colour, "marker": marker, "linewidths": 0.9}
                axis.scatter(points[places, 0], points[places, 1], s=28, label=label, **look)
            axis.set(xlabel="component 0")
        figure.supylabel("component 1", fontsize=9, color=MUTED)
        _legend(figure, axis)

    caption = f"The users nearest to the collective shift at layer {layer}, those in the middle, and the farthest; the star is the mean."
    return draw("cases", "Nearest, middle, farthest", caption, _height(names), paint)


def tasks(shown: Sequence[DeltaVectors], layer: int) -> Drawn:
    """Figure 16: all tasks' users in one space, and the cosines between collective shifts."""
    found = tasks_together({one.task: one.delta(layer) for one in shown})

    def paint(figure: Any) -> None:
        top, bottom = figure.subplots(2, 1)
        for name, style in by_name(found.tasks).items():
            points = found.coordinates[name]
            look = {"color": style["color"], "marker": style["marker"], "label": folded(name, 24)}
            top.scatter(points[:, 0], points[:, 1], s=10, alpha=0.7, **look)
        top.axvline(0, color=MUTED, lw=0.6, zorder=0)
        top.axhline(0, color=MUTED, lw=0.6, zorder=0)
        top.set(xlabel="component 0", ylabel="component 1")
        top.legend()
        bottom.pcolormesh(found.cosines, cmap="cividis", vmin=-1, vmax=1)
        for i, row in enumerate(found.cosines):
            for j, value in enumerate(row):
                colour = "black" if value > 0.2 else "white"
                bottom.text(j + 0.5, i + 0.5, f"{value:.2f}", ha="center", va="center", color=colour, fontsize=8)
        ticks = [place + 0.5 for place in range(len(found.tasks))]
        labels = [folded(name, 16) for name in found.tasks]
        bottom.set(xticks=ticks, yticks=ticks, yticklabels=labels, title="cosine of collective shifts")
        bottom.set_xticklabels(labels, rotation=20, ha="right")
        bottom.invert_yaxis()
        bottom.grid(visible=False)

    caption = f"All tasks' users in one space at layer {layer}, and how alike the tasks' collective shifts are."
    return draw("tasks", "Tasks in one space", caption, 4.9, paint)


def trained(tables: Tables) -> Drawn:
    """What training put into the edited layers beside the δ-vectors, and users' gains by the size of their own part."""
    rows, points = tables["overlaps"], tables.get("gains", [])
    bars = {
        "collective shift, cosine": "collective_cosine",
        "δ in R of stage 1": "first_energy",
        "δ in the user's R": "second_energy",
        "personal part, cosine": "personal_cosine",
    }

    def paint(figure: Any) -> None:
        top, bottom = figure.subplots(2, 1)
        width = 0.8 / len(bars)
        for place, (label, field) in enumerate(bars.items()):
            where = np.arange(len(rows)) + (place - (len(bars) - 1) / 2) * width
            look = {**_EDGE, "color": COLOURS[place], "hatch": HATCHES[place]}
            top.bar(where, [row[field] for row in rows], width, label=label, **look)
        top.axhline(0, color=INK, lw=0.6)
        top.set(xticks=range(len(rows)), xlabel="edited layer")
        top.set_xticklabels([folded(f"{row['task']} {row['layer']}", 16) for row in rows])
        top.set_ylim(top=1.8 * max(max(row[field] for field in bars.values()) for row in rows))
        top.legend(loc="upper left", ncols=2)
        for name, style in by_name(list(dict.fromkeys(row["task"] for row in points))).items():
            mine = _pick(points, task=name)
            look = {"s": 14, "color": style["color"], "marker": style["marker"], "label": name}
            bottom.scatter([row["size"] for row in mine], [row["gain"] for row in mine], **look)
        bottom.axhline(0, color=MUTED, lw=0.6, zorder=0)
        bottom.set(xlabel="|personal δ|", ylabel="gain of the personal shift")

    caption = (
        "What training put into the edited layers beside the δ-vectors there, and each user's gain of the personal shift over the "
        "collective one against the size of the own part of the δ-vector."
    )
    return draw("trained", "δ-vectors and a trained run", caption, 4.6, paint)
