"""``python -m perfit.serving.worker``: the process that trains what users of a server asked for, within a budget of CPU."""

from __future__ import annotations

import json
import os
import sys
import time
from collections.abc import Mapping
from contextlib import ExitStack
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from perfit.durable.lock import BusyError, locked
from perfit.failures import describe_failure
from perfit.notebook.served import WORKER_LOCK

_POLL_SECONDS = 0.3
_IDLE_SECONDS = 120.0
_NICE = 10


@dataclass(frozen=True)
class WorkerOrders:
    """What a worker is told on its standard input.

    Attributes:
        run: The run's folder.
        share: Of one core, how much it may take, above 0 to 1.
        base: Where the run's base lies now, if not where it lay in training.
        how: How it is opened, as ``PerFit.from_pretrained`` takes it.
    """

    run: str
    share: float
    base: str | None
    how: Mapping[str, Any]

    def text(self) -> str:
        """As JSON."""
        return json.dumps(asdict(self))

    @classmethod
    def of(cls, text: str) -> WorkerOrders:
        """The inverse of ``text``."""
        return cls(**json.loads(text))


class Budget:
    """Sleeps so long that no more than a share of one core was taken since the last sleep.

    Args:
        share: Above 0 to 1.
    """

    def __init__(self, share: float):
        self._share = share
        self._cpu, self._clock = time.process_time(), time.monotonic()

    def rest(self) -> None:
        """Sleep, if too much was taken."""
        used, passed = time.process_time() - self._cpu, time.monotonic() - self._clock
        owed = used / self._share - passed
        if owed > 0.01:
            time.sleep(owed)
        if used > 0.05:
            self._cpu, self._clock = time.process_time(), time.monotonic()


def main() -> int:
    """Work until the server is gone, or nothing was to be done for two minutes."""
    orders = WorkerOrders.of(sys.stdin.readline())
    parent = os.getppid()
    if hasattr(os, "nice"):
        os.nice(_NICE)
    try:
        with ExitStack() as held:
            try:
                held.enter_context(locked(Path(orders.run) / WORKER_LOCK))
            except BusyError:  # a worker that outlived its server ends by itself; the server asks again
                return 0
            return _work(orders, parent)
    except Exception as error:
        print(describe_failure(error)["error"], flush=True)  # read by the server
        return 1


def _work(orders: WorkerOrders, parent: int) -> int:
    import torch

    torch.set_num_threads(1)
    from perfit.notebook.database import Notebook
    from perfit.notebook.jobs import Jobs
    from perfit.personalizer import PerFit
    from perfit.run import RunDirectory
    from perfit.serving.updating import Updates

    with Notebook(Path(orders.run)) as notebook:
        Jobs(notebook).take_up()
        perfit = PerFit.from_pretrained(orders.run, base_at=orders.base, **orders.how)
        perfit.owners.personal.close()
        budget = Budget(orders.share)

        def pause() -> None:
            if os.getppid() != parent:
                os._exit(0)  # the server is gone; the job is taken up again by the next one
            budget.rest()

        updates, worked = Updates(perfit, RunDirectory(orders.run), notebook, pause), time.monotonic()
        while time.monotonic() - worked < _IDLE_SECONDS:
            pause()
            if updates.run_one():
                worked = time.monotonic()
            else:
                time.sleep(_POLL_SECONDS)
    return 0


if __name__ == "__main__":
    sys.exit(main())
