"""The places of the full flow, and the user whose every byte must go."""

from __future__ import annotations

import base64
import io
import json
import shutil
import zlib
from collections.abc import Iterator
from contextlib import redirect_stderr, redirect_stdout, suppress
from dataclasses import dataclass, replace
from pathlib import Path

from small_base import LABELS, dataset

from perfit.cli import main as cli
from perfit.data.schema import Dataset, HistoryItem, Query, User
from perfit.elsewhere import Elsewhere

CANARY = "kanarienvogel-Zß-<4711>"
TEXTS = tuple(f"quixotzeal {word} flimmer über dem wachturm sieben" for word in ("eins", "zwei", "drei", "vier"))
ASKED = tuple(f"xylograph {word} & <vermouth> in drei gläsern" for word in ("rot", "blau"))


def canary() -> User:
    """The user with a name and texts found nowhere else."""
    history = tuple(HistoryItem(str(n), {"text": text, "folder": LABELS[n % 2]}) for n, text in enumerate(TEXTS))
    return User(CANARY, history, tuple(Query(f"asked-{n}", text, LABELS[n]) for n, text in enumerate(ASKED)))


def data_with_canary(*others: str) -> Dataset:
    """The canary between two others, or beside the named ones."""
    if others:
        return replace(dataset(others), users=(*dataset(others).users, canary()))
    plain = dataset(("anna", "ben", "cleo"))
    return replace(plain, users=(plain.users[0], canary(), *plain.users[1:]))


@dataclass(frozen=True)
class Flow:
    """Where everything lies; the base stays in its place, by which runs know it."""

    top: Path
    base: Path

    def __getattr__(self, name: str) -> Path:
        places = {
            **dict.fromkeys(("cache", "run", "compared", "analysed", "searched"), ""),
            "data": "data.jsonl",
            "more": "more.jsonl",
            "task": "task.yaml",
        }
        if name not in places:
            raise AttributeError(name)
        return self.top / (places[name] or name)

    def copy(self, to: Path) -> Flow:
        """The same elsewhere, with a frozen cache of its own."""
        shutil.copytree(self.top, to)
        (to / "run" / "elsewhere.json").unlink()
        Elsewhere(to / "run").note("frozen_cache", to / "cache")
        return Flow(to, self.base)

    def artifacts(self) -> list[Path]:
        """Every file that perfit made: not the data, the task and the base."""
        places = (self.run, self.compared, self.analysed, self.searched, self.cache)
        return sorted(path for place in places for path in place.rglob("*") if path.is_file())


def spellings(text: str) -> Iterator[bytes]:
    """Bytes that give a text away: plain, in JSON, in JSON within JSON, in HTML and in base64 at each of its three places."""
    from html import escape

    yield text.encode()
    once = json.dumps(text)[1:-1]
    yield once.encode()
    # JSON within JSON, as in the metadata of safetensors.
    yield json.dumps(once)[1:-1].encode()
    yield escape(text).encode()
    for shift in range(3):
        coded = base64.b64encode(b" " * shift + text.encode())
        yield coded[4:-4]


def readings(path: Path) -> Iterator[bytes]:
    """A file's bytes, and those of every zlib or gzip stream in it."""
    content = path.read_bytes()
    yield content
    for mark in (b"\x1f\x8b", b"\x78\x01", b"\x78\x5e", b"\x78\x9c", b"\x78\xda"):
        place = content.find(mark)
        while place >= 0:
            with suppress(zlib.error):
                yield zlib.decompressobj(47).decompress(content[place:])
            place = content.find(mark, place + 1)


def traces(paths: list[Path], texts: tuple[str, ...]) -> dict[Path, str]:
    """The files in which one of the texts can be found, with the text."""
    marks = [(text, mark) for text in texts for mark in spellings(text)]
    found = {}
    for path in paths:
        for content in readings(path):
            for text, mark in marks:
                if mark in content:
                    found[path] = text
    return found


def do(*arguments: str | Path) -> str:
    """One command; what it printed on stdout."""
    out = io.StringIO()
    with redirect_stdout(out), redirect_stderr(io.StringIO()):
        cli.app([str(argument) for argument in arguments], standalone_mode=False)
    return out.getvalue()


def texts_in(path: Path, name: str) -> set[str]:
    """The values of a name in the lines of a file."""
    return {json.loads(line)[name] for line in path.read_text(encoding="utf-8").splitlines()}
