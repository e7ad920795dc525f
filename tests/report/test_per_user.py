"""Gain per user against history and strength: what is drawn where, and what an older evaluation lacks."""

from __future__ import annotations

import re

from perfit.pages.drawing import Drawn
from perfit.report.content import Content, MethodView, UserPoint
from perfit.report.per_user import per_user_figures

POINTS = (
    UserPoint(3, 0.25, 1.0, "helped"),
    UserPoint(3, 0.25, 0.5, "helped"),
    UserPoint(9, -0.5, 1.0, "harmed"),
    UserPoint(40, 0.0, 0.0, "left_alone"),
)


def content(*points: UserPoint) -> Content:
    return Content(
        "Title", (), "mae", False, (), [MethodView("personal", 0.5, None, None, 0.0)], "collective", points=points
    )


def width_of(drawn: Drawn) -> float:
    """In points."""
    found = re.search(r'viewBox="0 0 ([\d.]+) ', drawn.inline)
    assert found is not None
    return float(found[1])


def marks(drawn: Drawn) -> dict[str, int]:
    """Points by colour."""
    parts = re.findall(r'<g id="PathCollection_\d+">.*?</g>\s*</g>', drawn.svg.decode(), flags=re.DOTALL)
    return {
        role: sum(colour in part for part in parts)
        for role, colour in (("blue", "#0072b2"), ("orange", "#d55e00"), ("grey", "#8a94a0"))
    }


def test_users_stand_at_their_history_and_strength_in_the_colour_of_what_became_of_them() -> None:
    history, strength = per_user_figures(content(*POINTS))
    assert (history.name, strength.name) == ("history", "strength")
    # The first two users have one history and one gain, and are one point there.
    assert marks(history) == {"blue": 1, "orange": 1, "grey": 1}
    assert marks(strength) == {"blue": 2, "orange": 1, "grey": 1}
    for figure, axis in ((history, "past items"), (strength, "strength: 0 the shared shift, 1 the own")):
        assert f">{axis}<" in figure.svg.decode()
        assert ">gain in mae<" in figure.svg.decode()
        assert "helped (2), orange: harmed (1), grey: left alone (1)" in figure.caption
        assert width_of(figure) <= 4.0 * 72, "readable on a telephone"
    assert "correlation: -0.78" in history.caption  # ranks 1.5 1.5 3 4 and 3.5 3.5 1 2


def test_what_does_not_differ_is_not_drawn() -> None:
    alike = [UserPoint(3, gain, 1.0, "helped") for gain in (0.1, 0.2)]
    assert per_user_figures(content(*alike)) == []
    assert per_user_figures(content()) == []
    unknown = [UserPoint(number, 0.1, None, "helped") for number in (3, 4)]
    assert [figure.name for figure in per_user_figures(content(*unknown))] == ["history"]
