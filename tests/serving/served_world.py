"""Users with shifts that do something, on a tiny base, and engines that serve them step by step."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import families
import torch

from perfit.backbone.model import Backbone
from perfit.edits.shift import Shift, to_stored
from perfit.errors import UnknownUserError
from perfit.serving.batched import Batched
from perfit.serving.continuous import Paging
from perfit.serving.engine import Event, Finished, Handle, Request, Token
from perfit.serving.reference import Reference
from perfit.serving.served import Core, Served
from perfit.serving.version import ShiftVersion
from perfit.store.collective_file import Collective
from perfit.store.digest import shift_digest
from perfit.store.payload import StoredShift

LAYERS, RANKS, BASE = (0, 2), (4, 3), "base"
SMALL = Paging(rows=6, page=4, tokens=192, step=16)


def random_shift(seed: int, rank: int = RANKS[1], size: float = 0.3, width: int = families.WIDTH) -> Shift:
    return families.random_bank(1, len(LAYERS), rank, seed, size, width).get(1)


@dataclass
class World:
    """A store in memory: the versions of users, any of which may be asked for until they are deleted.

    Attributes:
        loads: Versions that an engine loaded.
    """

    collectives: dict[str, Collective] = field(default_factory=dict)
    kept: dict[tuple[str, str, int], tuple[ShiftVersion, StoredShift]] = field(default_factory=dict)
    loads: list[ShiftVersion] = field(default_factory=list)

    def __post_init__(self) -> None:
        for seed in (1, 2):
            made = Collective.of_shifts((self.made(seed, RANKS[0]), self.made(seed + 10, RANKS[1])))
            self.collectives[hashlib.sha256(made.file).hexdigest()] = made

    def made(self, seed: int, rank: int) -> Shift:
        """A shift of this world."""
        return random_shift(seed, rank)

    def seed_of(self, tenant: str, user: str, number: int, seed: int) -> int:
        """Of a version's shift."""
        return int.from_bytes(hashlib.sha256(f"{tenant} {user} {number} {seed}".encode()).digest()[:4], "big")

    def shared(self, tenant: str = "t", positions: str = "l3", which: int = 0) -> ShiftVersion:
        """The collective alone."""
        return ShiftVersion(tenant, "", 0, None, list(self.collectives)[which], BASE, 1.0, positions)

    def train(
        self, user: str, tenant: str = "t", positions: str = "l3", strength: float = 1.0, which: int = 0, seed: int = 0
    ) -> ShiftVersion:
        """A new version of a user."""
        number = 1 + sum(key[:2] == (tenant, user) for key in self.kept)
        stored = StoredShift(to_stored(self.made(self.seed_of(tenant, user, number, seed), RANKS[1])), {})
        version = ShiftVersion(
            tenant,
            user,
            number,
            shift_digest(stored.tensors),
            list(self.collectives)[which],
            BASE,
            strength,
            positions,
        )
        self.kept[tenant, user, number] = version, stored
        return version

    def latest(self, tenant: str, user: str) -> ShiftVersion | None:
        numbers = [key[2] for key in self.kept if key[:2] == (tenant, user)]
        return self.kept[tenant, user, max(numbers)][0] if numbers else None

    def delete(self, tenant: str, user: str) -> None:
        self.kept = {key: value for key, value in self.kept.items() if key[:2] != (tenant, user)}

    def collective(self, digest: str) -> Collective:
        return self.collectives[digest]

    def personal(self, version: ShiftVersion) -> StoredShift:
        self.loads.append(version)
        found = self.kept.get((version.tenant, version.user, version.version))
        if found is None:
            raise UnknownUserError("no such version")
        return found[1]


class Stepped(Served):
    """An engine without threads: the test says when it loads and when it steps."""

    def _own(self) -> None:
        """Nobody owns it but the test."""

    def _load(self) -> None:
        """Nor loads."""

    def load(self) -> None:
        """Load what is to be loaded."""
        while not self._to_load.empty():
            version = self._to_load.get()
            assert version is not None
            self._load_one(version)

    def step(self) -> None:
        """One turn, if there is anything to do."""
        self.load()
        if self._orders or self._running or self._ready():
            self._turn()

    def run(self) -> None:
        """All turns until nobody is in flight."""
        for _ in range(5_000):
            if not self._waiting and not self._running:
                return
            self.step()
        raise AssertionError("the engine stands still")

    def wipe(self, tenant: str, user: str) -> int:
        """What ``forget`` does, by the test's own turns."""
        done = self._forgetting(tenant, user)
        while not done.done():
            self.step()
        return done.result()


def batched(world: World, backbone: Backbone, paging: Paging = SMALL, resident: int = 0) -> Stepped:
    return Stepped(Batched(backbone, LAYERS, RANKS, resident=resident, paging=paging), backbone, world, BASE)


def reference(world: World, backbone: Backbone) -> Stepped:
    return Stepped(Reference(backbone, LAYERS), backbone, world, BASE)


def core_of(engine: Served) -> Core:
    return engine._core


def told(handle: Handle) -> list[Event]:
    """What was told so far."""
    events: list[Event] = []
    try:
        while True:
            events.append(handle.get(timeout=0.0))
    except TimeoutError:
        return events


def answered(engine: Stepped, requests: Sequence[Request]) -> list[list[Event]]:
    """All events of requests in flight together."""
    handles = [engine.submit(request) for request in requests]
    engine.run()
    return [told(handle) for handle in handles]


def tokens_of(events: Sequence[Event]) -> list[Token]:
    return [event for event in events if isinstance(event, Token)]


def end_of(events: Sequence[Event]) -> Finished:
    assert isinstance(events[-1], Finished)
    assert all(isinstance(event, Token) for event in events[:-1])
    return events[-1]


def same(mine: Sequence[Event], theirs: Sequence[Event], atol: float = 2e-4) -> bool:
    """Whether two answers agree: tokens, texts, probabilities, ends; a tie of two tokens may go either way."""
    for one, other in zip(tokens_of(mine), tokens_of(theirs), strict=False):
        if abs(one.logprob - other.logprob) > atol:
            return False
        if one.id != other.id:
            return True
    first, second = end_of(mine), end_of(theirs)
    return len(mine) == len(theirs) and (first.reason, first.edited, first.new_tokens) == (
        second.reason,
        second.edited,
        second.new_tokens,
    )


def text_of(events: Sequence[Event]) -> str:
    return "".join(event.text for event in events)


def prompt(seed: int, length: int) -> tuple[int, ...]:
    generator = torch.Generator().manual_seed(seed)
    return tuple(torch.randint(0, families.VOCABULARY, (length,), generator=generator).tolist())


Make = Callable[..., Any]
