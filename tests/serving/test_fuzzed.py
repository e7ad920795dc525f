"""Whatever is sent, nobody gets a fault of the server, and no log gets anybody's text."""

from __future__ import annotations

import logging
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from fuzzing import CANARY, Fuzzer
from served_run import site

from perfit.serving import app


def test_what_nobody_means_is_refused_in_form(own_run: Path) -> None:
    with site(own_run) as one:
        fuzzer = Fuzzer(one, 0)
        fuzzer.run(250)
    assert not fuzzer.wrong
    assert {200, 400, 404} <= set(fuzzer.statuses)


@pytest.mark.parametrize("logs", [False, True])
def test_a_fault_of_the_server_would_be_seen(own_run: Path, monkeypatch: pytest.MonkeyPatch, logs: bool) -> None:
    def wrong(gateway: Any, tenant: Any, request: Any, content: bytes) -> None:
        if logs:
            logging.getLogger("perfit.serving").info("asked with %s", content.decode(errors="replace"))
        raise ZeroDivisionError("a fault")

    routes = [replace(route, handler=wrong) if "feedback" in route.path else route for route in app.ROUTES]
    monkeypatch.setattr(app, "ROUTES", routes)
    with site(own_run) as one:
        fuzzer = Fuzzer(one, 0)
        if logs:
            with pytest.raises(AssertionError, match=CANARY):
                fuzzer.run(60)
        else:
            fuzzer.run(60)
        assert any(told.startswith("500") for told in fuzzer.wrong)
