"""Objects that nothing refers to: what a writer left who was killed before its row was there, and what was replaced."""

from __future__ import annotations

from perfit.belonging import open_store
from perfit.notebook.database import FILE, Notebook
from perfit.notebook.versions import Versions
from perfit.run import RunDirectory
from perfit.store.shifts import ShiftStore


def orphans(run: RunDirectory, store: ShiftStore) -> dict[str, int]:
    """The names of objects that no row and no version refers to, with their bytes.

    Args:
        run: The run.
        store: Its store.

    Raises:
        StoreError: The objects cannot be listed, or a reference is damaged.
    """
    if store.objects is None:
        return {}
    there = store.objects.all()
    referred = store.referred()
    if (run.path / FILE).exists():
        with Notebook(run.path) as notebook:
            referred |= Versions(notebook).referred()
    return {name: size for name, size in there.items() if name not in referred}


def remove_orphans(run: RunDirectory) -> None:
    """Remove them, while nobody can refer to one of them: the run is locked, as it is where versions are kept.

    Raises:
        StoreError: As ``orphans``, or they cannot be removed.
    """
    with open_store(run, readonly=False) as store, store.alone():
        if store.objects is not None:
            store.objects.remove(list(orphans(run, store)))
