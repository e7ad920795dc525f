"""Random interleavings of what may happen to an engine, each answer held to the reference; the suite runs some hundred,
``benchmarks/serving_interleavings.py`` as many as it is told.

A step of a tiny base costs its Python and not its sums, so that programs are short and wide: few steps, many requests in
each. What a request gives alone is computed once: prompts, users and their shifts come from pools.
"""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import torch
from families import NumberTokenizer
from served_world import BASE, RANKS, Stepped, World, end_of, random_shift, same, tokens_of, told
from transformers import OPTConfig, OPTForCausalLM

from perfit.backbone.model import Backbone
from perfit.edits.shift import Shift
from perfit.serving.batched import Batched
from perfit.serving.continuous import Paging
from perfit.serving.engine import Event, Handle, Request
from perfit.serving.reference import Reference
from perfit.serving.version import ShiftVersion
from perfit.store.payload import StoredShift

VOCABULARY, WIDTH = 31, 32
RULES = ("l3", "l1", "f2+l3", "0,-2", "l3")
PEOPLE = [(tenant, f"user {n}") for tenant in ("t", "u") for n in range(4)]
PAGINGS = (
    Paging(rows=8, page=4, tokens=56, step=40),
    Paging(rows=6, page=4, tokens=104, step=16),
    Paging(rows=6, page=4, tokens=192, step=11),
    Paging(rows=6, page=8, tokens=512, step=64),
)
_LONGEST = 48  # tokens of a prompt
_SHIFTS = 4  # that a user's versions go through; two versions that follow one another are never alike


@dataclass(frozen=True)
class Ground:
    """What the programs run on.

    Attributes:
        backbone: The base.
        layers: Edited layers, two.
        tokens: The first and behind the last token of prompts.
        size: How far shifts are from the identity.
        atol: Between log-probabilities.
    """

    backbone: Backbone
    layers: tuple[int, ...] = (0, 1)
    tokens: tuple[int, int] = (2, VOCABULARY - 1)
    size: float = 0.3
    atol: float = 2e-4


def small() -> Ground:
    """Two layers, both edited, of the family that goes through them with the fewest operations."""
    config = OPTConfig(
        vocab_size=VOCABULARY,
        hidden_size=WIDTH,
        word_embed_proj_dim=WIDTH,
        ffn_dim=32,
        num_hidden_layers=2,
        num_attention_heads=2,
        max_position_embeddings=128,
        init_std=0.2,
        dropout=0.0,
        attention_dropout=0.0,
        pad_token_id=0,
        bos_token_id=1,
        eos_token_id=None,
    )
    with torch.random.fork_rng():
        torch.manual_seed(7)
        model = OPTForCausalLM(config).float()
    tokenizer = NumberTokenizer()
    tokenizer.eos_token_id = 30  # which these bases do say now and then
    return Ground(Backbone(model, tokenizer, name="small"))


class Archive(World):
    """A store that the oracle reads: deleted or replaced, a version that was asked for can still be looked up."""

    def __init__(self, ground: Ground) -> None:
        self.all: dict[str, StoredShift] = {}
        self._ground, self._made = ground, dict[tuple[int, int], Shift]()
        super().__init__()

    def made(self, seed: int, rank: int) -> Shift:
        key = seed, rank
        if key not in self._made:
            self._made[key] = random_shift(seed, rank, self._ground.size, self._ground.backbone.hidden_size)
        return self._made[key]

    def seed_of(self, tenant: str, user: str, number: int, seed: int) -> int:
        return super().seed_of(tenant, user, number % _SHIFTS, seed)

    def train(self, *args: object, **named: object) -> ShiftVersion:
        version = super().train(*args, **named)  # type: ignore[arg-type]
        self.all[version.digest] = self.kept[version.tenant, version.user, version.version][1]
        return version


class Oracle:
    """What each request gives alone, served by the reference; asked again for as much or less, it is looked up."""

    def __init__(self, ground: Ground):
        self.ground, self.archive = ground, Archive(ground)
        self.engine = Stepped(Reference(ground.backbone, ground.layers), ground.backbone, self, BASE)
        self.answers: dict[tuple[object, ...], tuple[int, list[Event]]] = {}
        self.asked = 0

    def collective(self, digest: str) -> object:
        return self.archive.collectives[digest]

    def personal(self, version: ShiftVersion) -> StoredShift:
        return self.archive.all[version.digest]

    def answer(self, request: Request) -> list[Event]:
        """All events of an answer."""
        who, most = request.who, request.max_new_tokens
        shifts = None if who is None else (who.personal, who.collective, who.strength, who.positions)
        key = shifts, request.prompt, request.temperature, request.top_p, request.seed
        known, events = self.answers.get(key, (0, []))
        if known < most:
            self.asked += 1
            events = self.plain(request)
            self.answers[key] = most, events
        return shortened(events, most)

    def plain(self, request: Request) -> list[Event]:
        """The same, served anew."""
        handle = self.engine.submit(request)
        self.engine.run()
        return told(handle)


def shortened(events: Sequence[Event], most: int) -> list[Event]:
    """What is told of the same request when it asks for so many tokens."""
    tokens, end = tokens_of(events), end_of(events)
    if len(tokens) < most:
        return [*events]
    return [*tokens[:most], replace(end, reason="length", new_tokens=most)]


@dataclass
class Asked:
    handle: Handle
    prompt: tuple[int, ...]
    who: ShiftVersion | None
    events: list[Event] = field(default_factory=list)

    @property
    def tokens(self) -> tuple[int, ...]:
        """Prompt and answer so far."""
        return (*self.prompt, *(token.id for token in tokens_of(self.events)))

    @property
    def over(self) -> bool:
        self.events += told(self.handle)
        return bool(self.events) and not tokens_of(self.events[-1:])


class Interleavings:
    """One engine of each paging, and one program after the other on them: what one leaves behind, the next one meets.

    Args:
        seed: Of everything that is drawn.
        oracle: Of the programs before, which may have the answers already.
        pool: Seed of the prompts.

    Attributes:
        counts: Of what happened.
    """

    def __init__(self, seed: int, oracle: Oracle | None = None, ground: Ground | None = None, pool: int = 0):
        self.random = random.Random(seed)
        self.ground = ground if ground is not None else small()
        self.oracle = oracle if oracle is not None else Oracle(self.ground)
        self.world = self.oracle.archive = Archive(self.ground)
        self.counts: Counter[str] = Counter()
        self.engines = [
            Stepped(
                Batched(self.ground.backbone, self.ground.layers, RANKS, resident=0, paging=paging),
                self.ground.backbone,
                self.world,
                BASE,
            )
            for paging in PAGINGS
        ]
        self.over: list[list[tuple[int, ...]]] = [[] for _ in PAGINGS]  # conversations of the program before
        self.known: list[dict[str, Counter[tuple[int, ...]]]] = [{} for _ in PAGINGS]
        for engine in self.engines:
            self._count_put_out(engine)
        drawn = random.Random(pool)
        self.beginnings, self.ends = [
            [tuple(drawn.randrange(*self.ground.tokens) for _ in range(length)) for length in lengths]
            for lengths in ((7, 11, 18), (0, 1, 2, 3, 4, 5, 6))
        ]
        self._number = 0
        for tenant, user in PEOPLE:
            self._train(tenant, user)

    def run(self, count: int) -> None:
        """So many programs; AssertionError where an answer is not its user's own."""
        for _ in range(count):
            self.program(self.random.randrange(len(self.engines)))
            self.counts["interleavings"] += 1

    def program(self, which: int) -> None:
        """One program on one engine: submits, steps, cancels, trainings, deletions, in any order; then all is checked."""
        engine, asked = self.engines[which], list[Asked]()
        for _ in range(self.random.randrange(3, 7)):
            kind = self.random.random()
            if kind < 0.55:  # now and then more at once than there is room for
                asked += [self._submit(engine, which, asked) for _ in range(self.random.choice((1, 2, 3, 7)))]
            elif kind < 0.75:
                for _ in range(self.random.randrange(1, 4)):
                    engine.step()
            elif kind < 0.83 and asked:
                self.counts["cancelled"] += engine.cancel(self.random.choice(asked).handle.request.id)
            elif kind < 0.96:
                self._train(*self.random.choice(PEOPLE))
                self.counts["updated"] += 1
            else:
                self._delete(engine, *self.random.choice(PEOPLE))
        engine.run()
        for one in asked:
            assert one.over
            self._remember(which, one)
        for one in asked:
            self._check(which, one)
        self.over[which] = [one.tokens for one in asked][-4:]
        stats = engine.stats()
        assert (stats.waiting, stats.running, stats.pinned) == (0, 0, 0)

    def _submit(self, engine: Stepped, which: int, asked: Sequence[Asked]) -> Asked:
        tenant, user = self.random.choice(PEOPLE)
        kind = self.random.random()
        who: ShiftVersion | None = self.world.latest(tenant, user)
        if kind < 0.1:
            who = None
        elif kind < 0.2:
            who = self.world.shared(tenant, self.random.choice(RULES), self.random.randrange(2))
        elif kind < 0.3:
            older = [value[0] for key, value in self.world.kept.items() if key[:2] == (tenant, user)]
            who = self.random.choice(older[-3:])
            self.counts["rolled back"] += who != older[-1]
        self._number += 1
        temperature, top_p, seed = self.random.choice(((0.0, 1.0, 0), (0.0, 1.0, 0), (0.0, 1.0, 0), (1.3, 0.8, 1)))
        request = Request(
            id=str(self._number),
            prompt=self._prompt(which, asked),
            who=who,
            max_new_tokens=self.random.choice((1, 1, 2, 3, 4)),
            temperature=temperature,
            top_p=top_p,
            seed=seed,
            tenant=tenant,
        )
        self.counts["requests"] += 1
        return Asked(engine.submit(request), request.prompt, who)

    def _prompt(self, which: int, asked: Sequence[Asked]) -> tuple[int, ...]:
        """A shared beginning with an end of its own, the next turn of a conversation, or an earlier prompt again."""
        kind = self.random.random()
        over = [*self.over[which], *(one.tokens for one in asked if one.over)] if kind < 0.2 else []
        if over:
            turn = (*self.random.choice(over), *self.random.choice(self.ends[1:3]))
            if len(turn) <= _LONGEST:
                self.counts["turns"] += 1
                return turn
        if kind < 0.5 and asked:
            return self.random.choice(asked).prompt
        return (*self.random.choice(self.beginnings), *self.random.choice(self.ends))

    def _check(self, which: int, one: Asked) -> None:
        end, request = end_of(one.events), one.handle.request
        if end.reason == "error":
            assert one.who is not None
            assert self.world.kept.get((one.who.tenant, one.who.user, one.who.version)) is None, end.problem
            self.counts["gone"] += 1
            return
        if end.reason == "cancelled" and not tokens_of(one.events):
            return
        expected = self.oracle.answer(request)
        if end.reason == "cancelled":
            tokens, wanted = tokens_of(one.events), tokens_of(expected)
            cut = [*wanted[: len(tokens)], expected[-1]]
            assert len(wanted) >= len(tokens)
            assert same([*tokens, expected[-1]], cut, self.ground.atol), "a cancelled answer is another's"
            return
        assert same(one.events, expected, self.ground.atol), (request, one.events, expected)
        self.counts["answers"] += 1
        self.counts["prompt tokens"] += end.prompt_tokens
        self.counts["cached tokens"] += end.cached_tokens
        self.counts["ties"] += [t.id for t in tokens_of(one.events)] != [t.id for t in tokens_of(expected)]
        # Nothing is there already that the tenant itself had not asked for, beside in this request.
        known = self.known[which][_tenant(one)]
        assert not end.cached_tokens or known[request.prompt[: end.cached_tokens]] > 1

    def _remember(self, which: int, one: Asked) -> None:
        """All beginnings of whole pages that a tenant's requests have had."""
        known = self.known[which].setdefault(_tenant(one), Counter())
        tokens, page = one.tokens, PAGINGS[which].page
        known.update(tokens[:length] for length in range(page, len(tokens) + 1, page))

    def _count_put_out(self, engine: Stepped) -> None:
        core = engine._core
        assert isinstance(core, Batched)
        scheduler = core._pages._processor.scheduler
        add = scheduler.add_waiting_request

        def counted(state: Any) -> None:
            self.counts["put out"] += state._true_initial_tokens > 0
            add(state)

        scheduler.add_waiting_request = counted

    def _train(self, tenant: str, user: str) -> None:
        number = PEOPLE.index((tenant, user))
        turn = sum(key[:2] == (tenant, user) for key in self.world.kept)
        strength, which = (1.0, 1.0, 0.6, 1.0)[(number + turn) % _SHIFTS], (number + turn // 2) % 2
        self.world.train(user, tenant, RULES[number % len(RULES)], strength, which)

    def _delete(self, engine: Stepped, tenant: str, user: str) -> None:
        going = self.world.latest(tenant, user)
        self.world.delete(tenant, user)
        engine.wipe(tenant, user)
        core = engine._core
        assert isinstance(core, Batched)
        assert not core._seconds.wipe(
            lambda key: isinstance(key, ShiftVersion) and (key.tenant, key.user) == (tenant, user)
        )
        assert going is not None
        b = self.world.all[going.digest].tensors["b"]
        assert not (core._seconds.bank.shift.b == b).flatten(1).all(1).any(), "a shift is still in the bank"
        self.counts["deleted"] += 1
        self._train(tenant, user)


def _tenant(one: Asked) -> str:
    return one.who.tenant if one.who is not None else one.handle.request.tenant
