"""A report as one HTML page that asks nothing of any server."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from perfit.durable.files import write_atomically
from perfit.pages.drawing import Drawn
from perfit.pages.template import fill
from perfit.report.content import Content
from perfit.report.figures import figures


def write_report(content: Content, folder: Path, *, page: Path | None = None) -> Path:
    """Write ``report.html`` and ``figures/``; each file is replaced as a whole.

    Args:
        content: What to show.
        folder: Where.
        page: Another place for the page.

    Returns:
        Where the page is.

    Raises:
        MissingExtraError: matplotlib or jinja2 is not installed (extra "report").
    """
    drawn = figures(content)
    for figure in drawn:
        figure.save(folder / "figures")
    target = page if page is not None else folder / "report.html"
    write_atomically(target, render(content, drawn).encode())
    return target


def render(content: Content, drawn: Sequence[Drawn]) -> str:
    """The page; the first figure stands beside the conclusion."""
    return fill(
        "report/page.html.j2",
        brand="perfit report",
        title=content.title,
        conclusion=content.conclusion,
        notes=content.notes,
        content=content,
        figures=drawn,
    )
