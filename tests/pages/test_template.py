"""The page all pages are made of: escaped, of one stylesheet, and clear about what is missing."""

from __future__ import annotations

import re
import sys
from importlib import resources
from xml.etree import ElementTree

import pytest

from perfit.errors import MissingExtraError
from perfit.pages.drawing import Drawn, draw, point
from perfit.pages.template import fill

EVIL = '<script>alert("x")</script>\n</title>'
STYLE = (resources.files("perfit.pages") / "style.css").read_text(encoding="utf-8")


def page(**values: object) -> str:
    return fill(
        "pages/base.html.j2", **{"brand": "brand", "title": EVIL, "conclusion": [EVIL], "notes": [EVIL]} | values
    )


def test_titles_conclusions_and_notes_are_one_escaped_line_each() -> None:
    made = page()
    assert "<script" not in made
    assert made.count("&lt;script&gt;alert(&#34;x&#34;)&lt;/script&gt;\\n&lt;/title&gt;") == 4  # title twice
    assert "default-src 'none'" in made
    assert STYLE in made


def test_a_missing_engine_names_the_extra_of_whose_page_it_is(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "jinja2", None)
    with pytest.raises(MissingExtraError, match=r"jinja2.*perfit\[analysis\]"):
        page(extra="analysis")


def test_every_colour_has_a_value_for_both_themes() -> None:
    root = STYLE[: STYLE.index("}")]
    values = dict(re.findall(r"--(\w+): ([^;]+);", root))
    assert {name for name, value in values.items() if not value.startswith("light-dark(")} == {"star"}
    drawn = figure()
    used = set(re.findall(r"var\(--(\w+)", STYLE + drawn.inline))
    assert used <= set(values)


def figure() -> Drawn:
    def paint(figure: object) -> None:
        axes = figure.subplots()  # type: ignore[attr-defined]
        point(axes, 0, 1, 2, "<b>one & only</b>", color="#0072b2")

    return draw("name", "Title", "Caption", 2, paint)


def test_a_tip_follows_its_point_and_cannot_be_seen_in_the_files() -> None:
    drawn = figure()
    assert drawn.pointed
    assert re.search(r'class="point" tabindex="0" role="img" aria-labelledby="name-tip-0">', drawn.inline)
    parts = [child.get("id") for parent in ElementTree.fromstring(drawn.svg).iter() for child in parent]
    assert parts[parts.index("point-0") + 1] == "tip-0", "neighbours of one parent, as the stylesheet expects"
    assert re.search(r"<text[^>]*opacity: 0[^>]*>&lt;b&gt;one &amp; only", drawn.svg.decode())
    assert b"var(--" not in drawn.svg
