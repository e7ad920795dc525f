"""A run that is served: who serves it, and who is to be forgotten by that server's memory."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

from perfit.durable.lock import BusyError, locked
from perfit.errors import StoreError
from perfit.notebook.database import FILE, Notebook

LOCK = ".serving.lock"
WORKER_LOCK = ".worker.lock"
"""Of whoever trains for a server, which may outlive it."""
_ASKED = "forget "
_LOOK_SECONDS = 0.05
_LOOKED_AT_SECONDS = 1.0  # whoever only looks whether somebody serves holds the lock as long as the look takes


@contextmanager
def serving(run: Path) -> Iterator[None]:
    """Be the only server of a run: whoever erases a user asks one, which must be all that has the user in its memory.

    Raises:
        BusyError: Another serves it.
        StoreError: The run cannot be written.
    """
    with ExitStack() as held:
        try:
            held.enter_context(
                locked(
                    run / LOCK,
                    f"{run}: another perfit serve serves it; end it, or serve another run",
                    wait=_LOOKED_AT_SECONDS,
                )
            )
        except OSError as error:
            raise StoreError(
                f"{run}: cannot be written ({error.strerror}), and a server keeps histories and versions there; serve a copy"
            ) from None
        yield


def is_served(run: Path) -> bool:
    """Whether a server serves this run now."""
    if not (run / LOCK).exists():
        return False
    try:
        with locked(run / LOCK):
            return False
    except BusyError:
        return True


def forget(run: Path, user: str, seconds: float) -> bool:
    """Have the server of a run, if there is one, forget a user whose files are gone already; on return it has.

    What is written for it is the keyed mark of the user, never the id.

    Args:
        run: The run's folder.
        user: The id.
        seconds: How long to wait.

    Returns:
        Whether there was a server.

    Raises:
        StoreError: It does not answer.
    """
    if not (run / FILE).exists() or not is_served(run):
        return False
    with Notebook(run) as notebook:
        mark = notebook.mark(user)
        with notebook.writing() as database:
            database.execute("INSERT OR REPLACE INTO meta VALUES (?, '')", (_ASKED + mark,))
        until = time.monotonic() + seconds
        while mark in to_forget(notebook):
            if not is_served(run):  # it has ended meanwhile, and its memory with it
                forgotten(notebook, mark)
            elif time.monotonic() >= until:
                raise StoreError(
                    f"{run}: the server that serves it has not forgotten the user in {seconds:.0f} s; end it, and repeat "
                    "the command"
                )
            else:
                time.sleep(_LOOK_SECONDS)
    return True


def to_forget(notebook: Notebook) -> list[str]:
    """The marks of users whom the server is to forget."""
    with notebook.reading() as database:
        found = database.execute("SELECT key FROM meta WHERE key LIKE ?", (f"{_ASKED}%",)).fetchall()
    return [key.removeprefix(_ASKED) for (key,) in found]


def forgotten(notebook: Notebook, mark: str) -> None:
    """Say that nothing of a user is in memory any more."""
    with notebook.writing() as database:
        database.execute("DELETE FROM meta WHERE key = ?", (_ASKED + mark,))
