"""Random interleavings of what may happen to an engine, each answer held to the reference; the suite runs some hundred,
``benchmarks/serving_interleavings.py`` as many as it is told."""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from families import NumberTokenizer
from served_world import BASE, LAYERS, RANKS, Stepped, World, end_of, same, tokens_of, told
from transformers import LlamaConfig, LlamaForCausalLM

from perfit.backbone.model import Backbone
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
    Paging(rows=8, page=4, tokens=104, step=40),
    Paging(rows=6, page=4, tokens=160, step=16),
    Paging(rows=3, page=4, tokens=256, step=3),
    Paging(rows=6, page=8, tokens=512, step=64),
)


def small_backbone() -> Backbone:
    """Three layers, which a forward of a few tokens goes through in a millisecond or two."""
    config = LlamaConfig(
        vocab_size=VOCABULARY,
        hidden_size=WIDTH,
        intermediate_size=32,
        num_hidden_layers=3,
        num_attention_heads=4,
        num_key_value_heads=2,
        max_position_embeddings=128,
        initializer_range=0.2,
        pad_token_id=0,
        bos_token_id=1,
        eos_token_id=None,
    )
    with torch.random.fork_rng():
        torch.manual_seed(7)
        model = LlamaForCausalLM(config).float()
    tokenizer = NumberTokenizer()
    tokenizer.eos_token_id = 30  # which these bases do say now and then
    return Backbone(model, tokenizer, name="small")


class Archive(World):
    """A store that the oracle reads: deleted or replaced, a version that was asked for can still be looked up."""

    def __init__(self) -> None:
        self.all: dict[str, StoredShift] = {}
        super().__init__()

    def train(self, *args: object, **named: object) -> ShiftVersion:
        version = super().train(*args, **named)  # type: ignore[arg-type]
        self.all[version.digest] = self.kept[version.tenant, version.user, version.version][1]
        return version


class Oracle:
    """What each request gives alone."""

    def __init__(self, archive: Archive, backbone: Backbone):
        self.archive = archive
        self.engine = Stepped(Reference(backbone, LAYERS), backbone, self, BASE)

    def collective(self, digest: str) -> object:
        return self.archive.collectives[digest]

    def personal(self, version: ShiftVersion) -> StoredShift:
        return self.archive.all[version.digest]

    def answer(self, request: Request) -> list[Event]:
        handle = self.engine.submit(request)
        self.engine.run()
        return told(handle)


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

    Attributes:
        counts: Of what happened.
    """

    def __init__(self, seed: int):
        self.random = random.Random(seed)
        self.backbone = small_backbone()
        self.world = Archive()
        self.oracle = Oracle(self.world, self.backbone)
        self.counts: Counter[str] = Counter()
        self.engines = [
            Stepped(Batched(self.backbone, LAYERS, RANKS, resident=0, paging=paging), self.backbone, self.world, BASE)
            for paging in PAGINGS
        ]
        self.asked: list[dict[str, list[Asked]]] = [{} for _ in PAGINGS]
        for engine in self.engines:
            self._count_put_out(engine)
        self.beginnings = [self._tokens(length) for length in (9, 16, 23)]
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
        for _ in range(self.random.randrange(6, 20)):
            kind = self.random.random()
            if kind < 0.08:  # more at once than there is room for
                asked += [self._submit(engine, which, asked, most=16) for _ in range(7)]
            elif kind < 0.6:
                asked.append(self._submit(engine, which, asked, most=self.random.choice((1, 2, 4, 8))))
            elif kind < 0.8:
                for _ in range(self.random.randrange(1, 5)):
                    engine.step()
            elif kind < 0.86 and asked:
                self.counts["cancelled"] += engine.cancel(self.random.choice(asked).handle.request.id)
            elif kind < 0.97:
                self._train(*self.random.choice(PEOPLE))
                self.counts["updated"] += 1
            else:
                self._delete(engine, *self.random.choice(PEOPLE))
        engine.run()
        for one in asked:
            self._check(which, one)
        stats = engine.stats()
        assert (stats.waiting, stats.running, stats.pinned) == (0, 0, 0)

    def _submit(self, engine: Stepped, which: int, asked: Sequence[Asked], most: int) -> Asked:
        tenant, user = self.random.choice(PEOPLE)
        kind = self.random.random()
        who: ShiftVersion | None = self.world.latest(tenant, user)
        if kind < 0.1:
            who = None
        elif kind < 0.2:
            who = self.world.shared(tenant, self.random.choice(RULES), self.random.randrange(2))
        elif kind < 0.3:  # rolled back
            older = [value[0] for key, value in self.world.kept.items() if key[:2] == (tenant, user)]
            who = self.random.choice(older[-3:])
        self._number += 1
        request = Request(
            id=str(self._number),
            prompt=self._prompt(asked),
            who=who,
            max_new_tokens=most,
            temperature=self.random.choice((0.0, 0.0, 0.0, 1.3)),
            top_p=self.random.choice((1.0, 0.8)),
            seed=self.random.randrange(3),
            tenant=tenant,
        )
        self.counts["requests"] += 1
        made = Asked(engine.submit(request), request.prompt, who)
        self.asked[which].setdefault(tenant, []).append(made)
        return made

    def _prompt(self, asked: Sequence[Asked]) -> tuple[int, ...]:
        """A shared beginning with an end of its own, the next turn of a conversation, or an earlier prompt again."""
        kind = self.random.random()
        over = [one for one in asked if one.over]
        if kind < 0.45 and over:
            turn = (*self.random.choice(over).tokens, *self._tokens(self.random.randrange(1, 8)))
            if len(turn) <= 80:
                self.counts["turns"] += 1
                return turn
        if kind < 0.6 and asked:
            return self.random.choice(asked).prompt
        return (*self.random.choice(self.beginnings), *self._tokens(self.random.randrange(0, 9)))

    def _check(self, which: int, one: Asked) -> None:
        assert one.over
        end, request = end_of(one.events), one.handle.request
        expected = self.oracle.answer(request)
        if end.reason == "cancelled":
            tokens, wanted = tokens_of(one.events), tokens_of(expected)
            cut = [*wanted[: len(tokens)], expected[-1]]
            assert len(wanted) >= len(tokens)
            assert same([*tokens, expected[-1]], cut), "a cancelled answer is another's"
        elif end.reason == "error":
            assert one.who is not None
            assert self.world.kept.get((one.who.tenant, one.who.user, one.who.version)) is None, end.problem
            self.counts["gone"] += 1
        else:
            assert same(one.events, expected), (request, one.events, expected)
            self.counts["answers"] += 1
            self.counts["prompt tokens"] += end.prompt_tokens
            self.counts["cached tokens"] += end.cached_tokens
            self.counts["ties"] += [t.id for t in tokens_of(one.events)] != [t.id for t in tokens_of(expected)]
            # Nothing is there already that the tenant itself had not asked for.
            tenant = one.who.tenant if one.who is not None else request.tenant
            others = [other for other in self.asked[which][tenant] if other is not one]
            assert end.cached_tokens <= max((_common(request.prompt, other.tokens) for other in others), default=0)

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
        rule = RULES[PEOPLE.index((tenant, user)) % len(RULES)]
        self.world.train(user, tenant, rule, self.random.choice((1.0, 1.0, 0.6)), self.random.randrange(2))

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

    def _tokens(self, count: int) -> tuple[int, ...]:
        return tuple(self.random.randrange(2, VOCABULARY - 1) for _ in range(count))


def _common(one: Sequence[int], other: Sequence[int]) -> int:
    return next((n for n, (a, b) in enumerate(zip(one, other, strict=False)) if a != b), min(len(one), len(other)))
