"""A run to oneself: no training, no server, and no worker that outlived one."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from perfit.durable.lock import locked
from perfit.notebook.served import WORKER_LOCK, serving
from perfit.run import RunDirectory


@contextmanager
def alone(run: RunDirectory) -> Iterator[None]:
    """Nobody else trains, serves or learns in a run until the end of the block.

    Raises:
        StoreError: Somebody does.
    """
    busy = f"{run.path}: a training of a server that is gone still works; wait until it ends"
    with run.locked(), serving(run.path), locked(run.path / WORKER_LOCK, busy):
        yield
