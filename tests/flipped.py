"""What one changed byte of a finished run, or of an exported user, does to every verb that reads it."""

from __future__ import annotations

import contextlib
import functools
import hashlib
import io
import json
import random
import shutil
import sys
from collections.abc import Callable, Collection, Iterator
from dataclasses import dataclass
from fnmatch import fnmatch
from pathlib import Path
from typing import Any
from unittest import mock

import typer

from perfit import opening, run_check
from perfit.backbone.base_files import files_digest
from perfit.belonging import open_store
from perfit.cli import ending
from perfit.cli import main as cli
from perfit.data import read_dataset
from perfit.personalizer import PerFit
from perfit.report import page
from perfit.run import RunDirectory

DETECTED, HARMLESS, UNREAD, SILENT, TRACEBACK = "detected", "harmless", "no verb reads it", "silent", "traceback"
_UNREAD = ("README.md", "metrics.md", "report.html", "figures/*", "predictions/*.lamp.json")
"""Written for people and for LaMP's evaluator; ``users delete`` searches and removes them, nothing else opens them."""


@dataclass(frozen=True)
class Flip:
    """One byte of one file, by its name under the folder, and what it becomes: itself xor ``change``."""

    file: str
    place: int
    change: int


@dataclass(frozen=True)
class Told:
    """What one verb did."""

    code: int
    out: str
    err: str

    @property
    def refused(self) -> bool:
        """Whether it is one line that says why, and an exit code."""
        fault = "a fault of perfit" in self.err or "Traceback" in self.err
        return self.code != 0 and not fault and self.err.startswith("perfit: ") and len(self.err.splitlines()) == 1


@contextlib.contextmanager
def one_base() -> Iterator[None]:
    """Every verb of this process on one base, loaded and read once: it is not what changes here."""
    load, kept = opening.load_base, dict[str, Any]()

    def once(name: str, **options: Any) -> Any:
        key = f"{name} {options.get('dtype')} {options.get('device')}"
        if key not in kept:
            kept[key] = load(name, **options)
        return kept[key]

    digest = functools.cache(lambda folder, anew: files_digest(folder, anew=anew))
    with (
        mock.patch.object(opening, "load_base", once),
        mock.patch.object(run_check, "files_digest", lambda folder, *, anew=False: digest(folder, anew)),
    ):
        yield


class Flips:
    """A finished run and an exported user, their files changed byte by byte.

    Args:
        run: A run that was evaluated; it is left alone.
        data: The data it was trained on.
        folder: Where copies of it go.
        without: Verbs to leave out.
    """

    def __init__(self, run: Path, data: Path, folder: Path, without: Collection[str] = ()):
        self.data, self.whole, self.changed = data, folder / "whole", folder / "changed"
        shutil.copytree(run, self.whole / "run")
        self.perfit = PerFit.from_pretrained(run)
        self.users = self.perfit.users()
        self.read = read_dataset(data)
        (self.whole / "exports").mkdir()
        self._cli("users", "export", self.users[0], self.whole / "exports" / "user.safetensors", "--run", run)
        self.queries = [user.queries[0] for user in self.read.users if user.id in self.users and user.queries]
        self.owners = [*self.users, "collective"]
        self.asked = folder / "asked.jsonl"
        lines = [{"user": owner, "input": query.input} for owner in self.owners for query in self.queries[:2]]
        self.asked.write_text("".join(json.dumps(line) + "\n" for line in lines), encoding="utf-8")
        self.run = self.changed / "run"
        self.without = without
        self._restore()
        self.wanted = {verb: act() for verb, act in self._verbs().items()}
        failed = {verb: told.err for verb, told in self.wanted.items() if told.code}
        assert not failed, failed

    def drawn(self, count: int, seed: int) -> list[Flip]:
        """Flips of all files by turns, at any byte, to any other value."""
        chance = random.Random(seed)
        files = [path for path in sorted(self.whole.rglob("*")) if path.is_file() and path.stat().st_size]
        found = []
        for number in range(count):
            path = files[number % len(files)]
            place = chance.randrange(path.stat().st_size)
            found.append(Flip(path.relative_to(self.whole).as_posix(), place, chance.randrange(1, 256)))
        return found

    def judge(self, flip: Flip) -> tuple[str, str]:
        """What became of a flip, and of a bad one how; the worst verb counts."""
        self._restore()
        path = self.changed / flip.file
        content = bytearray(path.read_bytes())
        content[flip.place] ^= flip.change
        path.write_bytes(bytes(content))
        refused = False
        for verb, act in self._verbs().items():
            told = act()
            if told == self.wanted[verb] or (told.code == 0 and told.out == self.wanted[verb].out):
                continue
            if told.code == 0:
                return SILENT, f"{verb}: other results without a word"
            if not told.refused:
                return TRACEBACK, f"{verb}: {told.err[-300:]}"
            refused = True
        if refused:
            return DETECTED, ""
        name = flip.file.removeprefix("run/")
        return (UNREAD if any(fnmatch(name, pattern) for pattern in _UNREAD) else HARMLESS), ""

    def _restore(self) -> None:
        shutil.rmtree(self.changed, ignore_errors=True)
        shutil.copytree(self.whole, self.changed)

    def _verbs(self) -> dict[str, Callable[[], Told]]:
        """Those that only read first; each later one finds what the earlier ones left."""
        run, first = self.run, self.users[0]
        verbs = {
            "info --verify": lambda: self._cli("info", run, "--verify", "--json"),
            "users list": lambda: self._cli("users", "list", "--run", run, "--json"),
            **{
                f"users show {number}": lambda user=user: self._cli("users", "show", user, "--run", run, "--json")
                for number, user in enumerate(self.users)
            },
            "generate": lambda: self._cli("generate", "--input", self.asked, "--run", run, "--json"),
            "label scores": lambda: _told(self._scores),
            "report": self._report,
            "train": lambda: _told(self._train),
            "users delete": lambda: self._deleted(first),
            "users import": self._imported,
        }
        return {verb: act for verb, act in verbs.items() if verb not in self.without}

    def _cli(self, *arguments: str | Path) -> Told:
        with mock.patch.object(sys, "argv", ["perfit", *map(str, arguments)]):
            return _told(_command())

    def _scores(self, **_: object) -> None:
        perfit = PerFit.from_pretrained(self.run)
        asked = [query for _ in self.owners for query in self.queries]
        if self.perfit.task.labels:
            print(perfit.score_labels(asked, [owner for owner in self.owners for _ in self.queries]).tolist())

    def _report(self) -> Told:
        """With what the page is drawn from in place of the page."""

        def keep(content: Any, *_: object, **__: object) -> Path:
            print(content)
            return self.run / "report.html"

        with mock.patch.object(page, "write_report", keep):
            return self._cli("report", self.run, "--data", self.data, "--json")

    def _train(self, **_: object) -> None:
        one = PerFit(self.perfit.backbone, self.perfit.task, self.perfit.config, self.perfit.identity)
        results = one.fit(self.read, run=self.run, listener=lambda event: None)
        print([(trained.name, trained.steps, trained.losses, trained.problem) for trained in results])
        print(self._stored())

    def _deleted(self, user: str) -> Told:
        """The users who are left, and the files that still hold the id, in place of what was said."""
        told = self._cli("users", "delete", user, "--run", self.run)
        if told.code:
            return told

        def look(**_: object) -> None:
            print(self._stored(), [path for path in self.run.rglob("*") if _holds(path, user)])

        return _told(look)

    def _imported(self) -> Told:
        file = self.changed / "exports" / "user.safetensors"
        told = self._cli("users", "import", file, "--user", "twin", "--run", self.run)
        return told if told.code else self._cli("users", "show", "twin", "--run", self.run, "--json")

    def _stored(self) -> list[Any]:
        """Everybody's shift as whoever uses it gets it."""
        with open_store(RunDirectory(self.run)) as store:
            found = [(user, store.get(user)) for user in store.users()]
        return [
            (
                user,
                shift.meta,
                *(
                    hashlib.sha256(part.float().numpy().tobytes()).hexdigest()
                    for _, part in sorted(shift.tensors.items())
                ),
            )
            for user, shift in found
        ]


@functools.cache
def _command() -> Callable[..., Any]:
    """The command line, put together once."""
    command: Callable[..., Any] = typer.main.get_command(cli.app)
    return command


def _holds(path: Path, user: str) -> bool:
    return path.is_file() and json.dumps(user).encode() in path.read_bytes()


def _told(command: Callable[..., Any]) -> Told:
    out, err = io.StringIO(), io.StringIO()
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
        code = ending.run(command)
    return Told(code, out.getvalue(), err.getvalue())
