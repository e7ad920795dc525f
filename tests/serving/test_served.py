"""The engine's threads: who asks, who loads and who owns the base never wait for one another's work, nor mix it."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

import families
import pytest
from served_world import (
    BASE,
    LAYERS,
    RANKS,
    SMALL,
    World,
    answered,
    batched,
    core_of,
    end_of,
    prompt,
    reference,
    same,
    told,
)

from perfit.edits.positions import Positions
from perfit.errors import ClosedError, ConfigError, UnknownUserError
from perfit.inference.decoding import Decoding
from perfit.inference.generate import generate
from perfit.serving import served
from perfit.serving.answer import Answer
from perfit.serving.batched import Batched
from perfit.serving.engine import Event, Finished, Handle, Request, Token
from perfit.serving.loading import Loaded
from perfit.serving.reference import Reference
from perfit.serving.served import Served
from perfit.serving.version import ShiftVersion
from perfit.store.payload import StoredShift

LLAMA = families.tiny("llama")
LONG = 60


class SlowWorld(World):
    """A store that answers when it is told to."""

    def __post_init__(self) -> None:
        super().__post_init__()
        self.open = threading.Event()
        self.open.set()
        self.told: Callable[[], object] = lambda: None

    def personal(self, version: ShiftVersion) -> StoredShift:
        assert self.open.wait(30)
        found = super().personal(version)
        self.told()
        return found


@pytest.fixture
def world() -> SlowWorld:
    return SlowWorld()


@pytest.fixture(params=["transformers", "reference"])
def engine(request: pytest.FixtureRequest, world: SlowWorld) -> Iterator[Served]:
    core = Batched(LLAMA, LAYERS, RANKS, resident=0, paging=SMALL) if request.param == "transformers" else None
    one = Served(core or Reference(LLAMA, LAYERS), LLAMA, world, BASE)
    assert one.name == request.param
    yield one
    world.open.set()
    one.close()
    one.close()


def test_many_threads_get_their_own_answers(engine: Served, world: SlowWorld) -> None:
    owners = [*(world.train(f"user {n}", positions="f1+l2") for n in range(6)), world.shared(), None]
    asked = [Request(f"{n}", prompt(n % 5, 12), owners[n % len(owners)], max_new_tokens=4) for n in range(32)]
    plain = answered(reference(world, LLAMA), asked)
    with ThreadPoolExecutor(8) as threads:
        found = list(threads.map(lambda request: list(engine.submit(request)), asked))
    assert all(same(one, other) for one, other in zip(found, plain, strict=True))
    assert engine.drain(30)
    stats = engine.stats()
    assert (stats.finished, stats.waiting, stats.running, stats.pinned) == (32, 0, 0, 0)
    assert stats.new_tokens == sum(end_of(events).new_tokens for events in plain)
    assert stats.prompt_tokens == 32 * 12


def test_whoever_uses_the_base_meanwhile_gets_what_they_would_alone(engine: Served, world: SlowWorld) -> None:
    """The engine owns the base as a server; a ``PerFit`` on it, which learns while it serves, is not in its way."""
    shift, asked = families.random_shift(LAYERS), [prompt(n, 12) for n in range(3)]

    def by_the_library() -> list[str]:
        rule = Positions.parse("f1+l2")
        return generate(LLAMA, asked, [(1, 1), (2, 3), (0, 0)], shift, rule, Decoding(max_new_tokens=4))

    alone = by_the_library()
    owners = [world.train(f"user {n}", positions="f1+l2") for n in range(3)]
    requests = [Request(f"{n}", prompt(n, 12), owners[n % 3], max_new_tokens=8) for n in range(12)]
    handles = [engine.submit(request) for request in requests]
    with ThreadPoolExecutor(2) as threads:
        found = list(threads.map(lambda _: by_the_library(), range(12)))
    assert found == [alone] * 12
    expected = answered(reference(world, LLAMA), requests)
    assert all(same(list(handle), other) for handle, other in zip(handles, expected, strict=True))


def test_a_listener_hears_what_a_handle_would(engine: Served, world: SlowWorld) -> None:
    heard: list[Event] = []
    ended = threading.Event()

    def listen(event: Event) -> None:
        heard.append(event)
        if isinstance(event, Finished):
            ended.set()

    request = Request("a", prompt(1, 9), world.train("anna"), max_new_tokens=4)
    engine.submit(request, listen)
    assert ended.wait(30)
    assert same(heard, answered(reference(world, LLAMA), [request])[0])


def test_a_slow_store_holds_up_nobody_else(engine: Served, world: SlowWorld) -> None:
    world.open.clear()
    waits = engine.submit(Request("a", prompt(1, 9), world.train("anna"), max_new_tokens=2))
    others = [
        engine.submit(Request(f"{n}", prompt(n, 9), who, max_new_tokens=4))
        for n, who in enumerate((None, world.shared()))
    ]
    assert [end_of([handle.get(30) for _ in range(5)]).reason for handle in others[:1]] == ["length"]
    assert engine.stats().waiting >= 1
    with pytest.raises(TimeoutError):
        waits.get(timeout=0.05)
    world.open.set()
    assert end_of(list(waits)).reason == "length"


def test_cancelled_while_waiting_and_while_running(engine: Served, world: SlowWorld) -> None:
    running = engine.submit(Request("running", prompt(0, 9), max_new_tokens=LONG))
    first = running.get(30)
    assert isinstance(first, Token)
    assert engine.cancel("running")
    events = [first, *running]
    assert end_of(events).reason == "cancelled"
    assert end_of(events).new_tokens == len(events) - 1 < LONG
    world.open.clear()
    waiting = engine.submit(Request("waiting", prompt(0, 9), world.train("anna"), max_new_tokens=3))
    assert engine.cancel("waiting")
    assert end_of(list(waiting)).reason == "cancelled"
    assert not engine.cancel("waiting")
    assert not engine.cancel("nobody's")


def test_an_update_leaves_those_in_flight_and_counts_for_the_next(engine: Served, world: SlowWorld) -> None:
    old = world.train("anna", positions="f1")
    long = engine.submit(Request("old", prompt(0, 9), old, max_new_tokens=30))
    begun = long.get(30)
    new = world.train("anna", positions="f1")
    other = list(engine.submit(Request("new", prompt(0, 9), new, max_new_tokens=3)))
    alone = reference(world, LLAMA)
    assert same([begun, *long], answered(alone, [long.request])[0])
    assert same(other, answered(alone, [Request("new", prompt(0, 9), new, max_new_tokens=3)])[0])


def test_a_user_who_is_forgotten_is_answered_no_more(engine: Served, world: SlowWorld) -> None:
    anna, ben = world.train("anna"), world.train("ben")
    hers = engine.submit(Request("hers", prompt(0, 9), anna, max_new_tokens=LONG))
    his = engine.submit(Request("his", prompt(0, 9), ben, max_new_tokens=20))
    hers.get(30)
    world.delete("t", "anna")
    engine.forget("t", "anna")
    assert any(isinstance(event, Finished) and event.reason == "cancelled" for event in hers)
    assert same(list(his), answered(reference(world, LLAMA), [his.request])[0])
    again = end_of(list(engine.submit(Request("again", prompt(0, 9), anna, max_new_tokens=2))))
    assert again.reason == "error"
    assert isinstance(again.problem, UnknownUserError)


def test_draining_ends_what_is_there_and_takes_no_more(engine: Served) -> None:
    handle = engine.submit(Request("a", prompt(0, 9), max_new_tokens=20))
    assert not engine.drain(timeout=0.0)
    with pytest.raises(ClosedError):
        engine.submit(Request("b", prompt(0, 9), max_new_tokens=2))
    assert engine.drain(30)
    assert end_of(list(handle)).reason == "length"


def test_closing_tells_everybody(engine: Served, world: SlowWorld) -> None:
    world.open.clear()
    handles = [
        engine.submit(Request("a", prompt(0, 9), max_new_tokens=LONG)),
        engine.submit(Request("b", prompt(0, 9), world.train("anna"), max_new_tokens=2)),
    ]
    handles[0].get(30)
    threading.Timer(0.2, world.open.set).start()
    engine.close()
    assert [end_of(list(handle)[-1:]).reason for handle in handles] == ["cancelled", "cancelled"]
    assert engine.forget("t", "anna") == 0
    with pytest.raises(ClosedError):
        engine.submit(Request("c", prompt(0, 9), max_new_tokens=2))


def test_an_id_is_one_requests_while_it_is_in_flight(engine: Served) -> None:
    request = Request("a", prompt(0, 9), max_new_tokens=20)
    handle = engine.submit(request)
    with pytest.raises(ConfigError, match="in flight"):
        engine.submit(replace(request, max_new_tokens=1))
    list(handle)
    for _ in range(20):  # whoever has heard the end may use it at once
        assert end_of(list(engine.submit(replace(request, max_new_tokens=1)))).reason == "length"
    assert engine.drain(30)
    assert engine.stats().finished == 21


class Watched(Batched):
    """Counts who is in each forward, and stands still in it until it is told to go on."""

    def __init__(self) -> None:
        super().__init__(LLAMA, LAYERS, RANKS, resident=0, paging=SMALL)
        self.together: list[int] = []
        self.inside, self.go_on, self.begun = threading.Event(), threading.Event(), threading.Event()
        self.go_on.set()

    def begin(self, answer: Answer, loaded: Loaded | None) -> None:
        super().begin(answer, loaded)
        self.begun.set()

    def step(self) -> None:
        self.together.append(len(self._rows))
        self.inside.set()
        assert self.go_on.wait(30)
        super().step()


def test_a_shift_is_read_while_a_forward_runs(world: SlowWorld) -> None:
    core = Watched()
    core.go_on.clear()
    engine, anna = Served(core, LLAMA, world, BASE), world.train("anna")
    first = engine.submit(Request("first", prompt(0, 9), max_new_tokens=2))
    assert core.inside.wait(30)
    read = threading.Event()
    world.told = read.set
    second = engine.submit(Request("second", prompt(1, 9), anna, max_new_tokens=2))
    assert read.wait(30)
    core.go_on.set()
    assert [end_of(list(handle)).reason for handle in (first, second)] == ["length"] * 2
    engine.close()


def test_who_comes_with_others_begins_with_them(world: SlowWorld, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where nobody is being answered, whoever is read first waits for those who came at the same time."""
    monkeypatch.setattr(served, "_TOGETHER", 30.0)
    core = Watched()
    engine, users = Served(core, LLAMA, world, BASE), [world.train(f"user {n}") for n in range(3)]
    world.told = lambda: len(world.loads) == 1 or core.begun.wait(0.2)  # alone, the first would have begun by now
    world.open.clear()
    handles = [engine.submit(Request(f"{n}", prompt(n, 9), who, max_new_tokens=1)) for n, who in enumerate(users)]
    world.open.set()
    assert [end_of(list(handle)).reason for handle in handles] == ["length"] * 3
    assert core.together[0] == 3
    engine.close()


def test_who_comes_with_somebody_whose_shift_does_not_come_is_answered(world: SlowWorld) -> None:
    engine, (anna, ben) = Served(Watched(), LLAMA, world, BASE), (world.train("anna"), world.train("ben"))
    over = threading.Event()
    world.told = lambda: len(world.loads) == 1 or over.wait(30)
    hers, his = (engine.submit(Request(f"{who.user}", prompt(1, 9), who, max_new_tokens=2)) for who in (anna, ben))
    assert end_of([hers.get(30) for _ in range(3)]).reason == "length"
    over.set()
    assert end_of(list(his)).reason == "length"
    engine.close()


def test_a_shift_that_several_wait_for_is_read_once(world: SlowWorld) -> None:
    engine, anna = batched(world, LLAMA), world.train("anna")
    found = answered(engine, [Request(f"{n}", prompt(n, 9), anna, max_new_tokens=2) for n in range(3)])
    assert [end_of(events).reason for events in found] == ["length"] * 3
    assert world.loads == [anna]


def test_what_was_read_before_an_erasure_reaches_nobody_after_it(world: SlowWorld) -> None:
    """One request is cut off while its shift is read; another, of the same version, comes behind the erasure."""
    engine, anna = batched(world, LLAMA), world.train("anna")
    late: list[Handle] = []

    def erased() -> None:
        if not late:
            world.delete("t", "anna")
            done = engine._forgetting("t", "anna")
            engine._turn()
            assert done.result() == 0
            late.append(engine.submit(Request("late", prompt(0, 9), anna, max_new_tokens=2)))

    world.told = erased
    early = engine.submit(Request("early", prompt(0, 9), anna, max_new_tokens=2))
    engine.run()
    assert end_of(told(early)).reason == "cancelled"
    end = end_of(told(late[0]))
    assert (end.reason, type(end.problem)) == ("error", UnknownUserError)
    assert not core_of(engine).holds(anna)
