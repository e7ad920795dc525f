"""Trials in processes of their own: each with its share of the cores, and none able to take another down."""

from __future__ import annotations

import contextlib
import multiprocessing
import os
import signal
import sys
import threading
from collections.abc import Callable, Sequence
from multiprocessing.connection import Connection, wait
from pathlib import Path
from typing import TYPE_CHECKING

from perfit.comparison.bench import Bench
from perfit.comparison.folder import ComparisonFolder
from perfit.comparison.plan import Plan, Trial
from perfit.comparison.trial import Maker, ended, run_trial
from perfit.errors import ConfigError
from perfit.events import Answered, Event, Listener, Warned
from perfit.failures import describe_failure
from perfit.private import private_folder

if TYPE_CHECKING:
    from multiprocessing.context import SpawnProcess

_THREAD_SETTINGS = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS")


def cores() -> int:
    """Cores this process may use."""
    affinity = getattr(os, "sched_getaffinity", None)
    return len(affinity(0)) if affinity is not None else os.cpu_count() or 1


def run_in_processes(
    todo: Sequence[Trial],
    plan: Plan,
    folder: ComparisonFolder,
    maker: Maker,
    workers: int,
    reopen: Callable[[], Bench] | None,
    announce: Callable[[Trial, int], None],
    listener: Listener,
) -> None:
    """Run trials in spawned processes, at most ``workers`` at a time, one trial each.

    ``announce`` gets each trial with its number as it begins. A process that dies (out of memory, a crash in a library) is a failed trial. Stopping this process stops them.

    Raises:
        ConfigError: ``reopen`` is None.
    """
    if reopen is None:
        raise ConfigError("workers: several need a way to open the data and the base again; pass reopen, or use 1")
    spawn = multiprocessing.get_context("spawn")
    threads = max(1, cores() // workers)
    waiting = list(todo)
    running: dict[Connection, tuple[Trial, SpawnProcess]] = {}
    try:
        while waiting or running:
            while waiting and len(running) < workers:
                trial = waiting.pop(0)
                ours, theirs = spawn.Pipe(duplex=False)
                options = plan.options_of(trial.method)
                arguments = (reopen, trial, options, folder.path, maker, threads, theirs)
                process = spawn.Process(target=_work, args=arguments, daemon=True)
                process.start()
                theirs.close()  # so that the end of the process is the end of the pipe
                running[ours] = (trial, process)
                announce(trial, len(todo) - len(waiting))
            for pipe in wait(list(running)):
                assert isinstance(pipe, Connection)
                try:
                    listener(pipe.recv())
                except EOFError:
                    trial, process = running.pop(pipe)
                    process.join()
                    _settle(trial, process.exitcode, folder)
                    listener(ended(trial, folder.record(trial)))
    finally:
        for pipe, (_, process) in running.items():
            process.terminate()
            process.join()
            pipe.close()


def _settle(trial: Trial, code: int | None, folder: ComparisonFolder) -> None:
    """Say what became of a process that could not say it itself."""
    record = folder.record(trial)
    if record.status == "running":
        name = signal.Signals(-code).name if code is not None and code < 0 else f"exit code {code}"
        hint = "; is there memory for so many workers?" if name == "SIGKILL" else ""
        record.status, record.failure = "failed", {"error": f"its process ended with {name}{hint}", "where": []}
        private_folder(folder.trial_folder(trial))
        folder.save_record(trial, record)


def _work(
    reopen: Callable[[], Bench],
    trial: Trial,
    options: dict[str, object],
    path: Path,
    maker: Maker,
    threads: int,
    pipe: Connection,
) -> None:
    """What a process does: open the bench, run one trial, tell how many queries are answered."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the parent is interrupted too, and ends this process
    threading.Thread(target=_end_with_parent, daemon=True).start()
    for name in _THREAD_SETTINGS:
        os.environ[name] = str(threads)
    folder = ComparisonFolder(path)

    def heard(event: Event) -> None:
        if isinstance(event, Answered | Warned):
            with contextlib.suppress(OSError):  # the parent is gone, and soon this process
                pipe.send(event)

    try:
        bench = folder.living(reopen())
        if "torch" in sys.modules:  # a script that imported it at its top did so before the variables were set
            sys.modules["torch"].set_num_threads(threads)
    except Exception as error:
        record = folder.record(trial)
        record.status, record.failure = "failed", describe_failure(error)
        private_folder(folder.trial_folder(trial))
        folder.save_record(trial, record)
    else:
        run_trial(bench, trial, options, folder, maker, heard)
    finally:
        pipe.close()


def _end_with_parent() -> None:
    """A process whose parent was killed must not go on writing where the next call writes too."""
    parent = multiprocessing.parent_process()
    if parent is not None:
        parent.join()
        os._exit(1)
