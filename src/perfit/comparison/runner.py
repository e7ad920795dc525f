"""Running all trials of a comparison, one after another or in several processes, and going on after a stop."""

from __future__ import annotations

import gc
import tempfile
import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from perfit.comparison.bench import Bench
from perfit.comparison.folder import ComparisonFolder, TrialRecord
from perfit.comparison.plan import Plan, Trial
from perfit.comparison.trial import Maker, ended, make_registered, run_trial
from perfit.errors import StoreError
from perfit.events import ComparisonBegun, Listener, TrialBegun, nobody
from perfit.failures import describe_failure

REFERENCE = "oppu"
"""Reductions of parameters are stated against this method, as in the paper's Tables 2 and 3."""


def run(
    bench: Bench,
    plan: Plan,
    out: str | Path,
    *,
    maker: Maker = make_registered,
    workers: int = 1,
    reopen: Callable[[], Bench] | None = None,
    listener: Listener = nobody,
) -> dict[Trial, TrialRecord]:
    """Run what is not done yet; a trial that fails leaves the others alone and is tried again by the next call.

    Args:
        bench: Data, task, base and settings.
        plan: The trials.
        out: The comparison's folder; the same call after a kill goes on where it stopped, with the same numbers.
        maker: Makes a method from its name, setting and options.
        workers: Processes that run trials at the same time, each with its own copy of the base.
        reopen: Opens the same bench in another process, for more than one worker; it must be picklable.
        listener: Hears ``ComparisonBegun``, ``TrialBegun``, ``Answered`` and ``TrialEnded``, and with one worker what
            happens in training (docs/training.md).

    Raises:
        StoreError: The folder holds another comparison, or one runs there.
        ConfigError: Several workers without ``reopen``.
    """
    folder = ComparisonFolder(out)
    with folder.locked():
        folder.claim(bench, plan, reference_cost(bench, plan, maker))
        bench = folder.living(bench)
        records = {trial: folder.record(trial) for trial in folder.trials(plan)}
        todo = [trial for trial, record in records.items() if record.status != "done"]
        queries = sum(len(user.queries) for user in bench.data.users)
        listener(ComparisonBegun(todo=len(todo), trials=len(records), queries=queries))

        def announce(trial: Trial, number: int, left: float | None = None) -> None:
            listener(begun(trial, number, left, folder))

        if workers > 1 and len(todo) > 1:
            from perfit.comparison.workers import run_in_processes

            run_in_processes(todo, plan, folder, maker, workers, reopen, announce, listener)
        else:
            forecast = Forecast(records)
            with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as own:
                bench = replace(bench, frozen=bench.frozen or Path(own))
                for number, trial in enumerate(todo, 1):
                    announce(trial, number, forecast.seconds(todo[number - 1 :]))
                    began = time.perf_counter()
                    record = run_trial(bench, trial, plan.options_of(trial.method), folder, maker, listener)
                    forecast.learn(trial, time.perf_counter() - began)
                    listener(ended(trial, record))
                    gc.collect()  # the next method's peak of memory is its own
        return {trial: folder.record(trial) for trial in records}


def begun(trial: Trial, number: int, left: float | None, folder: ComparisonFolder) -> TrialBegun:
    """The event of a trial's begin."""
    try:
        answered = len(folder.predictions(trial))
    except StoreError:
        answered = 0  # running it says so
    return TrialBegun(method=trial.method, seed=trial.seed, number=number, left=left, rows_done=answered)


@dataclass(frozen=True)
class Preview:
    """What a method will hold, before anything is trained; ``problem`` where it cannot be made."""

    method: str
    label: str
    collective_parameters: int
    personal_parameters: int
    problem: str | None = None


def preview(bench: Bench, plan: Plan, maker: Maker = make_registered) -> list[Preview]:
    """Parameters of each method of the plan, from its options and the base alone."""
    return [_preview(bench, method, plan.options_of(method), maker) for method in plan.methods]


def reference_cost(bench: Bench, plan: Plan, maker: Maker = make_registered) -> dict[str, int] | None:
    """Parameters of ``REFERENCE`` on this base, whether it is compared or not; None where it cannot be made."""
    found = _preview(bench, REFERENCE, plan.options_of(REFERENCE), maker)
    if found.problem is not None:
        return None
    return {
        "collective_parameters": found.collective_parameters,
        "personal_parameters": found.personal_parameters,
    }


def _preview(bench: Bench, method: str, options: Mapping[str, Any], maker: Maker) -> Preview:
    from perfit.methods.method import Setting

    with tempfile.TemporaryDirectory() as folder:
        setting = Setting(
            backbone=bench.backbone,
            identity=bench.identity,
            task=bench.task,
            config=bench.config,
            seed=0,
            folder=Path(folder),
            collective=bench.collective,
        )
        try:
            made = maker(method, setting, options)
            cost = made.cost()
        except Exception as error:
            return Preview(method, method, 0, 0, describe_failure(error)["error"])
    return Preview(method, made.label, cost.collective_parameters, cost.personal_parameters)


class Forecast:
    """Seconds that trials will take, from those that are over: the same method's with another seed, or the mean."""

    def __init__(self, records: Mapping[Trial, TrialRecord]):
        self.known: dict[Trial, float] = {
            trial: sum(record.seconds.values()) for trial, record in records.items() if record.status == "done"
        }

    def learn(self, trial: Trial, seconds: float) -> None:
        """Take on what a trial took."""
        self.known[trial] = seconds

    def seconds(self, todo: Iterable[Trial]) -> float | None:
        """For all of these; None while nothing is known."""
        if not self.known:
            return None
        mean = sum(self.known.values()) / len(self.known)
        total = 0.0
        for trial in todo:
            same = [seconds for other, seconds in self.known.items() if other.method == trial.method]
            total += sum(same) / len(same) if same else mean
        return total
