"""Where a run's payloads lie: in its files, or as objects in a bucket."""

from __future__ import annotations

from perfit.belonging import open_store
from perfit.notebook.database import FILE, Notebook
from perfit.notebook.versions import Versions
from perfit.run import RunDirectory
from perfit.upkeep.alone import alone

SQLITE = "sqlite"


def move(run: RunDirectory, to: str) -> int:
    """Move the payloads of users' shifts and versions, those that are there and those to come. Killed, the same call goes on.

    Args:
        run: The run; nobody may serve it meanwhile.
        to: ``s3://bucket/prefix``, or ``sqlite``: back into the run's own files.

    Returns:
        Of how many users.

    Raises:
        ConfigError: It is no such place.
        StoreError: The run is in use, served or damaged, the payloads lie in another bucket, or one cannot be reached.
        MissingExtraError: ``perfit[object-storage]`` is not installed.
    """
    with alone(run), open_store(run, readonly=False) as store:
        if to != SQLITE:
            store.move_out(to)
        _versions(run, out=to != SQLITE)
        if to == SQLITE:  # last: it removes all objects
            store.move_in()
        return len(store)


def _versions(run: RunDirectory, *, out: bool) -> None:
    if (run.path / FILE).exists():
        with Notebook(run.path) as notebook:
            Versions(notebook).move(notebook.objects if out else None)
            if out:
                notebook.compact()  # without what is left of them in its pages
