"""Whoever waits for the run, or has labels scored, holds up nobody whose answer needs neither."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import httpx
import pytest
from served_run import PROMPT, Site, site

from perfit.personalizer import PerFit
from perfit.serving import learning
from perfit.store.digest import shift_digest

MANY = 40  # more than there are threads anywhere


@pytest.fixture
def one(own_run: Path) -> Iterator[Site]:
    with site(own_run) as made:
        yield made


def stands_still(monkeypatch: pytest.MonkeyPatch, where: Any, name: str) -> tuple[threading.Event, threading.Event]:
    """Have a function wait; two events say that it was called, and that it may go on."""
    called, go_on, does = threading.Event(), threading.Event(), getattr(where, name)

    def slow(*given: Any, **named: Any) -> Any:
        called.set()
        assert go_on.wait(60)
        return does(*given, **named)

    monkeypatch.setattr(where, name, slow)
    return called, go_on


@pytest.mark.parametrize(
    ("where", "name", "ask", "status"),
    [
        (learning, "erase_user", lambda one, n: one.http.delete(f"/v1/users/nobody-{n}"), 404),
        (
            learning.publishing,
            "publish",
            lambda one, n: one.post("/v1/users/anna/rollback", {"version": 2}),
            200,
        ),
        (
            PerFit,
            "score_labels",
            lambda one, n: one.post("/v1/tasks/answer", {"user": "anna", "input": f"stone {n}"}),
            200,
        ),
    ],
)
def test_others_are_answered(
    one: Site,
    where: Any,
    name: str,
    ask: Callable[[Site, int], httpx.Response],
    status: int,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    for other in ("ben", "cleo"):  # versions to roll back to
        stored = one.gateway.people.stored(other)
        one.gateway.versions.add("anna", stored, shift_digest(stored.tensors), state="kept", note={})
    called, go_on = stands_still(monkeypatch, where, name)
    with ThreadPoolExecutor(MANY) as threads:
        slow = [threads.submit(ask, one, number) for number in range(MANY)]
        try:
            assert called.wait(30)
            said = one.post("/v1/completions", {"user": "ben", "prompt": PROMPT, "max_tokens": 2}, timeout=15)
            assert said.status_code == 200
        finally:
            go_on.set()
        assert {future.result().status_code for future in slow} == {status}
