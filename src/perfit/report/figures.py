"""The figures of a report. None holds a user's name or text."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from perfit.extras import import_extra
from perfit.report.content import Content, MethodView
from perfit.report.drawing import BLUE, GREY, INK, MUTED, ORANGE, Drawn, draw
from perfit.report.per_user import per_user_figures
from perfit.shown import shown

_PANELS = 12
_ROW = 0.26  # inches of a method's line
_OWN = "PerFit"


def figures(content: Content) -> list[Drawn]:
    """All figures that this content has the numbers for."""
    made = [_scores(content)]
    if any(view.parameters is not None for view in content.methods):
        made.append(_parameters(content))
    compared = [view for view in content.methods if view.gains]
    if compared:
        made.append(_gains(content, compared))
        if len(set(content.history.values())) > 1:
            made.append(_history(content, compared))
    made += per_user_figures(content)
    if any(view.failure_rate for view in content.methods):
        made.append(_failures(content))
    return made


def _colour(view: MethodView) -> str:
    return BLUE if _OWN in view.label or view.label == "personal" else GREY


def _scores(content: Content) -> Drawn:
    views = sorted(content.methods, key=lambda view: view.score, reverse=not content.higher_is_better)

    def paint(figure: Any) -> None:
        axes = figure.subplots()
        for place, view in enumerate(views):
            if view.low is not None:
                axes.plot(
                    [view.low, view.high], [place, place], color=_colour(view), linewidth=2.2, solid_capstyle="round"
                )
            axes.plot(view.score, place, "o", color=_colour(view), markersize=6, markeredgecolor="#ffffff")
        _name_rows(axes, [view.label for view in views])
        axes.set_xlabel(f"{shown(content.primary)} ({_direction(content)})")

    caption = (
        f"{content.primary} of each method with its 95 % bootstrap interval over users, best on top. Intervals of two methods may "
        "overlap although their paired difference is sure; the tables test differences. PerFit's own variants are blue."
    )
    return draw("scores", "Scores", caption, 0.8 + _ROW * len(views), paint)


def _parameters(content: Content) -> Drawn:
    views = [view for view in content.methods if view.parameters is not None]
    seconds = [view.train_seconds or 0.0 for view in views]
    longest = max(seconds) or 1.0

    def paint(figure: Any) -> None:
        axes = figure.subplots()
        trained = [view.parameters for view in views if view.parameters]
        decades = range(
            math.floor(math.log10(min(trained, default=10))), math.ceil(math.log10(max(trained, default=10))) + 1
        )
        axes.set_xscale("symlog", linthresh=10 ** decades[0], linscale=0.4)
        ticks = [0, *(10**decade for decade in decades)]
        axes.set_xticks(ticks, [_short(tick) for tick in ticks])
        axes.set_xticks([], minor=True)
        for view, took in zip(views, seconds, strict=True):
            area = 30 + 270 * took / longest
            axes.scatter(view.parameters, view.score, s=area, color=_colour(view), alpha=0.75, edgecolors="#ffffff")
        axes.margins(x=0.08, y=0.1)
        axes.set_xlabel("trained parameters behind one user's answers (both stages)")
        axes.set_ylabel(f"{shown(content.primary)} ({_direction(content)})")
        _label_right(figure, axes, [(view.label, view.parameters or 0, view.score) for view in views])

    caption = (
        f"{content.primary} against trained parameters, after the paper's Figure 4; the area of a point grows with training seconds "
        f"(largest: {longest:.0f} s). Methods at 0 train nothing."
    )
    return draw("parameters", "Score against parameters", caption, max(3.4, 0.9 + 0.19 * len(views)), paint)


def _short(number: float) -> str:
    for size, letter in ((1e9, "B"), (1e6, "M"), (1e3, "k")):
        if number >= size:
            return f"{number / size:g}{letter}"
    return f"{number:g}"


def _label_right(figure: Any, axes: Any, points: Sequence[tuple[str, float, float]]) -> None:
    """Names in a column right of the axes, in the order of the points' heights, with lines to them: none overlaps."""
    figure.draw_without_rendering()
    low, high = axes.get_ylim()
    right = axes.get_xlim()[1]
    step = (high - low) / max(len(points), 12)
    heights = _spread_out([y for _, _, y in points], step, low, high)
    for (name, x, y), height in zip(points, heights, strict=True):
        axes.annotate(
            shown(name),
            xy=(x, y),
            xytext=(1.02, (height - low) / (high - low)),
            textcoords="axes fraction",
            fontsize=8,
            va="center",
            arrowprops={"arrowstyle": "-", "color": MUTED, "linewidth": 0.4, "relpos": (0, 0.5)},
        )
    axes.set_xlim(right=right)


def _spread_out(values: Sequence[float], step: float, low: float, high: float) -> list[float]:
    """Values moved as little as keeps them ``step`` apart, in order, inside the bounds."""
    order = sorted(range(len(values)), key=lambda index: values[index])
    placed = [0.0] * len(values)
    floor = low + step / 2
    for index in order:
        placed[index] = floor = max(values[index], floor)
        floor += step
    ceiling = high - step / 2
    for index in reversed(order):
        placed[index] = ceiling = min(placed[index], ceiling)
        ceiling -= step
    return placed


def _gains(content: Content, compared: Sequence[MethodView]) -> Drawn:
    def panel(axes: Any, view: MethodView) -> None:
        gains = np.sort(list(view.gains.values()))[::-1]
        colours = [BLUE if gain > 0 else ORANGE for gain in gains]
        axes.bar(range(len(gains)), gains, color=colours, width=0.85)
        axes.axhline(0, color=MUTED, linewidth=0.8)
        axes.set_xticks([])
        won, lost = int((gains > 1e-9).sum()), int((gains < -1e-9).sum())
        axes.set_title(f"{shown(view.label)}\n{won} better, {lost} worse", loc="left", color=INK, fontsize=8)

    caption = f"Gain in {content.primary} over {content.reference}, one bar per user, sorted: blue where the method is better, orange where worse."
    return _panels("gains", "Gain per user", caption, compared, panel, "users, best first", content)


def _history(content: Content, compared: Sequence[MethodView]) -> Drawn:
    stats = import_extra("scipy.stats", "scipy", "report")

    def panel(axes: Any, view: MethodView) -> None:
        lengths = [content.history[user] for user in view.gains]
        gains = list(view.gains.values())
        axes.axhline(0, color=MUTED, linewidth=0.8)
        axes.scatter(lengths, gains, s=14, color=_colour(view), alpha=0.75, edgecolors="none")
        known = len(gains) > 2 and len(set(gains)) > 1 and len(set(lengths)) > 1
        rho = f"\nρ = {stats.spearmanr(lengths, gains).statistic:+.2f}" if known else "\n"
        axes.set_title(f"{shown(view.label)}{rho}", loc="left", color=INK, fontsize=8)

    caption = (
        f"Gain in {content.primary} over {content.reference} against the items of a user's history; one point per user; "
        "ρ is Spearman's rank correlation."
    )
    return _panels("history", "Gain against history length", caption, compared, panel, "past items", content)


def _panels(
    name: str,
    title: str,
    caption: str,
    views: Sequence[MethodView],
    panel: Callable[[Any, MethodView], None],
    axis: str,
    content: Content,
) -> Drawn:
    """One small panel per method on common scales; of many methods those with the best scores."""
    if len(views) > _PANELS:
        caption += f" The first {_PANELS} of {len(views)} methods, by mean gain over users."
        ranked = sorted(views, key=lambda view: -float(np.mean(list(view.gains.values()))))[:_PANELS]
        views = [view for view in views if view in ranked]
    columns = min(3, len(views))
    rows = math.ceil(len(views) / columns)

    def paint(figure: Any) -> None:
        grid = figure.subplots(rows, columns, squeeze=False, sharex=True, sharey=True)
        for axes, view in zip(grid.flat, views, strict=False):
            panel(axes, view)
        for axes in grid.flat[len(views) :]:
            axes.set_axis_off()
        figure.supxlabel(axis, fontsize=9, color=MUTED)
        figure.supylabel(f"gain in {shown(content.primary)}", fontsize=9, color=MUTED)

    return draw(name, title, caption, 0.6 + 1.45 * rows, paint)


def _failures(content: Content) -> Drawn:
    views = sorted((view for view in content.methods if view.failure_rate), key=lambda view: view.failure_rate)

    def paint(figure: Any) -> None:
        axes = figure.subplots()
        rates = [100 * view.failure_rate for view in views]
        axes.barh(range(len(views)), rates, color=ORANGE, height=0.6)
        for place, value in enumerate(rates):
            axes.text(value + 1, place, f"{value:.1f} %", va="center", fontsize=8)
        _name_rows(axes, [view.label for view in views])
        axes.set_xlim(0, 112)
        axes.set_xticks(range(0, 101, 25))
        axes.set_xlabel("answers of no valid format, %")

    caption = (
        "Share of answers outside the label set or the rating scale, or empty: a method can score low for this reason "
        "alone. Methods that are not shown have none."
    )
    return draw("failures", "Format failures", caption, 0.8 + _ROW * len(views), paint)


def _name_rows(axes: Any, names: Sequence[str]) -> None:
    axes.set_yticks(range(len(names)), [shown(name) for name in names], color=INK)
    axes.set_ylim(-0.6, len(names) - 0.4)
    axes.grid(visible=False, axis="y")


def _direction(content: Content) -> str:
    return "higher is better" if content.higher_is_better else "lower is better"
