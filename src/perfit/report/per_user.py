"""Gain per user against what may explain it: the length of the history, and how far the user's own shift goes."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from typing import Any

from perfit.extras import import_extra
from perfit.pages.drawing import BLUE, GREY, MUTED, ORANGE, Drawn, draw
from perfit.report.content import Content, UserPoint
from perfit.shown import shown

_COLOURS = {"helped": BLUE, "harmed": ORANGE, "left_alone": GREY}
_HEIGHT = 2.9
_POINT = 20  # area of one user


def per_user_figures(content: Content) -> list[Drawn]:
    """One figure against history, one against strength, each where users differ in it."""
    made = []
    if len({point.history for point in content.points}) > 1:
        made.append(_figure(content, "history", "history length", "past items", lambda point: float(point.history)))
    known = [point for point in content.points if point.strength is not None]
    if len({point.strength for point in known}) > 1:
        made.append(
            _figure(
                content,
                "strength",
                "strength",
                "strength: 0 the shared shift, 1 the own",
                lambda point: float(point.strength or 0.0),
            )
        )
    return made


def _figure(content: Content, name: str, title: str, axis: str, of: Callable[[UserPoint], float]) -> Drawn:
    points = content.points
    counts = Counter(point.outcome for point in points)

    def paint(figure: Any) -> None:
        axes = figure.subplots()
        axes.axhline(0, color=MUTED, linewidth=0.8)
        # Users at one place are one point, as large as they are many.
        places = Counter((of(point), round(point.gain, 9), point.outcome) for point in points)
        for (x, y, outcome), users in sorted(places.items(), key=lambda entry: (-entry[1], entry[0])):
            axes.scatter(
                x, y, s=_POINT * users, color=_COLOURS[outcome], alpha=0.75, edgecolors="#ffffff", linewidths=0.6
            )
        axes.margins(x=0.07, y=0.12)
        axes.set_xlabel(axis)
        axes.set_ylabel(f"gain in {shown(content.primary)}")

    caption = (
        f"Gain in {content.primary} of each user's personal shift over {content.reference} against {title}; above 0 is better. "
        f"Blue: helped ({counts['helped']}), orange: harmed ({counts['harmed']}), grey: left alone ({counts['left_alone']}); a point "
        f"grows with the users at one place.{_correlation([of(point) for point in points], [point.gain for point in points])}"
    )
    return draw(name, f"Gain against {title}", caption, _HEIGHT, paint)


def _correlation(xs: Sequence[float], gains: Sequence[float]) -> str:
    if len(gains) < 3 or len(set(xs)) < 2 or len(set(gains)) < 2:
        return ""
    stats = import_extra("scipy.stats", "scipy", "report")
    return f" Spearman's rank correlation: {stats.spearmanr(xs, gains).statistic:+.2f}."
