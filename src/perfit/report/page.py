"""A report as one HTML page that asks nothing of any server."""

from __future__ import annotations

from collections.abc import Sequence
from importlib import resources
from pathlib import Path

from perfit.extras import import_extra
from perfit.files import write_atomically
from perfit.report.content import Content
from perfit.report.drawing import Drawn
from perfit.report.figures import figures
from perfit.shown import shown

_LONG = 320
_LONGEST = 4000


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
    """The page. All texts are escaped by the template engine; the figures' SVG is ours.

    Names, ids and cells are one line each (the filter ``line``); users' texts keep their lines inside a ``<bdi>``.
    """
    jinja2 = import_extra("jinja2", "jinja2", "report")
    here = resources.files("perfit.report")
    environment = jinja2.Environment(
        autoescape=True, undefined=jinja2.StrictUndefined, trim_blocks=True, lstrip_blocks=True
    )
    environment.filters["line"] = lambda value: shown(value, _LONGEST)
    template = environment.from_string((here / "page.html.j2").read_text(encoding="utf-8"))
    page: str = template.render(
        content=content,
        figures=[(figure, figure.inline) for figure in drawn],
        style=(here / "style.css").read_text(encoding="utf-8"),
        long=_LONG,
        longest=_LONGEST,
    )
    return page
