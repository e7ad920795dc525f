"""Running one trial: stage 1, stage 2, answers, each durable; a method that raises is a record that says why."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from perfit.comparison.bench import Bench
from perfit.comparison.folder import ComparisonFolder, TrialRecord
from perfit.comparison.memory import PeakMemory
from perfit.comparison.plan import Trial, groups
from perfit.data.schema import User
from perfit.errors import PerfitError
from perfit.events import Answered, Event, EventFile, Listener, Stage1Found, TrialEnded, tee
from perfit.failures import describe_failure
from perfit.private import private_folder
from perfit.stop_strings import until_stop

if TYPE_CHECKING:
    from perfit.methods.method import Ask, Method, Setting

Maker = Callable[[str, "Setting", Mapping[str, Any]], "Method"]

_GROUP_QUERIES = 64
_SAVE_SECONDS = 10.0


def make_registered(name: str, setting: Setting, options: Mapping[str, Any]) -> Method:
    """The method of this name in ``METHODS``."""
    from perfit.methods.registry import make_method

    made: Method = make_method(name, setting, **options)
    return made


def run_trial(
    bench: Bench, trial: Trial, options: Mapping[str, Any], folder: ComparisonFolder, maker: Maker, listener: Listener
) -> TrialRecord:
    """Take a trial to its end, from where it stopped. It fails alone: any exception becomes its record.

    Users are answered in groups that depend on the data alone; a group cut off by a kill is answered again whole, so
    that the batches, and with them the numbers, are those of an uninterrupted trial.
    """
    record = folder.record(trial)
    if record.status == "done":
        return record
    record.starts += 1
    record.status, record.failure = "running", None
    private_folder(folder.trial_folder(trial))
    folder.save_record(trial, record)
    memory = PeakMemory(str(bench.backbone.device))
    clock = _Clock(record, lambda: folder.save_record(trial, record))

    def heard(event: Event) -> None:
        clock.tick()
        if isinstance(event, Stage1Found):  # stage 1, trained by another method or before a stop: it costs what it cost
            record.seconds["fit"] = max(record.seconds["fit"], event.seconds)
        listener(event)

    try:
        method = maker(trial.method, _setting(bench, trial, folder, heard), options)
        record.label = method.label
        _run(method, bench, trial, record, folder, clock, listener)
        record.status = "done"
    except Exception as error:
        record.status, record.failure = "failed", describe_failure(error)
    finally:
        record.peak_bytes = max(record.peak_bytes, memory.bytes())
        folder.save_record(trial, record)
    return record


def _run(
    method: Method,
    bench: Bench,
    trial: Trial,
    record: TrialRecord,
    folder: ComparisonFolder,
    clock: _Clock,
    listener: Listener,
) -> None:
    bare = {user.id: user for user in bench.bare_users()}
    with folder.stage1_lock(trial.seed), clock.phase("fit"):
        method.fit(bench.pool())
    with clock.phase("adapt"):
        record.problems = method.adapt(list(bare.values()))
    written = folder.answered(trial)
    predictions = {line["query"]: line["prediction"] for line in written.records}
    stop = bench.task.stop if bench.answers in ("free", "sampled") else ()

    def advance(rows: int) -> None:
        clock.tick()
        listener(Answered(rows))

    for group in groups(bench.data.users, _GROUP_QUERIES):
        if not predictions.keys() >= {query.id for user in group for query in user.queries}:
            asks = _asks(group, bare)
            with clock.phase("predict"):
                answers = method.predict(asks, advance)
            if len(answers) != len(asks):
                raise PerfitError(f"{trial.method} gave {len(answers)} answers to {len(asks)} queries")
            # Ending at a stop is the same for methods that know none: nothing after it changes what is before.
            lines = [
                {"user": ask.user.id, "query": ask.query.id, "prediction": until_stop(answer, stop).strip()}
                for ask, answer in zip(asks, answers, strict=True)
                if ask.query.id not in predictions
            ]
            written.append(lines)
    cost = method.cost()
    record.cost = {
        "collective_parameters": cost.collective_parameters,
        "personal_parameters": cost.personal_parameters,
        "user_bytes": cost.user_bytes,
    }


def _setting(bench: Bench, trial: Trial, folder: ComparisonFolder, listener: Listener) -> Setting:
    from perfit.methods.method import Setting

    where = folder.trial_folder(trial)
    return Setting(
        backbone=bench.backbone,
        identity=bench.identity,
        task=bench.task,
        config=bench.config.with_options(seed=trial.seed),
        seed=trial.seed,
        folder=where / "work",
        shared=folder.path / "shared" / f"seed-{trial.seed}",
        listener=tee([EventFile(where / "events.jsonl"), listener]),
        answers=bench.answers,
        collective=bench.collective,
        frozen=bench.frozen,
    )


def _asks(users: list[User], bare: Mapping[str, User]) -> list[Ask]:
    """What a method sees of queries: no gold answers, not even by way of the user's record."""
    from perfit.methods.method import Ask

    return [Ask(bare[user.id], replace(query, gold=None)) for user in users for query in user.queries]


class _Clock:
    """Adds seconds to a record while a phase lasts, and saves it now and then for the case of a kill."""

    def __init__(self, record: TrialRecord, save: Callable[[], None]):
        self.record, self.save = record, save
        self.name: str | None = None
        self.since = self.saved = time.perf_counter()

    @contextmanager
    def phase(self, name: str) -> Iterator[None]:
        self.name, self.since = name, time.perf_counter()
        try:
            yield
        finally:
            self._add()
            self.name = None

    def tick(self) -> None:
        if self.name is not None and time.perf_counter() - self.saved > _SAVE_SECONDS:
            self._add()
            self.save()
            self.saved = time.perf_counter()

    def _add(self) -> None:
        now = time.perf_counter()
        self.record.seconds[self.name or ""] += now - self.since
        self.since = now


def ended(trial: Trial, record: TrialRecord) -> TrialEnded:
    """The event of a trial's end."""
    error = record.failure["error"] if record.failure is not None else None
    return TrialEnded(method=trial.method, seed=trial.seed, error=error)
