"""What a run of ``perfit train`` holds of a user."""

from __future__ import annotations

from contextlib import AbstractContextManager, suppress
from fnmatch import fnmatch
from pathlib import Path
from typing import Any

from perfit.data.golds import golds_text
from perfit.durable.files import write_atomically
from perfit.durable.records import SEAL, NotAsWrittenError, opened, read_records
from perfit.elsewhere import Elsewhere
from perfit.erasure.stage1 import own_histories, why_it_stays
from perfit.erasure.step import Step, Unreached, removal
from perfit.erasure.words import holds, lines_out, names, read_json, read_lines
from perfit.errors import StoreError, UnknownUserError
from perfit.evaluations import FILE
from perfit.model_card import shows_earlier_scores, shows_scores, without_earlier_scores, write_card
from perfit.notebook.database import FILE as NOTEBOOK
from perfit.notebook.database import Notebook
from perfit.run import RunDirectory
from perfit.store.data_keys import DataKeys
from perfit.store.objects import Objects
from perfit.store.shifts import ShiftStore
from perfit.tombstones import Tombstones
from perfit.training.record import TrainingRecord

# Files whose content is known, and dealt with where it may name users.
_KNOWN = (
    *("README.md", "manifest.json", "collective.safetensors", "personal.sqlite*", "training.*", "events.jsonl"),
    *("serving.sqlite*", ".worker.lock", "evaluations.jsonl"),
    *("checkpoints/*", "predictions/*.json*", "metrics.*", "report.html", "figures/*", "erased.json", "elsewhere.json"),
    *("*.lock", "*/.lock", "tensorboard/*"),
)


class RunPlace:
    """A run directory.

    Args:
        run: The directory.

    Raises:
        StoreError: It is no run, or its manifest or tombstones are damaged.
    """

    def __init__(self, run: RunDirectory):
        self.run = run
        self.path = run.path
        self.manifest = run.manifest()
        self.stones = Tombstones(run.path)

    def locked(self) -> AbstractContextManager[None]:
        """As a training does."""
        return self.run.locked()

    def knows(self, user: str) -> bool:
        """Whether the user is stored, was trained, answered, or is told of in the events."""
        if (
            self._noted(user)
            or self._stored(user)
            or self._answered(user, unknown=False)
            or user in TrainingRecord(self.run).users
        ):
            return True
        return any(
            event.get("learner") == user for event in read_lines(self.run.events_path) if isinstance(event, dict)
        )

    def steps(self, user: str) -> list[Step]:
        """What names the user goes last of what was made of it, so that a kill leaves the sign that there is more."""
        keys = self._data_keys()
        mine = keys is not None and keys.has(user)
        # What killed writers left of a run goes as it is locked.
        answered = self._answered(user)
        steps = [
            removal(path, "perfit report makes it again")
            for path in self._reports()
            if answered or (path.is_file() and holds(path, user))
        ]
        if answered:
            scores = [self.path / name for name in ("metrics.md", "metrics.json")]
            steps += [removal(path, "perfit evaluate makes it again") for path in scores if path.exists()]
        if shows_scores(self.run) and (answered or not (self.path / "metrics.json").exists()):
            steps.append(Step(self.path / "README.md", "scores taken out", lambda: write_card(self.run)))
        elif shows_earlier_scores(self.run):
            steps.append(
                Step(self.path / "README.md", "earlier scores taken out", lambda: without_earlier_scores(self.run))
            )
        # The list names nobody, so that nobody can say whose answers are in it.
        steps += [removal(path, "perfit evaluate begins it anew") for path in [self.path / FILE] if path.exists()]
        steps += self._answers(user)
        if (step := lines_out(self.run.events_path, lambda event: names(event, user))) is not None:
            steps.append(step)
        steps += [
            removal(path, "training repeats what it had not finished")
            for path in (self.run.checkpoint_path(1), self.run.checkpoint_path(2))
            if path.exists() and (path == self.run.checkpoint_path(2) or own_histories(self.manifest))
        ]
        if user in TrainingRecord(self.run).users:
            steps.append(Step(self.run.training_path, "the user's record taken out", lambda: self._forget(user)))
        if keys is not None and mine:  # from here on no copy of the rows can be read
            steps.append(Step(keys.file, "the user's data key destroyed", lambda: keys.destroy(user)))
        noted, stored, objects = self._noted(user), self._stored(user), self._objects()
        if noted:
            steps.append(
                Step(self.path / NOTEBOOK, "history, feedback, jobs and versions overwritten", lambda: self._tear(user))
            )
        if objects is None:
            if stored:
                steps.append(Step(self.run.store_path, "the user's shift overwritten", lambda: self._drop(user)))
        elif stored or noted or objects.of(user):  # a bucket that does not answer stops nothing but its own step
            what = "the user's shift overwritten, and all objects of the user removed"
            steps.append(Step(self.run.store_path, what, lambda: self._drop(user)))
        return steps

    def unreached(self, user: str) -> list[Unreached]:
        """The collective shift, and files that are not perfit's."""
        left = []
        if self.run.has_collective():
            why = why_it_stays(self.manifest, "run")
            left.append(Unreached(str(self.path / "collective.safetensors"), why))
        if (objects := self._objects()) is not None:
            left.append(
                Unreached(objects.url, "what the bucket itself keeps of removed objects (versioning, replicas)")
            )
        left += [
            Unreached(str(path), "not a file of the run, and has the id in it; remove it yourself")
            for path in strangers(self.path, _KNOWN)
            if holds(path, user)
        ]
        return left

    def _answered(self, user: str, unknown: bool = True) -> bool:
        """Whether the last scores or a prediction are of this user; ``unknown`` where scores are damaged."""
        return _scored(self.path / "metrics.json", user, unknown) or any(
            line_of(line, user) for path in self._predictions() for line in read_lines(path)
        )

    def _reports(self) -> list[Path]:
        """Pages and figures, the pages that were written elsewhere too."""
        own = [self.path / "report.html", self.path / "figures", *Elsewhere(self.path).paths("page")]
        return [path for path in own if path.exists()]

    def _predictions(self) -> list[Path]:
        return sorted((self.path / "predictions").glob("*.jsonl"))

    def _answers(self, user: str) -> list[Step]:
        steps = []
        for path in self._predictions():
            lamp = path.with_suffix(".lamp.json")
            try:
                mine = {str(line["query"]) for line in read_records(path, missing="", mend="") if line_of(line, user)}
            except (StoreError, KeyError):
                # Nobody can say whose these lines are, nor whose the answers beside them, which name queries alone.
                steps += [removal(lamp, "its predictions are damaged")] if lamp.exists() else []
                steps.append(removal(path, "damaged"))
                continue
            # First the file that says whose they are by query ids alone.
            if mine and (step := _answers_out(lamp, mine)) is not None:
                steps.append(step)
            if (step := lines_out(path, lambda line: line_of(line, user))) is not None:
                steps.append(step)
        return steps

    def _stored(self, user: str) -> bool:
        if not self.run.store_path.exists():
            return False
        # For writing: this finishes the overwriting that a kill cut off after the row was gone.
        with ShiftStore.open(self.run.store_path, self.manifest["base"]["identity"]) as store:
            return user in store

    def _data_keys(self) -> DataKeys | None:
        if not self.run.store_path.exists():
            return None
        with ShiftStore.open(self.run.store_path, self.manifest["base"]["identity"], readonly=True) as store:
            return store.data_keys

    def _objects(self) -> Objects | None:
        if not self.run.store_path.exists():
            return None
        with ShiftStore.open(self.run.store_path, self.manifest["base"]["identity"], readonly=True) as store:
            return store.objects

    def _noted(self, user: str) -> bool:
        if not (self.path / NOTEBOOK).exists():
            return False
        with Notebook(self.path) as notebook:
            notebook.finish_erasing()
            return notebook.knows(user)

    def _tear(self, user: str) -> None:
        with Notebook(self.path) as notebook:
            notebook.erase(user)

    def _drop(self, user: str) -> None:
        opened = ShiftStore.open(self.run.store_path, self.manifest["base"]["identity"])
        with opened as store, suppress(UnknownUserError):  # of one who was told of here and never trained
            store.delete(user)

    def _forget(self, user: str) -> None:
        TrainingRecord(self.run).forget(user)


def line_of(line: Any, user: str) -> bool:
    """Whether a line of predictions is the user's."""
    return isinstance(line, dict) and line.get("user") == user


def strangers(folder: Path, known: tuple[str, ...]) -> list[Path]:
    """Files of a folder that are none of the known ones, folders of perfit's own inside it left out."""
    marked = ("plan.json", "search.json", "manifest.json")
    inside = [path for path in folder.iterdir() if path.is_dir() and any((path / name).exists() for name in marked)]
    return [
        path
        for path in sorted(folder.rglob("*"))
        if path.is_file()
        and not any(path.is_relative_to(one) for one in inside)
        and not any(fnmatch(path.relative_to(folder).as_posix(), pattern) for pattern in known)
    ]


def _scored(path: Path, user: str, unknown: bool) -> bool:
    """Whether scores are of this user; ``unknown`` where nobody can say."""
    if not path.exists():
        return False
    try:
        methods = read_json(path)["methods"].values()
        return any(row["user"] == user for found in methods for row in found["per_user"]["users"])
    except (KeyError, TypeError, AttributeError):
        return unknown


def _answers_out(path: Path, queries: set[str]) -> Step | None:
    """Take the answers to these queries out of a file in LaMP's format; a damaged one is removed."""
    if not path.exists():
        return None
    content = read_json(path)
    try:
        if SEAL in content:  # those of before there were checksums are sealed now
            content = opened(content)
        kept = [answer for answer in content["golds"] if answer["id"] not in queries]
        gone = len(content["golds"]) - len(kept)
    except (KeyError, TypeError, NotAsWrittenError):
        return removal(path, "damaged")
    if not gone:
        return None
    text = golds_text({**content, "golds": kept})
    return Step(path, f"{gone} {'answer' if gone == 1 else 'answers'} taken out", lambda: write_atomically(path, text))
