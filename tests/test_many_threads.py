"""One PerFit used by many threads at once: every answer is the one that a single thread gets, to the bit."""

from __future__ import annotations

import os
import random
import subprocess
import sys
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from small_base import CONFIG, TASK, dataset, write_base

from perfit.data.schema import User
from perfit.errors import UnknownUserError
from perfit.events import Event
from perfit.inference import edited
from perfit.inference.decoding import Decoding
from perfit.owners import Owners
from perfit.personalizer import PerFit

DATA = dataset()
NAMES = [user.id for user in DATA.users]
QUERIES = [query for user in DATA.users for query in user.queries]
OWNERS = [*NAMES, "base", "collective"]
THREADS = 8


def quiet(event: Event) -> None:
    """No listener."""


class Mixed:
    """A trained run, what each call gives when nobody else calls, and calls that check themselves."""

    def __init__(self, folder: Path):
        self.perfit = PerFit.from_pretrained(write_base(folder / "base"), CONFIG, task=TASK)
        self.perfit.fit(DATA, run=folder / "run", listener=quiet)
        # Each thread's own user, who comes and goes.
        self.guests = [replace(DATA.users[n % len(NAMES)], id=f"guest {n}", queries=()) for n in range(THREADS)]
        for user in DATA.users:
            self.perfit.personalize(replace(user, queries=()), listener=quiet)
        self.shifts = {name: self.perfit.shift_of(name) for name in NAMES}
        for guest in self.guests:
            self.perfit.personalize(guest, listener=quiet)
            self.shifts[guest.id] = self.perfit.shift_of(guest.id)
        pairs = [(query, owner) for query in range(len(QUERIES)) for owner in (*OWNERS, *(g.id for g in self.guests))]
        self.scores = {pair: self.score(*pair) for pair in pairs}
        self.said = {pair: self.answer(*pair, Decoding(max_new_tokens=3)) for pair in pairs}
        self.beams = {pair: self.answer(*pair, Decoding(max_new_tokens=2, beams=2)) for pair in pairs[: len(OWNERS)]}
        assert len({tuple(row.tolist()) for row in self.scores.values()}) > len(QUERIES) * len(NAMES)

    def score(self, query: int, owner: str) -> torch.Tensor:
        return self.perfit.score_labels([QUERIES[query]], [owner], listener=quiet)[0]

    def answer(self, query: int, owner: str, decoding: Decoding) -> str:
        return self.perfit.generate([QUERIES[query]], [owner], decoding=decoding, listener=quiet)[0]

    def call(self, thread: int, rng: random.Random) -> None:
        """One call of one thread; AssertionError where it differs."""
        query, owner = rng.randrange(len(QUERIES)), rng.choice(OWNERS)
        kind = rng.random()
        if kind < 0.45:
            assert torch.equal(self.score(query, owner), self.scores[query, owner])
        elif kind < 0.9:
            assert self.answer(query, owner, Decoding(max_new_tokens=3)) == self.said[query, owner]
        elif kind < 0.93:
            assert self.answer(0, owner, Decoding(max_new_tokens=2, beams=2)) == self.beams[0, owner]
        elif kind < 0.96:
            self.train(next(user for user in DATA.users if user.id == NAMES[query % len(NAMES)]))
        else:
            self.come_and_go(self.guests[thread], query)

    def train(self, user: User) -> None:
        self.perfit.personalize(replace(user, queries=()), listener=quiet)
        now, before = self.perfit.shift_of(user.id).tensors(), self.shifts[user.id].tensors()
        assert all(torch.equal(now[name], before[name]) for name in before)

    def come_and_go(self, guest: User, query: int) -> None:
        if guest.id in self.perfit.users():
            assert torch.equal(self.score(query, guest.id), self.scores[query, guest.id])
            self.perfit.erase(guest.id)
            with pytest.raises(UnknownUserError):
                self.score(query, guest.id)
        else:
            self.train(guest)

    def by_threads(self, calls: int) -> None:
        """So many calls, shared out among the threads."""

        def work(thread: int) -> None:
            rng = random.Random(thread)
            for _ in range(calls // THREADS):
                self.call(thread, rng)

        with ThreadPoolExecutor(THREADS) as threads:
            for done in [threads.submit(work, thread) for thread in range(THREADS)]:
                done.result()


@pytest.fixture(scope="module")
def mixed(tmp_path_factory: pytest.TempPathFactory) -> Mixed:
    return Mixed(tmp_path_factory.mktemp("mixed"))


def test_calls_of_eight_threads_equal_those_of_one(mixed: Mixed) -> None:
    mixed.by_threads(240)


@pytest.mark.slow
def test_ten_thousand_calls_of_eight_threads_equal_those_of_one(mixed: Mixed) -> None:
    mixed.by_threads(10_000)


def asking(mixed: Mixed, found: list[str]) -> Callable[[int], None]:
    """A callback that asks again, for another owner, in the middle of a call."""

    def ask(rows: int) -> None:
        if not found:
            found.append("")
            found[0] = mixed.answer(1, "base", Decoding(max_new_tokens=3))

    return ask


def test_a_callback_may_ask_for_somebody_else(mixed: Mixed) -> None:
    found: list[str] = []
    queries, owners = [QUERIES[0], QUERIES[1]], NAMES[:2]
    got = mixed.perfit.generate(
        queries, owners, decoding=Decoding(max_new_tokens=3), done=asking(mixed, found), listener=quiet
    )
    assert found == [mixed.said[1, "base"]]
    assert got == mixed.perfit.generate(queries, owners, decoding=Decoding(max_new_tokens=3), listener=quiet)


def test_a_listener_of_a_training_may_ask_for_somebody_else(mixed: Mixed) -> None:
    found: list[str] = []
    mixed.perfit.personalize(replace(DATA.users[0], queries=()), listener=lambda event: asking(mixed, found)(1))
    assert found == [mixed.said[1, "base"]]
    now, before = mixed.perfit.shift_of(NAMES[0]).tensors(), mixed.shifts[NAMES[0]].tensors()
    assert all(torch.equal(now[name], before[name]) for name in before)


def test_answers_that_began_before_a_new_training_end_with_the_old_shifts(mixed: Mixed, tmp_path: Path) -> None:
    other = PerFit(mixed.perfit.backbone, TASK, CONFIG.with_options(seed=3), mixed.perfit.identity)
    other.fit(DATA, listener=quiet)
    owners = other.owners
    before = owners.rows_of(NAMES, other.backbone, CONFIG.layers)[0]
    other.fit(replace(DATA, users=DATA.users[:2]), listener=quiet)
    after = owners.rows_of(NAMES, other.backbone, CONFIG.layers)[0]
    assert torch.equal(before.personal.shift.D, after.personal.shift.D)
    assert len(other.users()) == 2


def test_a_call_of_many_users_ends_with_the_shifts_it_began_with(mixed: Mixed, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(edited, "_USERS_AT_ONCE", 1)
    used = mixed.perfit
    other = PerFit(used.backbone, TASK, CONFIG, used.identity)
    queries, users = [QUERIES[0]] * 3, NAMES[:3]
    calls: list[Callable[..., Any]] = [
        lambda done: other.score_labels(queries, users, done=done, listener=quiet),
        lambda done: other.generate(queries, users, decoding=Decoding(max_new_tokens=3), done=done, listener=quiet),
    ]
    expected = [[mixed.scores[0, user] for user in users], [mixed.said[0, user] for user in users]]
    for call, wanted in zip(calls, expected, strict=True):
        other.owners = used.owners
        # After the first user there is nobody any more.
        got = call(lambda rows: setattr(other, "owners", Owners()))
        assert all(
            torch.equal(one, two) if isinstance(two, torch.Tensor) else one == two
            for one, two in zip(got, wanted, strict=True)
        )
        assert other.users() == []


FORKED = """
import os, sys
import torch
torch.set_num_threads(2)
from perfit import PerFit
perfit = PerFit.from_pretrained(sys.argv[1])
asked = ["river stone", "lamp boat", "paper garden"], [perfit.users()[0], "collective", "base"]
before = perfit.score_labels(*asked)
child = os.fork()
if not child:
    torch.testing.assert_close(perfit.score_labels(*asked), before)
    os._exit(0)
sys.exit(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))
"""


@pytest.mark.skipif(not hasattr(os, "fork"), reason="this system does not fork")
def test_a_child_forked_off_after_loading_answers_too(mixed: Mixed) -> None:
    assert mixed.perfit.owners.personal.path is not None
    run = mixed.perfit.owners.personal.path.parent
    done = subprocess.run([sys.executable, "-c", FORKED, str(run)], timeout=120, capture_output=True, check=False)
    assert done.returncode == 0, done.stderr.decode()[-500:]
