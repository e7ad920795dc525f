"""The figures of a report. None holds a user's name or text."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from perfit.extras import import_extra
from perfit.pages.drawing import BLUE, GREY, INK, MUTED, ORANGE, Drawn, by_name, draw, folded, hint, point
from perfit.report.content import Content, MethodView
from perfit.report.families import FAMILIES, front
from perfit.report.per_user import per_user_figures
from perfit.shown import shown

_PANELS = 12
_COLUMNS = 2
_ROW = 0.36  # inches of a method: its name, and what is drawn below the name
_MANY = 8  # methods, beyond which their scores are too long for a first screen
_OWN = "PerFit"
_LETTERS = 22  # of a line above a panel
_LETTER = 5  # points: the width of one of small print


def figures(content: Content) -> list[Drawn]:
    """All figures that this content has the numbers for; the first is the one that says most at a glance."""
    made = [_scores(content)]
    if any(view.parameters is not None for view in content.methods):
        made.insert(0 if len(content.methods) > _MANY else 1, _parameters(content))
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
        _name_rows(axes, [(view.label, f"{view.score:.3f}") for view in views])
        axes.set_xlabel(_axis(content))

    caption = (
        f"{content.primary} of each method with its 95 % bootstrap interval over users, best on top. Intervals of two methods may "
        "overlap although their paired difference is sure; the tables test differences. PerFit's own variants are blue."
    )
    return draw("scores", "Scores", caption, 0.7 + _ROW * len(views), paint)


def _parameters(content: Content) -> Drawn:
    views = [view for view in content.methods if view.parameters is not None]
    longest = max(view.train_seconds or 0.0 for view in views) or 1.0
    best = front([(view.parameters or 0, view.score) for view in views], content.higher_is_better)
    present = [family for family in FAMILIES if any(view.family == family for view in views)]
    looks = by_name([*present, *sorted({view.family for view in views} - set(present))])

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
        axes.set_xlim(-0.12 * 10 ** decades[0], 1.6 * 10 ** decades[-1])
        for number, view in enumerate(views):
            look = {name: looks[view.family][name] for name in ("color", "marker")}
            area = 30 + 170 * (view.train_seconds or 0.0) / longest
            tip = folded(f"{view.label}: {view.score:.3f}, {view.parameters:,} parameters{_took(view)}", 58)
            x, y = view.parameters or 0, view.score
            point(axes, number, x, y, tip, s=area, alpha=0.8, edgecolors="#ffffff", linewidths=0.6, **look)
        for family, look in looks.items():
            axes.scatter([], [], s=40, label=family, color=look["color"], marker=look["marker"])
        axes.margins(y=0.14)
        axes.set_xlabel("trained parameters behind one user's answers")
        axes.set_ylabel(_axis(content))
        _draw_front(figure, axes, [views[place] for place in best], content.higher_is_better)
        if any(looks):
            figure.legend(loc="outside upper left", ncols=4, columnspacing=1.0, handletextpad=0.2, borderpad=0)
        # Room at the foot for what a point says.
        figure.get_layout_engine().set(rect=(0, 0.11, 1, 0.89))
        hint(axes, "Point at a method, or go from one to the next with Tab.")

    caption = (
        f"{content.primary} against trained parameters of both stages, after the paper's Figure 4. Named and joined by a line: the "
        "methods that no other beats with as few parameters. The area of a point grows with training seconds (largest: "
        f"{longest:.0f} s). Methods at 0 train nothing."
    )
    return draw("parameters", "Score against parameters", caption, 3.9, paint)


def _took(view: MethodView) -> str:
    return "" if view.train_seconds is None else f", {view.train_seconds:.0f} s"


def _draw_front(figure: Any, axes: Any, views: Sequence[MethodView], upward: bool) -> None:
    """A line through the best methods, with their names where none is: above and to the left, or below where less is better."""
    axes.plot([view.parameters for view in views], [view.score for view in views], color=MUTED, linewidth=0.8, zorder=2)
    figure.draw_without_rendering()
    left = axes.transAxes.transform((0, 0))[0]
    low, high = axes.get_ylim()
    step = (high - low) / 14
    away = step if upward else -step
    heights = _spread_out([view.score + away for view in views], step, low, high)
    for view, height in zip(views, heights, strict=True):
        x = axes.transData.transform((view.parameters, view.score))[0]
        axes.annotate(
            folded(view.label, 30),
            xy=(view.parameters, view.score),
            xytext=(view.parameters, height),
            fontsize=8,
            ha="right" if x - left > _LETTER * min(len(view.label), 30) * figure.dpi / 72 else "left",
            va="center",
            arrowprops={"arrowstyle": "-", "color": MUTED, "linewidth": 0.4, "shrinkB": 4},
            zorder=5,
        )


def _short(number: float) -> str:
    for size, letter in ((1e9, "B"), (1e6, "M"), (1e3, "k")):
        if number >= size:
            return f"{number / size:g}{letter}"
    return f"{number:g}"


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
        _title(axes, view, f"{won} better, {lost} worse")

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
        _title(axes, view, f"ρ = {stats.spearmanr(lengths, gains).statistic:+.2f}" if known else "")

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
    columns = min(_COLUMNS, len(views))
    rows = math.ceil(len(views) / columns)

    def paint(figure: Any) -> None:
        grid = figure.subplots(rows, columns, squeeze=False, sharex=True, sharey=True)
        for axes, view in zip(grid.flat, views, strict=False):
            panel(axes, view)
        for axes in grid.flat[len(views) :]:
            axes.set_axis_off()
        figure.supxlabel(axis, fontsize=9, color=MUTED)
        figure.supylabel(f"gain in {shown(content.primary)}", fontsize=9, color=MUTED)

    return draw(name, title, caption, 0.6 + (1.45 if columns > 1 else 2.2) * rows, paint)


def _title(axes: Any, view: MethodView, below: str) -> None:
    axes.set_title(f"{folded(view.label, _LETTERS)}\n{below}", loc="left", color=INK, fontsize=8)


def _failures(content: Content) -> Drawn:
    views = sorted((view for view in content.methods if view.failure_rate), key=lambda view: view.failure_rate)

    def paint(figure: Any) -> None:
        axes = figure.subplots()
        rates = [100 * view.failure_rate for view in views]
        axes.barh(range(len(views)), rates, color=ORANGE, height=0.3)
        _name_rows(axes, [(view.label, f"{rate:.1f} %") for view, rate in zip(views, rates, strict=True)])
        axes.set_xlim(0, 100)
        axes.set_xticks(range(0, 101, 25))
        axes.set_xlabel("answers of no valid format, %")

    caption = (
        "Share of answers outside the label set or the rating scale, or empty: a method can score low for this reason "
        "alone. Methods that are not shown have none."
    )
    return draw("failures", "Format failures", caption, 0.7 + _ROW * len(views), paint)


def _name_rows(axes: Any, rows: Sequence[tuple[str, str]]) -> None:
    """A name and a value above what is drawn at each place."""
    for place, (name, value) in enumerate(rows):
        for text, x, side in ((shown(name), 0.0, "left"), (value, 1.0, "right")):
            axes.text(x, place + 0.2, text, transform=axes.get_yaxis_transform(), ha=side, va="bottom", fontsize=8)
    axes.set_yticks([])
    axes.set_ylim(-0.4, len(rows) - 0.15)


def _axis(content: Content) -> str:
    return f"{shown(content.primary)} ({'higher' if content.higher_is_better else 'lower'} is better)"
