"""Who is to be forgotten is dropped everywhere, for every tenant, before the eraser hears that it is done."""

from __future__ import annotations

import time
from pathlib import Path
from types import SimpleNamespace
from typing import Any

from perfit.notebook.database import Notebook
from perfit.notebook.served import forget, serving, to_forget
from perfit.serving.forgetting import Forgetting


def test_a_user_is_dropped_from_versions_and_engine_of_all_tenants_before_it_is_said(tmp_path: Path) -> None:
    done: list[tuple[str, ...]] = []
    with Notebook(tmp_path) as notebook, serving(tmp_path):
        waiting: list[bool] = []

        def note(*what: str) -> None:
            done.append(what)
            waiting.append(to_forget(notebook) == [notebook.mark("anna")])

        people: Any = SimpleNamespace(
            drop=lambda tenant, mark: note("versions", tenant, mark), hidden=lambda tenant, mark: f"{mark} of {tenant}"
        )
        engine: Any = SimpleNamespace(forget=lambda tenant, user: note("engine", tenant, user))
        tenants: Any = (SimpleNamespace(name="shop"), SimpleNamespace(name="press"))
        watching = Forgetting(notebook, people, engine, lambda: tenants)
        try:
            assert forget(tmp_path, "anna", 60)
        finally:
            watching.close()
        mark = notebook.mark("anna")
        assert done == [
            ("versions", "shop", mark),
            ("engine", "shop", f"{mark} of shop"),
            ("versions", "press", mark),
            ("engine", "press", f"{mark} of press"),
        ]
        assert waiting == [True] * 4
        assert to_forget(notebook) == []


def test_what_fails_is_tried_again_and_the_eraser_waits(tmp_path: Path) -> None:
    calls: list[float] = []
    with Notebook(tmp_path) as notebook, serving(tmp_path):

        def drop(tenant: str, mark: str) -> None:
            calls.append(time.monotonic())
            if len(calls) == 1:
                raise RuntimeError("busy")

        people: Any = SimpleNamespace(drop=drop, hidden=lambda tenant, mark: mark)
        engine: Any = SimpleNamespace(forget=lambda tenant, user: None)
        tenants: Any = (SimpleNamespace(name="shop"),)
        watching = Forgetting(notebook, people, engine, lambda: tenants)
        try:
            assert forget(tmp_path, "anna", 60)
        finally:
            watching.close()
        assert len(calls) == 2
