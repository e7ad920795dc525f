"""A server and a worker that are killed while they are written to, and what the next server finds: everything that was
acknowledged, and nothing half. The suite kills twice, ``benchmarks/serving_faults.py`` as often as it is told.

Processes are forked, so that a life begins in a moment: the parent must have no threads and no open run.
"""

from __future__ import annotations

import contextlib
import multiprocessing
import queue
import random
import threading
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import httpx
import torch
from served_run import PROMPT

from perfit.edits.shift import new_shift, to_stored
from perfit.erasure import erase_user
from perfit.errors import PerfitError, UnknownUserError
from perfit.how_to_open import HowToOpen
from perfit.notebook.database import Notebook
from perfit.notebook.versions import Versions
from perfit.run import RunDirectory
from perfit.serving import publishing
from perfit.serving.server import ServeConfig, open_gateway, serve
from perfit.store.digest import shift_digest
from perfit.store.payload import StoredShift

_FORK = multiprocessing.get_context("fork")
_FLIGHT = ("in flight, done all the same", "in flight, not done")
_LONGEST = 60.0  # seconds of a life
WRITERS, TRAINED, ROLLED = ("writer-0", "writer-1"), ("trained-0", "trained-1"), "rolled"


@dataclass
class Known:
    """What a user's state must be after a kill: what was acknowledged last, or what was being asked for.

    Attributes:
        acknowledged: Texts of the history, or the digest of the live shift.
        asked: What a request in flight would make of it.
    """

    acknowledged: Any
    asked: list[Any] = field(default_factory=list)

    def begin(self, state: Any) -> None:
        self.asked = [state]

    def done(self) -> None:
        self.acknowledged, self.asked = self.asked[0], []


@dataclass
class Ledger:
    """What was acknowledged, and what was in flight.

    Attributes:
        histories, shifts: By user.
        erased, erasing: Users whose erasure was acknowledged, or was in flight.
    """

    histories: dict[str, Known] = field(default_factory=lambda: {user: Known(()) for user in WRITERS})
    shifts: dict[str, Known] = field(default_factory=dict)
    erased: set[str] = field(default_factory=set)
    erasing: set[str] = field(default_factory=set)


class Kills:
    """Lives of a server that end by SIGKILL.

    Args:
        run: Whose base is tiny; it is changed.
        seed: Of everything that is drawn.

    Attributes:
        counts: What was acknowledged, by kind, and what became of what was in flight.
        problems: What was lost or half.
    """

    def __init__(self, run: Path, seed: int):
        self.run, self.random = run, random.Random(seed)
        self.ledger, self.counts, self.problems = Ledger(), Counter[str](), list[str]()
        self._number = 0
        first = _in_child(_begin, run)
        self.versions: list[str] = first[ROLLED]
        self.ledger.shifts = {user: Known(digests[-1]) for user, digests in first.items()}

    @property
    def acknowledged(self) -> int:
        """How much was, in all lives."""
        return sum(times for what, times in self.counts.items() if what not in ("kills", *_FLIGHT))

    def kill(self) -> None:
        """One life."""
        mine, theirs = _FORK.Pipe()
        server = _FORK.Process(target=_serve, args=(self.run, theirs), daemon=True)
        server.start()
        theirs.close()
        if not mine.poll(120):
            raise AssertionError("the server does not start after a kill")
        url, (told, tell) = mine.recv(), _FORK.Pipe(duplex=False)
        self._number += 1
        worker = _FORK.Process(target=_work, args=(self.run, tell, self._number), daemon=True)
        worker.start()
        tell.close()
        over, born = threading.Event(), queue.SimpleQueue[str]()
        acts = [lambda: self._listen(told, born), lambda: self._roll(url, over), lambda: self._erase(url, over, born)]
        acts += [lambda user=user: self._write(url, over, user) for user in WRITERS]
        acts += [lambda: self._ask(url, over)] * 2
        threads = [threading.Thread(target=act) for act in acts]
        for thread in threads:
            thread.start()
        # A moment counted in what was acknowledged, so that a slow machine has as much in flight as a quick one.
        due, until = self.acknowledged + self.random.randrange(1, 60), time.monotonic() + _LONGEST
        while self.acknowledged < due and time.monotonic() < until:
            time.sleep(0.005)
        time.sleep(self.random.uniform(0.0, 0.03))
        for process in self.random.sample((server, worker), 2):
            process.kill()
        over.set()
        for thread in threads:
            thread.join()
        for process in (server, worker):
            process.join()
        self.counts["kills"] += 1
        self._look()

    def _look(self) -> None:
        """What the next one finds, which is what must be there from here on."""
        found = _in_child(_found, self.run, self.ledger)
        self.problems += found["problems"]
        for kind, known in (("histories", self.ledger.histories), ("shifts", self.ledger.shifts)):
            for user, one in known.items():
                state = found[kind][user]
                if state in one.asked:
                    self.counts[_FLIGHT[0]] += 1
                elif one.asked:
                    self.counts[_FLIGHT[1]] += 1
                if state not in (one.acknowledged, *one.asked):
                    self.problems.append(f"life {self._number}: {kind} of {user} are neither old nor new")
                known[user] = Known(state)
        self.ledger.erased |= self.ledger.erasing
        self.ledger.erasing = set()

    # What goes on until the kill

    def _write(self, url: str, over: threading.Event, user: str) -> None:
        """Histories and feedback of one user."""
        known, number, chance = self.ledger.histories[user], 0, random.Random(f"{user} {self._number}")

        def act(http: httpx.Client) -> None:
            nonlocal number
            number += 1
            text = f"{user} {self._number} {number}"
            if chance.random() < 0.4:
                texts = tuple(f"{text} {place}" for place in range(chance.randrange(1, 7)))
                known.begin(texts)
                body = {"history": [{"text": one, "folder": "travel"} for one in texts]}
                self._acknowledged(http.put(f"/v1/users/{user}/history", json=body), "history")
            else:
                known.begin((*known.acknowledged, text))
                body = {"input": text, "verdict": "accepted", "answer": "work"}
                self._acknowledged(http.post(f"/v1/users/{user}/feedback", json=body), "feedback")
            known.done()

        _until(over, url, act)

    def _roll(self, url: str, over: threading.Event) -> None:
        known, chance = self.ledger.shifts[ROLLED], random.Random(self._number)

        def act(http: httpx.Client) -> None:
            number = chance.randrange(len(self.versions))
            known.begin(self.versions[number])
            self._acknowledged(http.post(f"/v1/users/{ROLLED}/rollback", json={"version": number + 1}), "roll-back")
            known.done()

        _until(over, url, act)

    def _erase(self, url: str, over: threading.Event, born: queue.SimpleQueue[str]) -> None:
        """Whoever was trained gets a history and is erased."""

        def act(http: httpx.Client) -> None:
            try:
                user = born.get(timeout=0.05)
            except queue.Empty:
                return
            body = {"history": [{"text": _canary(user), "folder": "family"}]}
            self._acknowledged(http.put(f"/v1/users/{user}/history", json=body), "history")
            self.ledger.erasing.add(user)
            self._acknowledged(http.delete(f"/v1/users/{user}"), "erasure")
            self.ledger.erasing.remove(user)
            self.ledger.erased.add(user)

        _until(over, url, act)

    def _ask(self, url: str, over: threading.Event) -> None:
        chance = random.Random(self._number)

        def act(http: httpx.Client) -> None:
            user = chance.choice(("anna", "ben", *TRAINED, ROLLED))
            said = http.post("/v1/completions", json={"user": user, "prompt": PROMPT, "max_tokens": 4})
            assert said.status_code == 200, said.text
            self.counts["answers"] += 1

        _until(over, url, act)

    def _listen(self, told: Connection, born: queue.SimpleQueue[str]) -> None:
        """What the worker puts live, until it is dead and all it said is read."""
        try:
            while True:
                user, digest, done = told.recv()
                if user not in self.ledger.shifts:
                    if done:
                        born.put(user)
                elif done:
                    self.ledger.shifts[user].done()
                    self.counts["version"] += 1
                else:
                    self.ledger.shifts[user].begin(digest)
        except EOFError:
            pass

    def _acknowledged(self, said: httpx.Response, kind: str) -> None:
        assert said.status_code == 200, said.text
        self.counts[kind] += 1


def _until(over: threading.Event, url: str, act: Callable[[httpx.Client], None]) -> None:
    """Again and again, until the server is killed in the middle of it."""
    with httpx.Client(base_url=url, timeout=60) as http:
        while not over.is_set():
            try:
                act(http)
            except httpx.TransportError:
                return


def _canary(user: str) -> str:
    return f"canary of {user}."


# What runs in processes of its own


def _in_child(act: Callable[..., Any], *given: Any) -> Any:
    mine, theirs = _FORK.Pipe()

    def told() -> None:
        theirs.send(act(*given))

    child = _FORK.Process(target=told)
    child.start()
    theirs.close()
    try:
        return mine.recv()
    finally:
        child.join()


def _config(run: Path) -> ServeConfig:
    return ServeConfig(
        run=run,
        host="127.0.0.1",
        port=0,
        engine="reference",
        keys=None,
        most=64,
        learn=0.0,
        how=HowToOpen(device="cpu"),
    )


def _serve(run: Path, tell: Connection) -> None:
    serve(_config(run), lambda line: tell.send(next(word for word in line.split() if word.startswith("http://"))))


def _shift(run: Path, seed: int) -> tuple[StoredShift, str]:
    """A shift as it comes from a training, and its digest as it is stored."""
    with publishing.open_store(RunDirectory(run)) as store:
        like, dtype = store.find("anna"), store.dtype
    assert like is not None
    drawn = to_stored(new_shift(like.tensors["R"].shape, init="loreft", generator=torch.Generator().manual_seed(seed)))
    tensors = publishing.rounded(drawn, dtype, {})
    return StoredShift(tensors, like.meta), shift_digest(tensors)


def _publish(run: Path, notebook: Notebook, user: str, stored: StoredShift) -> None:
    one = publishing.Publication(user, stored, {}, live=True)
    publishing.publish(RunDirectory(run), Versions(notebook), one, seconds=60)


def _begin(run: Path) -> dict[str, list[str]]:
    """Users with shifts; digests in the order of versions."""
    with Notebook(run) as notebook:
        found: dict[str, list[str]] = {}
        for user, count in ((ROLLED, 3), *((user, 1) for user in TRAINED)):
            for number in range(count):
                stored, digest = _shift(run, 10 * len(user) + number)
                _publish(run, notebook, user, stored)
                found.setdefault(user, []).append(digest)
    return found


def _work(run: Path, tell: Connection, life: int) -> None:
    """Puts shifts live as the training worker does: of users who are there, and of new ones."""
    with Notebook(run) as notebook:
        for number in range(1 << 30):
            user = f"new-{life}-{number}" if number % 3 == 2 else TRAINED[number % 2]
            stored, digest = _shift(run, life * 10_000 + number)
            tell.send((user, digest, False))
            _publish(run, notebook, user, stored)
            tell.send((user, digest, True))


def _found(run: Path, ledger: Ledger) -> dict[str, Any]:
    """What a server finds that starts now."""
    problems: list[str] = []
    gateway = open_gateway(_config(run), None, lambda line: None)
    try:
        histories = {}
        for user in ledger.histories:
            both = gateway.items.of(user)
            items = sorted((*both.training.history, *both.held_out.history), key=lambda item: int(item.id))
            histories[user] = tuple(item.fields["text"] for item in items)
        shifts = {user: shift_digest(gateway.people.stored(user).tensors) for user in ledger.shifts}
        for user in gateway.perfit.users():
            try:
                gateway.people.stored(user)
                for version in gateway.versions.of(user):
                    stored = gateway.versions.stored(user, version.number)
                    if shift_digest(stored.tensors) != version.digest:
                        problems.append("a version is not what it is listed as")
            except PerfitError as error:
                problems.append(f"half a version: {error}")
        there = gateway.perfit.users()
        for user in ledger.erased:
            if user in there or gateway.notebook.knows(user):
                problems.append("somebody erased is there")
    finally:
        gateway.close()
    for user in ledger.erasing:  # whoever asks again has it done
        with contextlib.suppress(UnknownUserError):
            erase_user(user, run)
    problems += problems_of(run)
    everything = [path.read_bytes() for path in run.rglob("*") if path.is_file()]
    for user in ledger.erased | ledger.erasing:
        if any(_canary(user).encode() in content for content in everything):
            problems.append("a text of somebody erased is there")
    return {"problems": problems, "histories": histories, "shifts": shifts}


def problems_of(run: Path) -> list[str]:
    """What is damaged in the store."""
    with publishing.open_store(RunDirectory(run)) as store:
        return store.verify()
