"""Pages as one HTML file that asks nothing of any server: one base template, one stylesheet."""

from __future__ import annotations

from importlib import resources
from typing import Any

from perfit.extras import import_extra
from perfit.shown import shown

LONG = 200
"""Letters of a text that is shown whole; longer ones are folded."""
_LONGEST = 4000


def fill(template: str, extra: str = "report", **values: Any) -> str:
    """A page.

    All texts are escaped by the template engine. Names, ids and cells are one line each (the filter ``line``); users'
    texts keep their lines inside a ``<bdi>``.

    Args:
        template: Its path inside ``perfit``, such as "report/page.html.j2"; it extends "pages/base.html.j2".
        extra: What brings jinja2 where this page is made.
        **values: What the template shows. Of every page: ``title``, ``brand``, ``conclusion`` (lines, the first the
            shortest answer) and ``notes``.

    Raises:
        MissingExtraError: jinja2 is not installed.
    """
    jinja2 = import_extra("jinja2", "jinja2", extra)
    environment = jinja2.Environment(
        loader=jinja2.PackageLoader("perfit", ""),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters["line"] = lambda value: shown(value, _LONGEST)
    environment.globals |= {"long": LONG, "longest": _LONGEST, "style": _text("style.css")}
    page: str = environment.get_template(template).render(**values)
    return page


def _text(name: str) -> str:
    return (resources.files("perfit.pages") / name).read_text(encoding="utf-8")
