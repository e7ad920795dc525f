"""The page at ``/``: whole by itself, and asking nothing that the server does not answer."""

from __future__ import annotations

import re
import shutil
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from served_run import Site

from perfit.serving import playground
from perfit.serving.app import ROUTES

STATIC = Path(playground.__file__).parent / "static"


def test_the_page_is_served_with_a_policy_that_lets_nothing_else_in(shared_site: Site) -> None:
    for path, name in playground.PAGES.items():
        found = shared_site.http.get(path)
        assert found.status_code == 200
        assert found.content == (STATIC / name).read_bytes()
        assert found.headers["content-security-policy"].startswith("default-src 'self'")
    assert shared_site.http.get("/").headers["content-type"].startswith("text/html")


def test_nothing_comes_from_elsewhere_and_nothing_is_inline() -> None:
    for name in playground.PAGES.values():
        assert not re.search(r"https?:|//[a-z]", (STATIC / name).read_text().replace("\n// ", "\n")), name
    html = (STATIC / "page.html").read_text()
    assert not re.search(r"<style|style=|<script>| on\w+=", html)
    assert "innerHTML" not in (STATIC / "page.js").read_text()


def test_every_address_it_asks_is_a_route() -> None:
    text = (STATIC / "page.js").read_text()
    asked = set(re.findall(r'"(/v1/[a-z/]+)"', text)) | {
        "/v1/users/{user:id}" + end for end in re.findall(r"\$\{path\}(/\w+)", text)
    }
    assert asked <= {route.path for route in ROUTES}
    assert len(asked) == 7


def test_every_field_has_a_label_and_every_id_is_there() -> None:
    html, script = (STATIC / "page.html").read_text(), (STATIC / "page.js").read_text()
    ids = set(re.findall(r'id="(\w+)"', html))
    assert set(re.findall(r'at\("(\w+)"\)', script)) <= ids
    for field in ("key", "prompt"):
        assert f'for="{field}"' in html
    for field in ("first", "second", "way"):
        assert re.search(rf'<label>[^<]*\s*<(?:input|select) id="{field}"', html)


@pytest.mark.skipif(shutil.which("node") is None, reason="needs node")
def test_the_script_parses() -> None:
    assert subprocess.run(["node", "--check", STATIC / "page.js"], check=False).returncode == 0


def until(page: Any, script: str) -> None:
    """Wait until an expression is true; by asking, for the page's own policy forbids to evaluate texts in it."""
    end = time.monotonic() + 60
    while not page.evaluate(f"!!({script})"):
        assert time.monotonic() < end, script
        page.wait_for_timeout(50)


@pytest.fixture
def page(browser: Any, shared_site: Site) -> Iterator[Any]:
    """The page in a window, its first users filled in; it has asked nobody else and said nothing but refusals."""
    shown = browser.new_page(viewport={"width": 1024, "height": 900})
    asked: list[str] = []
    said: list[str] = []
    shown.on("request", lambda request: asked.append(request.url))
    shown.on("pageerror", lambda error: said.append(str(error)))
    shown.goto(f"{shared_site.url}/")
    until(shown, "document.getElementById('model').textContent && document.getElementById('second').value")
    yield shown
    assert said == []
    assert [url for url in asked if not url.startswith(shared_site.url)] == []
    shown.close()


ANSWERED = "document.querySelectorAll('article').length === 3 && !document.querySelector('[aria-busy=true]')"
TABLES = f"{ANSWERED} && document.querySelectorAll('table:not([hidden])').length === 3"


@pytest.mark.browser
def test_two_users_and_the_base_answer_side_by_side(page: Any, shared_site: Site) -> None:
    assert page.text_content("#model") == "run, task folders"
    people = page.eval_on_selector_all("#people option", "all => all.map(one => one.value)")
    assert people == ["anna", "ben", "cleo", "collective"]
    # The task, asked by the keyboard alone.
    page.fill("#prompt", "river stone")
    page.press("#prompt", "Control+Enter")
    until(page, TABLES)
    assert page.locator("h2").all_text_contents() == ["anna", "ben", "base"]
    asked = [
        shared_site.post("/v1/tasks/answer", {"user": user, "input": "river stone"}).json()["answer"]
        for user in ("anna", "ben", "base")
    ]
    assert page.locator(".answer").all_text_contents() == asked
    moved = page.locator("article:first-child td:last-child").all_text_contents()
    assert len(moved) == 3
    assert all(text.startswith(("+", "−")) for text in moved)
    # A stream.
    page.select_option("#way", "chat")
    page.click("#send")
    until(page, f"{ANSWERED} && document.querySelectorAll('.note')[2].textContent.includes('none of')")
    body = {"user": "ben", "messages": [{"role": "user", "content": "river stone"}]}
    whole = shared_site.post("/v1/chat/completions", body).json()["choices"][0]["message"]["content"]
    assert page.locator(".answer").nth(1).text_content() == whole
    assert "edited" in page.locator(".note").nth(1).text_content()
    # Somebody who is not there is told so in their own column, in place of any other answer.
    page.fill("#first", "nobody")
    page.click("#send")
    until(page, f"{ANSWERED} && document.querySelector('.fault') !== null")
    assert page.locator(".answer").first.text_content() == ""


@pytest.mark.browser
def test_it_fits_from_a_telephone_to_a_wide_screen_light_and_dark(page: Any) -> None:
    page.click("#send")
    until(page, TABLES)
    grounds = {}
    small = """() => [...document.querySelectorAll("button, input, select, textarea")]
        .filter((one) => one.checkVisibility() && one.offsetHeight < 44).map((one) => one.id)"""
    for width in (390, 768, 1024, 1600):
        page.set_viewport_size({"width": width, "height": 900})
        for theme in ("light", "dark"):
            page.emulate_media(color_scheme=theme)
            assert page.evaluate("document.documentElement.scrollWidth") <= width
            assert page.evaluate(small) == []
            grounds[theme] = page.evaluate("getComputedStyle(document.body).backgroundColor")
    assert grounds["light"] != grounds["dark"]
    columns = "getComputedStyle(document.getElementById('answers')).gridTemplateColumns.split(' ').length"
    assert page.evaluate(columns) == 3
    page.set_viewport_size({"width": 390, "height": 900})
    assert page.evaluate(columns) == 1


@pytest.mark.browser
def test_everything_is_reached_by_the_keyboard_and_seen_where_it_is(page: Any) -> None:
    reached = set()
    for _ in range(12):
        page.keyboard.press("Tab")
        if page.evaluate("document.activeElement !== document.body"):
            reached.add(page.evaluate("document.activeElement.id"))
            assert page.evaluate("getComputedStyle(document.activeElement).outlineStyle") != "none"
    assert {"first", "second", "way", "prompt", "send"} <= reached
