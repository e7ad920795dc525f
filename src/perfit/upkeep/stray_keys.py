"""Data keys of nobody: what a writer left who was killed between the key and what it was to hide."""

from __future__ import annotations

from contextlib import ExitStack

from perfit.belonging import open_store
from perfit.notebook.database import FILE, Notebook
from perfit.run import RunDirectory
from perfit.store.shifts import ShiftStore


def stray_keys(run: RunDirectory, store: ShiftStore) -> int:
    """How many keys are of nobody of whom anything is kept.

    Raises:
        StoreError: A database or the file of keys cannot be read.
    """
    users = set(store.users())
    if (run.path / FILE).exists():
        with Notebook(run.path) as notebook:
            users |= notebook.users()
    return 0 if store.data_keys is None else store.data_keys.of_others(users)


def destroy_stray_keys(run: RunDirectory) -> None:
    """Destroy them, while nobody can be given one: keys are made in the transaction of what they hide, or in a locked run.

    Raises:
        StoreError: As ``stray_keys``.
    """
    with ExitStack() as held:
        store = held.enter_context(open_store(run, readonly=False))
        held.enter_context(store.alone())
        users = set(store.users())
        if (run.path / FILE).exists():
            notebook = held.enter_context(Notebook(run.path))
            held.enter_context(notebook.writing())
            users |= notebook.users()
        if store.data_keys is not None:
            store.data_keys.destroy_others(users)
