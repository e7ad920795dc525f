"""Erasures made by anybody, followed by a server: what its memory has of a user goes before the eraser says it is done."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable

from perfit.notebook.database import Notebook
from perfit.notebook.served import forgotten, to_forget
from perfit.serving.engine import Engine
from perfit.serving.keys import Tenant
from perfit.serving.people import People

LOG = logging.getLogger("perfit.serving")
_LOOK_SECONDS = 0.1


class Forgetting:
    """Looks for users to forget, and drops their shifts, slots, pages and answers in flight, of all tenants.

    Args:
        notebook: Where it is asked.
        people: Versions in flight.
        engine: Bank, pages and answers in flight.
        tenants: Everybody a user may have been served for.
    """

    def __init__(self, notebook: Notebook, people: People, engine: Engine, tenants: Callable[[], tuple[Tenant, ...]]):
        self._notebook, self._people, self._engine, self._tenants = notebook, people, engine, tenants
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._watch, name="perfit-forget", daemon=True)
        self._thread.start()

    def close(self) -> None:
        """Look no more."""
        self._ended.set()
        self._thread.join()

    def _watch(self) -> None:
        failing = False
        while not self._ended.wait(_LOOK_SECONDS):
            try:
                for mark in to_forget(self._notebook):
                    self._forget(mark)
                failing = False
            except Exception as error:  # whoever asked waits on, and it is tried again
                if not failing:
                    LOG.error("users to forget cannot be looked for (%s)", type(error).__name__)
                failing = True

    def _forget(self, mark: str) -> None:
        for tenant in self._tenants():
            self._people.drop(tenant.name, mark)
            self._engine.forget(tenant.name, self._people.hidden(tenant.name, mark))
        forgotten(self._notebook, mark)
