"""Every page in a real Chromium: nothing sticks out of a telephone, nothing is cut, both themes, the keyboard, no errors."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

KINDS = ("comparison", "run", "analysis", "reproduction")
SIZES = {390: 844, 820: 1180, 1600: 900}
pytestmark = pytest.mark.browser


@contextmanager
def opened(browser: Any, page: Path, width: int = 390, theme: str = "light") -> Iterator[Any]:
    """The page in a window; afterwards it has said nothing on the console and asked nobody for anything."""
    shown = browser.new_page(viewport={"width": width, "height": SIZES[width]}, color_scheme=theme)
    said: list[str] = []
    asked: list[str] = []
    shown.on("console", lambda message: said.append(message.text) if message.type in ("error", "warning") else None)
    shown.on("pageerror", lambda error: said.append(str(error)))
    shown.on("request", lambda request: asked.append(request.url))
    shown.goto(page.as_uri())
    yield shown
    assert said == []
    assert [url for url in asked if url != page.as_uri() and not url.startswith(("data:", "blob:"))] == []
    shown.close()


STICKING_OUT = """() => [...document.querySelectorAll("main svg, main img, figure, .card, h1, h2, p, form, nav")]
    .filter((e) => e.checkVisibility())
    .map((e) => [e, e.getBoundingClientRect()])
    .filter(([e, box]) => !e.closest(".scroll") && (box.left < 0 || box.right > innerWidth + 0.5 || box.width < 1))
    .map(([e, box]) => `${e.tagName} ${e.id} ${Math.round(box.left)} to ${Math.round(box.right)}`)"""
CUT = """() => [...document.querySelectorAll("figure svg")].flatMap((svg) => {
    const whole = svg.getBoundingClientRect();
    return [...svg.querySelectorAll("text")].map((text) => [text, text.getBoundingClientRect()])
        .filter(([, box]) => box.left < whole.left - 1 || box.right > whole.right + 1 || box.bottom > whole.bottom + 1 || box.top < whole.top - 1)
        .map(([text]) => `${svg.parentElement.parentElement.id}: ${text.textContent}`);
})"""
SMALL = """() => [...document.querySelectorAll("figure svg text")]
    .filter((text) => text.getBoundingClientRect().height < 8).map((text) => text.textContent)"""


@pytest.mark.parametrize("width", SIZES)
@pytest.mark.parametrize("kind", KINDS)
def test_everything_is_whole_at_every_width(browser: Any, pages: dict[str, Path], kind: str, width: int) -> None:
    with opened(browser, pages[kind], width) as page:
        assert page.evaluate("document.documentElement.scrollWidth") <= width
        assert page.locator("figure svg, #plot svg").count() > 0
        assert page.evaluate(STICKING_OUT) == []
        assert page.evaluate(CUT) == []
        assert page.evaluate(SMALL) == [], "letters are large enough to be read"


@pytest.mark.parametrize("width", [390, 1600])
@pytest.mark.parametrize("kind", KINDS)
def test_the_first_screen_is_the_conclusion_and_a_figure(
    browser: Any, pages: dict[str, Path], kind: str, width: int
) -> None:
    with opened(browser, pages[kind], width) as page:
        lead, card = page.locator(".lead").bounding_box(), page.locator(".first .card").bounding_box()
        assert page.locator(".lead").inner_text().endswith(".")
        assert lead["y"] + lead["height"] < SIZES[width] / 2
        assert card["y"] < SIZES[width]


INK = """() => {
    const of = (found) => found ? getComputedStyle(found).fill : "";
    return [getComputedStyle(document.body).backgroundColor, of(document.querySelector("figure svg text")),
        of(document.querySelector("#plot .xtick text"))];
}"""


@pytest.mark.parametrize("kind", KINDS)
def test_the_theme_is_the_systems_until_another_is_chosen(browser: Any, pages: dict[str, Path], kind: str) -> None:
    with opened(browser, pages[kind], theme="light") as page:
        light = page.evaluate(INK)
        page.locator("#theme-dark").check(force=True)
        dark = page.evaluate(INK)
        assert all(a != b for a, b in zip(light, dark, strict=True) if a or b), (light, dark)
        page.locator("#theme-auto").check(force=True)
        assert page.evaluate(INK) == light
    with opened(browser, pages[kind], theme="dark") as page:
        assert page.evaluate(INK) == dark
        page.locator("#theme-light").check(force=True)
        assert page.evaluate(INK) == light


TIPS = """() => [...document.querySelectorAll("#parameters .tip text, #parameters .hint text")]
    .filter((text) => getComputedStyle(text).opacity > 0.5).map((text) => text.parentElement.id)"""


def test_a_point_says_what_it_is_under_the_mouse_and_with_the_focus(browser: Any, pages: dict[str, Path]) -> None:
    with opened(browser, pages["comparison"], 1600) as page:
        assert page.evaluate(TIPS) == ["parameters-hint"]
        page.locator("#parameters-point-2").hover()
        assert page.evaluate(TIPS) == ["parameters-tip-2"]
        page.locator("h1").hover()
        page.locator("#parameters-point-0").focus()
        assert page.evaluate(TIPS) == ["parameters-tip-0"]
        page.keyboard.press("Tab")
        assert page.evaluate(TIPS) == ["parameters-tip-1"]
        assert page.evaluate("getComputedStyle(document.querySelector('#parameters .tip')).opacity") == "1"


def test_long_answers_are_folded_and_open_with_the_keyboard(browser: Any, pages: dict[str, Path]) -> None:
    with opened(browser, pages["comparison"]) as page:
        folded = page.locator("dd details").first
        before = folded.bounding_box()["height"]
        folded.locator("summary").focus()
        page.keyboard.press("Enter")
        assert folded.bounding_box()["height"] > before
        assert page.evaluate("document.documentElement.scrollWidth") <= 390


def test_the_keyboard_comes_first_to_the_results_then_to_the_theme(browser: Any, pages: dict[str, Path]) -> None:
    with opened(browser, pages["run"]) as page:
        page.keyboard.press("Tab")
        assert page.evaluate("document.activeElement.className") == "skip"
        page.keyboard.press("Tab")
        page.keyboard.press("ArrowRight")
        assert page.evaluate("document.querySelector('[name=theme]:checked').id") == "theme-light"


def test_users_of_an_analysis_are_chosen_by_mouse_and_by_keyboard(browser: Any, pages: dict[str, Path]) -> None:
    with opened(browser, pages["analysis"], 820) as page:
        rows = page.locator("#rows tr")
        rows.nth(3).click()
        assert page.locator("#one .user").first.inner_text() == rows.nth(3).locator("td").first.inner_text()
        rows.nth(5).focus()
        page.keyboard.press("Enter")
        assert page.locator("#one .user").first.inner_text() == rows.nth(5).locator("td").first.inner_text()
        assert page.evaluate("document.activeElement.className") == "on"
        before = page.locator("#layer-name").inner_text()
        page.locator("#layer").focus()
        page.keyboard.press("ArrowLeft")
        assert page.locator("#layer-name").inner_text() != before
