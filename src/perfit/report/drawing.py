"""How figures are made: drawn once, saved as PNG and SVG, and as SVG inside a page whose colours follow the page's theme."""

from __future__ import annotations

import io
import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from perfit.extras import import_extra

INK, MUTED, GRID = "#1b1f24", "#5b6573", "#dfe3e8"
BLUE, ORANGE, GREY = "#0072b2", "#d55e00", "#8a94a0"
_ROLES = {INK: "ink", MUTED: "muted", GRID: "grid", BLUE: "blue", ORANGE: "orange", GREY: "grey", "#ffffff": "card"}
"""Colours by their role; blue and orange (Okabe and Ito's) are told apart with any colour vision."""

WIDTH = 6.2  # inches; at 72 points an inch a figure's text is as large as the page's small print
NARROW = 4.4
"""A figure so wide is readable on a telephone without moving it sideways."""
_STYLE = {
    "font.size": 9,
    "axes.titlesize": 9,
    "axes.labelcolor": MUTED,
    "axes.edgecolor": GRID,
    "axes.grid": True,
    "axes.axisbelow": True,
    "grid.color": GRID,
    "grid.linewidth": 0.6,
    "text.color": INK,
    "text.parse_math": False,  # a dollar in a name is a dollar
    "xtick.color": MUTED,
    "ytick.color": MUTED,
    "xtick.major.size": 0,
    "ytick.major.size": 0,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.spines.left": False,
    "svg.fonttype": "none",
}


@dataclass(frozen=True)
class Drawn:
    """One figure.

    Attributes:
        name: Of its files.
        title: Its heading on the page.
        caption: What it shows, for readers and screen readers.
        png / svg: The files' contents.
        inline: The SVG for a page: no size of its own, colours as CSS variables, ids that are unique on the page.
        narrow: Whether it is made for narrow pages.
    """

    name: str
    title: str
    caption: str
    png: bytes
    svg: bytes
    inline: str
    narrow: bool = False

    def save(self, folder: Path) -> None:
        """Write the PNG and the SVG."""
        from perfit.files import write_atomically
        from perfit.private import private_folder

        private_folder(folder)
        write_atomically(folder / f"{self.name}.png", self.png)
        write_atomically(folder / f"{self.name}.svg", self.svg)


def draw(
    name: str, title: str, caption: str, height: float, paint: Callable[[Any], None], *, width: float = WIDTH
) -> Drawn:
    """A figure.

    Args:
        name, title, caption: As ``Drawn``'s.
        height, width: In inches.
        paint: Fills an empty matplotlib figure.

    Raises:
        MissingExtraError: matplotlib is not installed (extra "report").
    """
    with _styled(name) as figure_of:
        figure = figure_of(figsize=(width, height), layout="constrained")
        figure.set_facecolor("#ffffff")
        paint(figure)
        svg = _saved(figure, "svg", metadata={"Date": None, "Creator": None})
        png = _saved(figure, "png", dpi=200)
    return Drawn(name, title, caption, png, svg, _inline(svg.decode(), name), narrow=width <= NARROW)


@contextmanager
def _styled(salt: str) -> Iterator[Any]:
    matplotlib = import_extra("matplotlib", "matplotlib", "report")
    figure: Any = import_extra("matplotlib.figure", "matplotlib", "report").Figure
    with matplotlib.rc_context({**_STYLE, "svg.hashsalt": salt}):
        yield figure


def _saved(figure: Any, kind: str, **options: Any) -> bytes:
    content = io.BytesIO()
    figure.savefig(content, format=kind, **options)
    return content.getvalue()


def _inline(svg: str, name: str) -> str:
    svg = svg[svg.index("<svg") :]
    svg = re.sub(
        r'(<svg[^>]*?) width="[^"]*"', r"\1", re.sub(r'(<svg[^>]*?) height="[^"]*"', r"\1", svg, count=1), count=1
    )
    svg = re.sub(r"<metadata>.*?</metadata>", "", svg, flags=re.DOTALL)
    # Several figures stand on one page, and matplotlib calls the parts of each by the same names.
    svg = re.sub(r'\bid="([^"]+)"', rf'id="{name}-\1"', svg)
    svg = re.sub(r'(xlink:href="#|url\(#)', rf"\1{name}-", svg)
    svg = re.sub(r"(font: [^'\";]*?)'DejaVu Sans'[^;\"]*", r"\1system-ui, sans-serif", svg)
    return re.sub("|".join(_ROLES), lambda colour: f"var(--{_ROLES[colour[0].lower()]})", svg, flags=re.IGNORECASE)
