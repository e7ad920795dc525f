"""The page at ``/``: whole by itself, and asking nothing that the server does not answer."""

from __future__ import annotations

import re
import shutil
import subprocess
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from served_run import Site, site

import perfit
from perfit.run import RunDirectory
from perfit.serving import playground
from perfit.serving.app import ROUTES
from perfit.serving.updating import Updates

FILES = {path: Path(perfit.__file__).parent / name for path, name in playground.PAGES.items()}
HTML = FILES["/"].read_text()
SCRIPTS = {path: file.read_text() for path, file in FILES.items() if path.endswith(".js")}
SVG = "http://www.w3.org/2000/svg"  # a name, not an address


def test_the_page_is_served_with_a_policy_that_lets_nothing_else_in(own_run: Path) -> None:
    with site(own_run) as one:
        for path, file in FILES.items():
            found = one.http.get(path)
            assert found.status_code == 200
            assert found.content == file.read_bytes()
            assert found.headers["content-security-policy"].startswith("default-src 'self'; ")
            assert "unsafe" not in found.headers["content-security-policy"]
        assert one.http.get("/").headers["content-type"].startswith("text/html")


def test_nothing_comes_from_elsewhere_and_nothing_is_inline() -> None:
    for path, file in FILES.items():
        assert not re.search(r"https?:|//[a-z]", file.read_text().replace(SVG, "")), path
    assert not re.search(r"<style|style=|<script>| on\w+=", HTML)
    assert not re.search("innerHTML|outerHTML|insertAdjacentHTML|document.write|eval", "".join(SCRIPTS.values()))
    named = set(re.findall(r'(?:src|href)="(/[\w.]+)"', HTML)) | {
        f"/{name}" for text in SCRIPTS.values() for name in re.findall(r'from "\./([\w.]+)"', text)
    }
    assert named | {"/"} == set(FILES)


def test_every_address_it_asks_is_a_route() -> None:
    text = "".join(SCRIPTS.values())
    asked = set(re.findall(r'"(/v1/[a-z/]+)"', text)) | {
        "/v1/users/{user:id}" + end for end in re.findall(r"\$\{path\}(/\w+)", text)
    }
    assert asked <= {route.path for route in ROUTES}
    assert len(asked) == 10


def test_every_field_has_a_label_and_every_id_is_there() -> None:
    ids = set(re.findall(r'id="([\w-]+)"', HTML))
    script = "".join(SCRIPTS.values())
    assert set(re.findall(r'(?:at|getElementById)\("([\w-]+)"\)', script)) <= ids
    for field in ("key", "prompt"):
        assert f'for="{field}"' in HTML
    for field in ("first", "second", "way"):
        assert re.search(rf'<label[^>]*>[^<]*\s*<(?:input|select) id="{field}"', HTML)


@pytest.mark.skipif(shutil.which("node") is None, reason="needs node")
def test_the_scripts_parse(tmp_path: Path) -> None:
    for path, text in SCRIPTS.items():
        file = tmp_path / f"{path.strip('/').removesuffix('.js')}.mjs"
        file.write_text(text)
        assert subprocess.run(["node", "--check", file], check=False).returncode == 0, path


def until(page: Any, script: str) -> None:
    """Wait until an expression is true; by asking, for the page's own policy forbids to evaluate texts in it."""
    end = time.monotonic() + 60
    while not page.evaluate(f"!!({script})"):
        assert time.monotonic() < end, script
        page.wait_for_timeout(50)


@contextmanager
def opened(browser: Any, one: Site) -> Iterator[Any]:
    """The page in a window, its first users filled in; it has asked nobody else and said nothing but refusals."""
    shown = browser.new_page(viewport={"width": 1024, "height": 900})
    asked: list[str] = []
    said: list[str] = []
    shown.on("request", lambda request: asked.append(request.url))
    shown.on("pageerror", lambda error: said.append(str(error)))
    shown.on("console", lambda told: said.append(told.text) if "Content Security Policy" in told.text else None)
    shown.goto(f"{one.url}/")
    until(shown, "document.querySelector('#drawing [role=option]')")
    yield shown
    assert said == []
    assert [url for url in asked if not url.startswith((one.url, "data:"))] == []
    shown.close()


@pytest.fixture
def page(browser: Any, shared_site: Site) -> Iterator[Any]:
    """The page of a server that nobody changes."""
    with opened(browser, shared_site) as shown:
        yield shown


ONE_ENGINE = pytest.mark.parametrize("shared_site", ["transformers"], indirect=True)
ANSWERED = (
    "document.querySelectorAll('article').length === 3 && !document.querySelector('[aria-busy=true]')"
    " && document.getElementById('status').textContent === ''"
)


def percent(share: float) -> str:
    return "< 0.1 %" if 0 < share < 0.0005 else f"{100 * share:.1f} %"


def names(page: Any, selector: str) -> list[str]:
    """The texts of elements, what stands in elements of their own left out."""
    found: list[str] = page.eval_on_selector_all(selector, "all => all.map(one => one.firstChild.textContent)")
    return found


@pytest.mark.browser
@ONE_ENGINE
def test_two_users_and_the_base_answer_side_by_side(page: Any, shared_site: Site) -> None:
    assert page.text_content("#model") == "run"
    people = page.eval_on_selector_all("#people option", "all => all.map(one => one.value)")
    assert people == ["anna", "ben", "cleo", "collective"]
    # The task, asked by the keyboard alone.
    page.fill("#prompt", "river stone")
    page.press("#prompt", "Control+Enter")
    until(page, ANSWERED)
    assert names(page, "article h2") == ["anna", "ben", "base"]
    told = {
        user: shared_site.post("/v1/tasks/answer", {"user": user, "input": "river stone", "show_prompt": True}).json()
        for user in ("base", "collective", "anna", "ben")
    }
    assert names(page, ".answer") == [told[user]["answer"] for user in ("anna", "ben", "base")]
    # Which tokens were edited.
    pieces, edited = told["anna"]["perfit"]["prompt"], told["anna"]["perfit"]["edited"]
    assert page.text_content("#pieces") == "".join(piece["text"] for piece in pieces)
    assert all(piece["tokens"] == 1 for piece in pieces)
    places = [place for first, behind in edited for place in range(first, behind)]
    assert page.locator("#pieces mark").all_text_contents() == [pieces[place]["text"] for place in places]
    # Each label as the base, the collective and both users have it.
    for label in ("work", "family", "travel"):
        block = page.locator(f".block:has(h4:text-is('{label}'))")
        assert block.locator("dt").all_text_contents() == ["base", "collective", "anna", "ben"]
        shares = [next(one for one in told[user]["labels"] if one["label"] == label) for user in told]
        wanted = [percent(one["probability"]) for one in shares]
        assert block.locator(".share").all_text_contents() == wanted
        moved = [100 * (one["probability"] - shares[0]["probability"]) for one in shares]
        signs = ["" if not n else "+" if far >= 0 else "−" for n, far in enumerate(moved)]
        assert [text[:1] for text in block.locator(".by").all_text_contents()] == signs


@pytest.mark.browser
@ONE_ENGINE
def test_texts_stream_and_show_which_of_their_tokens_moved(
    page: Any, shared_site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("perfit.serving.chat._DEFAULT_TOKENS", 8)
    page.fill("#prompt", "river 石")
    page.select_option("#way", "text")
    page.click("#send")
    until(page, ANSWERED)
    asked = {"prompt": "river 石", "max_tokens": 64}
    whole = {
        user: shared_site.post("/v1/completions", asked | {"user": user}).json()["choices"][0]["text"]
        for user in ("anna", "ben", "base")
    }
    assert page.locator(".answer").all_text_contents() == list(whole.values())
    scores = [
        shared_site.post("/v1/answers/score", {"user": user, "prompt": "river 石", "answer": whole["ben"]}).json()
        for user in ("base", "ben")
    ]
    assert page.locator(".tokens").nth(1).text_content() == "".join(one["text"] for one in scores[0]["tokens"])
    before, after = ([token["logprob"] for token in one["tokens"]] for one in scores)
    moved = sorted((abs(b - a) for a, b in zip(before, after, strict=True)), reverse=True)
    shown = page.locator(".blocks").nth(1).locator("dl > div:last-child .by").all_text_contents()
    found = sorted((abs(float(text.replace("−", "-"))) for text in shown), reverse=True)
    assert found == pytest.approx(moved[: len(found)], abs=0.02)
    assert len(found) == 6
    # A conversation: what the template puts around the text was read too.
    page.select_option("#way", "chat")
    page.click("#send")
    until(page, f"{ANSWERED} && document.getElementById('pieces').textContent.includes('<s>user: river 石')")
    # Somebody who is not there is told so in their own column, in place of any other answer.
    page.fill("#first", "nobody")
    page.click("#send")
    until(page, f"{ANSWERED} && document.querySelector('.fault') !== null")
    assert page.locator(".answer").first.text_content() == ""


@pytest.mark.browser
@ONE_ENGINE
def test_a_point_of_the_map_picks_a_user(page: Any, shared_site: Site) -> None:
    points = shared_site.http.get("/v1/map").json()["points"]
    shown = page.locator("#drawing [role=option]")
    assert [text.split(",")[0] for text in shown.evaluate_all("all => all.map(one => one.ariaLabel)")] == [
        point["user"] for point in points
    ]
    assert page.locator("#drawing text").all_text_contents() == ["1", "2", ""]
    assert not any(name in page.text_content("#map") for name in ("anna", "ben", "cleo"))  # until one is looked at
    shown.nth(2).click()
    assert page.input_value("#first") == "cleo"
    assert page.text_content("#pointed") == "cleo"
    shown.nth(0).focus()
    page.keyboard.press("Enter")  # the other place, after one was picked
    assert page.input_value("#second") == "anna"
    reached = set()
    for key in ("ArrowRight", "ArrowLeft", "ArrowUp", "ArrowDown", "End", "Home"):
        page.keyboard.press(key)
        reached.add(page.text_content("#pointed"))
        assert page.locator("#drawing [tabindex='0']").count() == 1
    assert reached == {"anna", "ben", "cleo"}
    page.keyboard.press("End")
    page.keyboard.press("2")
    assert (page.input_value("#first"), page.input_value("#second")) == ("cleo", "cleo")
    assert page.locator("#drawing text").all_text_contents() == ["", "", "12"]


class Worker:
    """What trains in a server's other process, here in a thread of this one."""

    def __init__(self, one: Site):
        self._over = threading.Event()
        updates = Updates(one.perfit, RunDirectory(one.gateway.run), one.gateway.notebook, lambda: None)

        def work() -> None:
            while not self._over.wait(0.05):
                updates.run_one()

        self._thread = threading.Thread(target=work)
        self._thread.start()

    def close(self) -> None:
        self._over.set()
        self._thread.join()


@pytest.mark.browser
def test_an_answer_put_right_is_learnt_and_taken_back_by_the_keyboard_alone(browser: Any, own_run: Path) -> None:
    with site(own_run) as one:
        one.gateway.worker = Worker(one)  # type: ignore[assignment]
        with opened(browser, one) as page:
            page.fill("#prompt", "river stone")
            page.press("#prompt", "Control+Enter")
            until(page, ANSWERED)
            (answer,) = names(page, "article:first-child .answer")
            right = next(label for label in one.perfit.task.labels if label != answer)
            for _ in range(20):
                page.keyboard.press("Tab")
                if page.evaluate("document.activeElement.className") == "right":
                    break
            page.keyboard.type(right)
            page.keyboard.press("Enter")
            until(page, "document.querySelectorAll('article:first-child .steps li').length === 3")
            kept, live, again = page.locator("article:first-child .steps li").all_text_contents()
            assert kept.startswith("kept: 1 item to learn from")
            assert live.startswith("live: version 2")
            now = one.post("/v1/tasks/answer", {"user": "anna", "input": "river stone"}).json()
            assert again.startswith(f"asked again: {now['answer']}")
            assert names(page, "article:first-child .answer") == [now["answer"]]
            assert page.text_content("article:first-child .before") == f"before: {answer}"
            assert "version 2" in page.text_content("article:first-child .tag")
            share = next(each for each in now["labels"] if each["label"] == right)["probability"]
            block = page.locator(f".block:has(h4:text-is('{right}'))")
            assert block.locator(".share").nth(2).text_content() == percent(share)
            until(page, "document.activeElement !== document.body")
            page.locator("article:first-child .back").focus()
            page.keyboard.press("Enter")
            until(page, "document.querySelector('article:first-child .back').hidden")
            assert names(page, "article:first-child .answer") == [answer]
            assert page.locator("article:last-child .teach").is_hidden()  # the base learns nothing


@pytest.mark.browser
@ONE_ENGINE
def test_it_fits_from_a_telephone_to_a_wide_screen_light_and_dark(page: Any) -> None:
    page.fill("#prompt", "river " + "stone" * 60)  # a word that is longer than a telephone is wide
    page.click("#send")
    until(page, ANSWERED)
    page.evaluate("document.getElementById('access').open = true")
    grounds: dict[str, set[str]] = {"light": set(), "dark": set()}
    small = """() => [...document.querySelectorAll("button, input, select, textarea")]
        .filter((one) => one.checkVisibility() && one.offsetHeight < (one.type === "radio" ? 30 : 44))
        .map((one) => one.id)"""
    for width in (390, 768, 1024, 1600):
        page.set_viewport_size({"width": width, "height": 900})
        for theme in ("light", "dark"):
            page.emulate_media(color_scheme=theme)
            assert page.evaluate("document.documentElement.scrollWidth") <= width
            assert page.evaluate(small) == []
            grounds[theme].add(page.evaluate("getComputedStyle(document.body).backgroundColor"))
    assert grounds["light"].isdisjoint(grounds["dark"])
    columns = "getComputedStyle(document.getElementById('answers')).gridTemplateColumns.split(' ').length"
    assert page.evaluate(columns) == 3
    page.check("#theme-light")  # against what the system says
    assert page.evaluate("getComputedStyle(document.body).backgroundColor") in grounds["light"]
    page.set_viewport_size({"width": 390, "height": 900})
    assert page.evaluate(columns) == 1


@pytest.mark.browser
@ONE_ENGINE
def test_everything_is_reached_by_the_keyboard_and_seen_where_it_is(page: Any) -> None:
    reached = set()
    for _ in range(16):
        page.keyboard.press("Tab")
        if page.evaluate("document.activeElement !== document.body"):
            reached.add(page.evaluate("document.activeElement.id || document.activeElement.getAttribute('role')"))
            seen = "getComputedStyle(document.activeElement.closest('g')?.firstChild ?? document.activeElement)"
            ring = page.evaluate(
                f"{seen}.outlineStyle !== 'none' || {seen}.stroke !== 'none' || document.activeElement.type === 'radio'"
            )
            assert ring, reached
    assert {"first", "second", "way", "prompt", "send", "option", "picks-first"} <= reached
