"""How figures are made: drawn once, saved as PNG and SVG, and as SVG inside a page whose colours follow the page's theme."""

from __future__ import annotations

import io
import re
import textwrap
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from perfit.durable.files import write_atomically
from perfit.extras import import_extra
from perfit.private import private_folder
from perfit.shown import shown

INK, MUTED, GRID, GREY, STAR = "#1b1f24", "#5b6573", "#dfe3e8", "#8a94a0", "#f0e442"
BLUE, ORANGE, GREEN, PINK, SKY, AMBER = "#0072b2", "#d55e00", "#009e73", "#cc79a7", "#56b4e9", "#e69f00"
COLOURS = (BLUE, ORANGE, GREEN, PINK, SKY, AMBER, INK)
"""Okabe and Ito's palette, told apart with any colour vision; the darker ones first."""
MARKERS = ("o", "^", "s", "D", "v", "P", "X")
LINES: tuple[Any, ...] = ("-", "--", "-.", ":", (0, (5, 1, 1, 1, 1, 1)), (0, (1, 1)), (0, (8, 2)))
HATCHES = ("", "////", "\\\\\\\\", "xxxx", "----", "||||", "++++")
"""Shapes, lines and hatches that grey paper tells apart, in the order of the colours."""
_ROLES = {
    INK: "ink",
    MUTED: "muted",
    GRID: "grid",
    GREY: "grey",
    BLUE: "blue",
    ORANGE: "orange",
    GREEN: "green",
    PINK: "pink",
    SKY: "sky",
    AMBER: "amber",
    STAR: "star",
    "#ffffff": "card",
}
"""Colours by the role that a page gives a value for each theme."""

WIDTH = 4.0
"""Inches: a figure of a page, readable on a telephone without moving it sideways."""
WIDE = 6.8
"""Inches: two columns of a paper."""
_STYLE = {
    "font.size": 9,
    "axes.titlesize": 9,
    "axes.labelcolor": MUTED,
    "axes.edgecolor": GRID,
    "axes.grid": True,
    "axes.axisbelow": True,
    "grid.color": GRID,
    "grid.linewidth": 0.6,
    "legend.frameon": False,
    "legend.fontsize": 8,
    "lines.linewidth": 1.2,
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
        pointed: Whether it has points that say what they are when pointed at; see ``point``.
    """

    name: str
    title: str
    caption: str
    png: bytes
    svg: bytes
    inline: str
    pointed: bool = False

    def save(self, folder: Path) -> list[Path]:
        """Write the PNG and the SVG."""
        private_folder(folder)
        paths = [folder / f"{self.name}.png", folder / f"{self.name}.svg"]
        for path, content in zip(paths, (self.png, self.svg), strict=True):
            write_atomically(path, content)
        return paths


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
    inline = inlined(svg.decode(), name)
    return Drawn(name, title, caption, png, svg, inline, pointed='class="point"' in inline)


def by_name(names: Sequence[str]) -> dict[str, dict[str, Any]]:
    """Colour, marker and line of each, such as a task or a kind of method."""
    return {
        name: {
            "color": COLOURS[n % len(COLOURS)],
            "marker": MARKERS[n % len(MARKERS)],
            "linestyle": LINES[n % len(LINES)],
        }
        for n, name in enumerate(names)
    }


def folded(name: str, letters: int) -> str:
    """A name from outside, in lines of at most so many letters."""
    return textwrap.fill(shown(name), letters, break_on_hyphens=False)


def point(axes: Any, number: int, x: float, y: float, tip: str, **look: Any) -> None:
    """A point that on a page shows ``tip`` at the figure's foot while it is pointed at or has the focus.

    In the files the tip cannot be seen. ``hint`` says on the page that there are such points.
    """
    axes.scatter([x], [y], zorder=3 + number / 1000, gid=f"point-{number}", **look)
    # Drawn directly after its point: the page's stylesheet knows the two as neighbours.
    _foot(axes, tip, zorder=3 + number / 1000 + 0.0005, gid=f"tip-{number}")


def hint(axes: Any, text: str) -> None:
    """What stands on a page where tips appear."""
    _foot(axes, text, color=MUTED, zorder=2.9, gid="hint")


def _foot(axes: Any, text: str, **look: Any) -> None:
    options = {"ha": "left", "va": "bottom", "fontsize": 8, "alpha": 0.0, "in_layout": False, "clip_on": False}
    axes.text(0.02, 0.01, text, transform=axes.figure.transFigure, **options, **look)


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


def inlined(svg: str, name: str) -> str:
    """A figure's SVG for a page: no size of its own, colours as CSS variables, ids that begin with its name."""
    svg = svg[svg.index("<svg") :]
    svg = re.sub(
        r'(<svg[^>]*?) width="[^"]*"', r"\1", re.sub(r'(<svg[^>]*?) height="[^"]*"', r"\1", svg, count=1), count=1
    )
    svg = re.sub(r"<metadata>.*?</metadata>", "", svg, flags=re.DOTALL)
    # Several figures stand on one page, and matplotlib calls the parts of each by the same names.
    svg = re.sub(r'\bid="([^"]+)"', rf'id="{name}-\1"', svg)
    svg = re.sub(r'(xlink:href="#|url\(#)', rf"\1{name}-", svg)
    svg = re.sub(
        rf'<g id="{name}-point-(\d+)">',
        rf'<g id="{name}-point-\1" class="point" tabindex="0" role="img" aria-labelledby="{name}-tip-\1">',
        svg,
    )
    svg = re.sub(rf'<g id="{name}-(tip|hint)(-\d+)?">', rf'<g id="{name}-\1\2" class="\1">', svg)
    svg = re.sub(r"(font: [^'\";]*?)'DejaVu Sans'[^;\"]*", r"\1system-ui, sans-serif", svg)
    return re.sub("|".join(_ROLES), lambda colour: f"var(--{_ROLES[colour[0].lower()]})", svg, flags=re.IGNORECASE)
