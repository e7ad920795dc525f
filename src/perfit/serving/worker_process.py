"""The worker as a server sees it: started when there is something to train, again if it died, ended with the server."""

from __future__ import annotations

import logging
import os
import subprocess
import sys
import threading
from collections.abc import Callable
from pathlib import Path

from perfit.serving.worker import WorkerOrders
from perfit.shown import shown

LOG = logging.getLogger("perfit.serving")
_LOOK_SECONDS = 0.5
_AGAIN_SECONDS, _LONGEST_SECONDS = 2.0, 60.0
_END_SECONDS = 10.0
_MOST_LETTERS = 1000


class WorkerProcess:
    """Keeps a worker running while jobs wait.

    Args:
        orders: What it is told.
        waiting: How many jobs wait or run.
    """

    def __init__(self, orders: WorkerOrders, waiting: Callable[[], int]):
        self._orders, self._waiting = orders, waiting
        self._process: subprocess.Popen[str] | None = None
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._watch, name="perfit-worker-watch", daemon=True)
        self._thread.start()

    @property
    def pid(self) -> int | None:
        """The process that works now, if one does."""
        process = self._process
        return process.pid if process is not None and process.poll() is None else None

    def close(self) -> None:
        """End the worker; a job in the middle is taken up by the next one."""
        self._ended.set()
        self._thread.join()
        process = self._process
        if process is not None and process.poll() is None:
            process.terminate()
            try:
                process.wait(_END_SECONDS)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()

    def _watch(self) -> None:
        again = _AGAIN_SECONDS
        while not self._ended.wait(_LOOK_SECONDS):
            if self.pid is not None or not self._due():
                continue
            if self._process is not None and self._process.returncode:
                LOG.warning("the training worker ended: %s; it is started again in %.0f s", self._last_words(), again)
                if self._ended.wait(again):
                    return
                again = min(2 * again, _LONGEST_SECONDS)
            else:
                again = _AGAIN_SECONDS
            try:
                self._start()
            except OSError as error:  # of memory or files there may be enough again soon
                LOG.warning("the training worker cannot be started (%s)", error.strerror)
                if self._ended.wait(again):
                    return

    def _last_words(self) -> str:
        """Why a worker ended, in its own line, or by its code."""
        assert self._process is not None
        assert self._process.stdout is not None
        said = self._process.stdout.read(_MOST_LETTERS).strip()
        return shown(said, _MOST_LETTERS) if said else f"code {self._process.returncode}"

    def _due(self) -> bool:
        try:
            return self._waiting() > 0
        except Exception:
            LOG.error("the queue of trainings cannot be read")
            return False

    def _start(self) -> None:
        # The very perfit that serves, wherever it was imported from.
        path = os.pathsep.join([str(Path(__file__).parents[2]), *filter(None, [os.environ.get("PYTHONPATH")])])
        environment = os.environ | {"OMP_NUM_THREADS": "1", "TOKENIZERS_PARALLELISM": "false", "PYTHONPATH": path}
        self._process = subprocess.Popen(
            [sys.executable, "-m", "perfit.serving.worker"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
            env=environment,
        )
        assert self._process.stdin is not None
        self._process.stdin.write(self._orders.text() + "\n")
        self._process.stdin.flush()
