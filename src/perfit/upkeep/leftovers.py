"""What lies in a run and nothing points at: parts of files, free pages of its databases, objects, keys."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from perfit.belonging import open_store
from perfit.durable.files import is_part, sweep
from perfit.notebook.database import FILE, Notebook
from perfit.notebook.served import forgotten, is_served, to_forget
from perfit.run import RunDirectory
from perfit.upkeep.orphans import orphans, remove_orphans
from perfit.upkeep.stray_keys import destroy_stray_keys, stray_keys


@dataclass(frozen=True)
class Leftover:
    """Something that nothing points at.

    Attributes:
        path: The file it is, or lies in.
        what: What it is.
        size: Its bytes; of free pages about.
        remove: Takes it away.
    """

    path: Path
    what: str
    size: int
    remove: Callable[[], None]

    def gone(self) -> bool:
        """Whether it was taken away, or was a part of a file in use."""
        return not (is_part(self.path.name) and self.path.exists())


def leftovers(run: RunDirectory) -> list[Leftover]:
    """What ``gc`` would take away; nothing of it is live, kept as a version, or being written now.

    Raises:
        StoreError: A database cannot be read.
    """
    found = unfinished(run)
    if run.store_path.exists():
        with open_store(run) as store:
            if free := store.free_bytes():
                found.append(_pages(run.store_path, free, lambda: _compact_store(run)))
            if names := orphans(run, store):
                what = f"{len(names):,} objects that nothing refers to"
                found.append(Leftover(run.store_path, what, sum(names.values()), lambda: remove_orphans(run)))
            if keys := stray_keys(run, store):
                what = f"{keys:,} data keys of nobody"
                found.append(Leftover(run.store_path, what, 0, lambda: destroy_stray_keys(run)))
    if (run.path / FILE).exists():
        with Notebook(run.path) as notebook:
            if free := notebook.free_bytes():
                found.append(_pages(notebook.path, free, lambda: _compact_notebook(run)))
            if to_forget(notebook) and not is_served(run.path):
                found.append(
                    Leftover(
                        notebook.path,
                        "what a killed eraser asked a server that is gone",
                        0,
                        lambda: _no_asking(run),
                    )
                )
    return found


def unfinished(run: RunDirectory) -> list[Leftover]:
    """Files that killed writers left, and those that somebody writes now: who removes one sees which it is."""
    return [_part(path) for path in sorted(run.path.rglob("*")) if path.is_file() and is_part(path.name)]


def _part(path: Path) -> Leftover:
    return Leftover(path, "a file that a kill left unfinished", path.stat().st_size, lambda: sweep(path.parent))


def _pages(path: Path, free: int, compact: Callable[[], None]) -> Leftover:
    return Leftover(path, "free pages", free, compact)


def _compact_store(run: RunDirectory) -> None:
    with open_store(run, readonly=False) as store:
        store.compact()


def _compact_notebook(run: RunDirectory) -> None:
    with Notebook(run.path) as notebook:
        notebook.compact()


def _no_asking(run: RunDirectory) -> None:
    with Notebook(run.path) as notebook:
        for mark in to_forget(notebook):
            forgotten(notebook, mark)
