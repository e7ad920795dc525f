"""Whatever happens between them, answers are those of the reference; and these programs see the faults they are for."""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
from interleavings import Interleavings, Oracle, small

from perfit.edits.positions import Positions
from perfit.edits.shift import Shift
from perfit.serving import batched, packed
from perfit.serving.bank import ResidentBank
from perfit.serving.batched import Batched
from perfit.serving.block_keys import BlockKeys, Edits
from perfit.serving.continuous import Pages
from perfit.serving.engine import Request
from perfit.serving.version import ShiftVersion

COUNT = int(os.environ.get("PERFIT_INTERLEAVINGS", "120"))


@pytest.fixture(scope="module")
def oracle() -> Oracle:
    """Knows what the first programs ask, once they have run."""
    return Oracle(small())


def test_every_answer_is_its_own_users(oracle: Oracle) -> None:
    programs = Interleavings(seed=0, oracle=oracle, ground=oracle.ground)
    programs.run(COUNT)
    counts = programs.counts
    for what in ("answers", "turns", "cancelled", "updated", "deleted", "rolled back", "cached tokens", "put out"):
        assert counts[what] > COUNT / 20, what
    assert counts["ties"] <= counts["answers"] / 1000
    assert sum(engine.stats().evictions for engine in programs.engines) > COUNT / 10


def test_what_the_oracle_looks_up_is_what_it_would_serve() -> None:
    """Less than it knows, as much, and more; another's, another version's and another draw's it does not know."""
    oracle = Oracle(small())
    who, later = (oracle.archive.train("anna", positions="l3") for _ in range(2))
    asked = [
        Request("1", (5, 9, 11, 4), whose, most, temperature=warm, seed=2)
        for whose in (who, later, oracle.archive.shared(), None)
        for warm in (0.0, 1.3)
        for most in (5, 2, 5, 9)
    ]
    found = [oracle.answer(request) for request in asked]
    assert [*map(repr, found)] == [repr(oracle.plain(request)) for request in asked]
    assert oracle.asked == len(asked) / 2  # the first and the longest of each four
    assert len({repr(one) for one in found[::4]}) == 8


def test_an_answer_that_stops_is_not_cut() -> None:
    oracle, short = Oracle(small()), 0
    for token in range(2, 30):
        request = Request("1", (token,), max_new_tokens=8, temperature=1.3, seed=token)
        length = len(oracle.plain(request)) - 1
        for most in (8, max(length, 1), max(length - 1, 1)):
            asked = replace(request, max_new_tokens=most)
            assert repr(oracle.answer(asked)) == repr(oracle.plain(asked))
        short += length < 8
    assert short > 2


# Faults that engines have had elsewhere, each put in by hand.

Patch = pytest.MonkeyPatch
_next, _search, _positions = BlockKeys.next, Pages._search, Positions.of


def token_only_key(patch: Patch) -> None:
    patch.setattr(BlockKeys, "next", lambda s, a, n, t, e: _next(s, a, n, t, replace(e, positions=())))


def user_only_salt(patch: Patch) -> None:
    root = BlockKeys.root
    patch.setattr(BlockKeys, "root", lambda s, e: root(s, replace(e, tenant=e.tenant + e.version)))
    token_only_key(patch)


def version_without_positions(patch: Patch) -> None:
    def key(self: BlockKeys, before: bytes, number: int, tokens: Any, edits: Edits) -> bytes:
        inside = any(number * self.size <= place < (number + 1) * self.size for place in edits.positions)
        return _next(self, before, number, tokens, replace(edits, positions=(number * self.size,) if inside else ()))

    patch.setattr(BlockKeys, "next", key)


def skip_read_only(patch: Patch) -> None:
    """Edited requests do not read what is there, but leave theirs for those who do."""
    token_only_key(patch)
    patch.setattr(Pages, "_search", lambda s, r, p: 0 if s._edits[r].version else _search(s, r, p))


def ignored_soft_reset(patch: Patch) -> None:
    step = Batched.step

    def wrong(self: Batched) -> None:
        states = self._pages._processor.scheduler
        for name, row in self._rows.items():
            state = states.active_requests.get(name) or states.waiting_requests.get(name)
            if state is not None and row.answer.request.who is not None:
                rule = Positions.parse(row.answer.request.who.positions)
                row.answer.edited = rule.of(len(state.initial_tokens))
        step(self)

    patch.setattr(Batched, "step", wrong)


def slot_reuse_without_clear(patch: Patch) -> None:
    def write(self: ResidentBank, slot: int, shift: Shift) -> None:
        used = self.__dict__.setdefault("used", set())
        if slot not in used:  # once written, a slot keeps what it has
            put(self, slot, shift)
        used.add(slot)

    put = ResidentBank._write
    patch.setattr(ResidentBank, "_write", write)
    patch.setattr(ResidentBank, "_drop", lambda s, key: s._free.append(s._resident.pop(key).slot))


def no_wipe(patch: Patch) -> None:
    patch.setattr(ResidentBank, "_drop", lambda s, key: s._free.append(s._resident.pop(key).slot))


def off_by_one(patch: Patch) -> None:
    made = packed.Piece.__init__
    patch.setattr(
        packed.Piece, "__init__", lambda s, start, count, edited, slots: made(s, start + 1, count, edited, slots)
    )


def wrong_owner_after_update(patch: Patch) -> None:
    _by_user(patch)
    patch.setattr(Batched, "holds", lambda s, v: all(key in bank for bank, key in s._needs(v)))


def version_swap_in_mid_request(patch: Patch) -> None:
    """A new version is written over the old one, whoever is being answered with it."""
    _by_user(patch)
    pin = ResidentBank.pin

    def swap(self: ResidentBank, key: Any, shift: Shift | None) -> int:
        slot = pin(self, key, shift)
        if shift is not None:
            self._write(slot, shift)
        return slot

    patch.setattr(ResidentBank, "pin", swap)
    patch.setattr(Batched, "holds", lambda s, v: False)


def _by_user(patch: Patch) -> None:
    """Shifts go by their user's name."""
    needs = Batched._needs

    def named(self: Batched, version: ShiftVersion) -> list[Any]:
        return [
            (bank, replace(key, version=0, personal="any", strength=1.0) if isinstance(key, ShiftVersion) else key)
            for bank, key in needs(self, version)
        ]

    patch.setattr(Batched, "_needs", named)
    part = Batched._part

    def wanted(self: Batched, bank: ResidentBank, key: Any, loaded: Any) -> Shift:
        return part(self, bank, loaded.version if isinstance(key, ShiftVersion) else key, loaded)

    patch.setattr(Batched, "_part", wanted)


def shared_between_tenants(patch: Patch) -> None:
    root = BlockKeys.root
    patch.setattr(BlockKeys, "root", lambda s, e: root(s, replace(e, tenant="")))


def next_tokens_of_the_neighbour(patch: Patch) -> None:
    choose = batched.choose
    patch.setattr(batched, "choose", lambda logits, answers: choose(logits.flip(0), answers))


MUTANTS: list[Callable[[Patch], None]] = [
    token_only_key,
    user_only_salt,
    version_without_positions,
    skip_read_only,
    ignored_soft_reset,
    slot_reuse_without_clear,
    no_wipe,
    off_by_one,
    wrong_owner_after_update,
    version_swap_in_mid_request,
    shared_between_tenants,
    next_tokens_of_the_neighbour,
]


@pytest.mark.parametrize("mutant", MUTANTS, ids=lambda mutant: mutant.__name__)
def test_a_fault_is_seen(mutant: Callable[[Patch], None], oracle: Oracle, monkeypatch: pytest.MonkeyPatch) -> None:
    mine = Oracle(oracle.ground)
    mine.answers |= oracle.answers  # what engines gave without the fault; nothing of a faulty one goes back
    programs = Interleavings(seed=0, oracle=mine, ground=mine.ground)
    mutant(monkeypatch)
    with pytest.raises(AssertionError):
        programs.run(200)
