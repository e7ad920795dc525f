"""The page: self-contained, escaped, whole; its figures without anybody's name."""

from __future__ import annotations

import re
from collections import Counter
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path

import pytest
import stubs

from perfit.comparison import runner
from perfit.comparison.folder import ComparisonFolder
from perfit.comparison.plan import Plan
from perfit.comparison.results import load_results
from perfit.comparison.table import make_table
from perfit.data.schema import Query
from perfit.pages.drawing import Drawn
from perfit.report.content import Content
from perfit.report.figures import figures
from perfit.report.from_comparison import from_comparison
from perfit.report.page import render, write_report

EVIL = '<script>alert("x")</script> </style> & <img src="http://evil.example/x.png" onerror="go()">'
USER = "<b>anna</b>"
VOID = {"meta", "br", "img", "input", "link", "hr", "col"}


@pytest.fixture(scope="module")
def compared(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Users whose ids, texts and answers try to be markup; a failing method; methods that disagree."""
    bench = stubs.bench()
    first = bench.data.users[0]
    evil = replace(first, id=USER, queries=(Query("e", f"{EVIL} {'long ' * 100}", "work"), *first.queries[1:]))
    histories = [user.history[:n] for n, user in enumerate(bench.data.users[1:])]
    others = [replace(user, history=cut) for user, cut in zip(bench.data.users[1:], histories, strict=True)]
    bench = replace(bench, data=replace(bench.data, users=(evil, *others)))
    golds = {query.id: query.gold or "" for user in bench.data.users for query in user.queries}
    options = {
        "perfit": {"answers": golds},
        "cos": {"answers": golds | {"e": EVIL, first.queries[1].id: ""}},
        "pag": {"fails": "fit"},
    }
    plan = Plan(("oppu", "base", "perfit", "cos", "pag"), options=options, against="oppu")
    out = tmp_path_factory.mktemp("compared") / "out"
    runner.run(bench, plan, out, maker=stubs.make)
    return out


def content(folder: Path, texts: bool = True) -> Content:
    results = load_results(ComparisonFolder(folder))
    return from_comparison(results, make_table(results, resamples=100), texts=texts)


@pytest.fixture(scope="module")
def page(compared: Path) -> str:
    return write_report(content(compared), compared).read_text()


@pytest.fixture(scope="module")
def drawn(compared: Path) -> list[Drawn]:
    return figures(content(compared))


class Tags(HTMLParser):
    """Opened and closed tags, ids, and attributes that could ask for something."""

    def __init__(self) -> None:
        super().__init__()
        self.open: list[str] = []
        self.seen: Counter[str] = Counter()
        self.ids: list[str] = []
        self.targets: list[str] = []
        self.text = ""

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.seen[tag] += 1
        if tag not in VOID:
            self.open.append(tag)
        for name, value in attrs:
            assert not name.startswith("on"), (tag, name)
            if name == "id":
                self.ids.append(str(value))
            if name in ("href", "src", "xlink:href", "action", "data"):
                self.targets.append(str(value))

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.handle_starttag(tag, attrs)
        if tag not in VOID:
            self.open.pop()

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.text += data


def parsed(page: str) -> Tags:
    tags = Tags()
    tags.feed(page)
    tags.close()
    return tags


def test_the_page_is_well_formed_and_its_ids_are_its_own(page: str) -> None:
    tags = parsed(page)
    assert tags.open == []
    assert [name for name, count in Counter(tags.ids).items() if count > 1] == []
    assert {target[1:] for target in tags.targets} <= set(tags.ids)


def test_the_page_asks_nobody_for_anything(page: str) -> None:
    tags = parsed(page)
    assert all(target.startswith("#") for target in tags.targets)
    assert not {"script", "img", "link", "iframe", "object"} & set(tags.seen)
    style = re.sub(r"xmlns(:\w+)?=\"[^\"]*\"", "", page)
    for address in re.findall(r"(?:https?:)?//[\w.]+", style):
        assert address == "http://evil.example", address  # a user's text, escaped
    assert all(inside.startswith("#") for inside in re.findall(r"url\(([^)]*)\)", page))
    assert "default-src 'none'" in page


def test_users_texts_are_shown_as_they_are_and_are_never_markup(page: str) -> None:
    text = " ".join(parsed(page).text.split())
    assert EVIL in text
    assert USER in text
    assert "no valid format" in text
    assert "empty" in text
    assert re.search(r"all \d{3} characters", text)


def test_without_texts_none_are_on_the_page(compared: Path, drawn: list[Drawn]) -> None:
    page = render(content(compared, texts=False), drawn)
    assert "evil" not in page
    assert "anna" not in page
    assert "left out" in page
    assert "format failures" in page


def test_tables_mark_the_best_and_say_what_failed(page: str) -> None:
    assert "<strong>1.000</strong>" in page
    assert "failed: no fit today" in page
    assert "against OPPU" in page


def test_every_figure_is_a_png_and_an_svg_and_has_a_description(page: str, compared: Path) -> None:
    names = {"scores", "parameters", "gains", "history", "failures"}
    files = {path.name for path in (compared / "figures").iterdir()}
    assert files == {f"{name}.{kind}" for name in names for kind in ("png", "svg")}
    assert len(re.findall(r'<figure role="(?:img|group)" aria-label="[^"]{20,}"', page)) == len(names)
    for path in (compared / "figures").glob("*.svg"):
        assert "anna" not in path.read_text()
        assert "var(--" not in path.read_text()  # a file has colours of its own
    assert (compared / "figures" / "scores.png").read_bytes().startswith(b"\x89PNG")


def test_figures_are_the_same_each_time(page: str, compared: Path, drawn: list[Drawn]) -> None:
    for figure in drawn:
        assert (compared / "figures" / f"{figure.name}.svg").read_bytes() == figure.svg


def test_figures_of_the_page_follow_its_theme(drawn: list[Drawn]) -> None:
    for figure in drawn:
        assert "var(--ink)" in figure.inline
        colours = set(re.findall(r"#[0-9a-f]{6}\b", re.sub(r"(?:id=\"|href=\"#|url\(#)[^\")]*", "", figure.inline)))
        assert colours == set(), figure.name
        assert not re.search(r"<svg[^>]* (width|height)=", figure.inline)


def test_the_first_screen_says_who_is_best_and_what_is_sure(page: str) -> None:
    first = page[page.index('class="conclusion"') : page.index("<nav")]
    lines = re.findall(r"<p[^>]*>(.*?)</p>", first)
    assert re.match(
        r"PERFIT has the best accuracy of 4 methods: 1\.000 \(95 % interval 1\.000 to 1\.000\)\.$", lines[0]
    )
    assert re.match(r"Against OPPU, of 3 methods \d are better and \d worse beyond chance", lines[1])
    assert lines[2].startswith("PERFIT gains +")
    assert re.match(r"PERFIT helps \d of 6 users and harms 0, against BASE\.", lines[3])
    assert "1 of 5 methods lack results; the tables say why." in lines
    assert first.count("<figure") == 1


def test_content_that_lacks_things_still_makes_a_page() -> None:
    from perfit.report.content import MethodView

    view = MethodView("personal", 0.5, None, None, 0.0)
    bare = Content("Title", (), "accuracy", True, (), [view])
    page = render(bare, figures(bare))
    assert parsed(page).ids.count("scores") == 1
    assert "Where methods disagree" not in page
