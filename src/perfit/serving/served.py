"""An engine: one thread that owns the base, one that loads shifts, and everybody else, who asks."""

from __future__ import annotations

import queue
import threading
from collections.abc import Callable
from concurrent.futures import Future
from dataclasses import dataclass, replace
from functools import partial
from typing import Protocol

from perfit.backbone.model import Backbone
from perfit.backbone.room import check_room
from perfit.errors import BaseModelError, ClosedError, ConfigError, PerfitError
from perfit.serving.answer import Answer
from perfit.serving.engine import Event, Handle, Request, Shifts, Stats
from perfit.serving.loading import Loaded, Loader
from perfit.serving.version import ShiftVersion

_TOGETHER = 0.02  # seconds that who may begin waits for those who came too, where nobody is being answered


class Core(Protocol):
    """What computes, in the one thread that owns the base: ``Reference`` and ``Batched``."""

    name: str
    layers: tuple[int, ...]

    @property
    def capacity(self) -> int | None:
        """Tokens of prompt and answer that one request may have; None where the base alone decides."""
        ...

    def room(self) -> bool:
        """Whether another request may begin."""
        ...

    def holds(self, version: ShiftVersion) -> bool:
        """Whether its shifts need not be loaded, from any thread; from others than the owner's it may be over at once."""
        ...

    def begin(self, answer: Answer, loaded: Loaded | None) -> None:
        """Take a request in."""
        ...

    def step(self) -> None:
        """One forward; answers that end with it are told so, and left."""
        ...

    def end(self, answer: Answer) -> None:
        """Leave a request that is in flight."""
        ...

    def forget(self, tenant: str, user: str) -> int:
        """Wipe what is kept of a user who has no request in flight; how many shifts it was."""
        ...

    def reset(self) -> None:
        """Leave everything, after a fault."""
        ...

    def stats(self) -> Stats:
        """How its bank stands."""
        ...


@dataclass
class _Waiting:
    answer: Answer
    loaded: Loaded | None = None
    loading: bool = False


class Served:
    """An ``Engine`` around a core.

    Requests begin in the order in which they came; one whose shifts are still being loaded lets others pass. Where nobody is
    being answered, those who can begin wait a moment for those who came with them.

    Args:
        core: What computes.
        backbone: The base.
        shifts: Where shifts come from.
        base: Digest of the base; versions of another are refused.
    """

    def __init__(self, core: Core, backbone: Backbone, shifts: Shifts, base: str):
        self.name = core.name
        self._core, self._backbone, self._base = core, backbone, base
        self._loader = Loader(shifts, len(core.layers), backbone.hidden_size)
        self._changed = threading.Condition()
        self._orders: list[Callable[[], None]] = []  # for the owner, between two forwards
        self._waiting: dict[str, _Waiting] = {}
        self._running: dict[str, Answer] = {}
        self._forgets = 0
        self._totals = core.stats()
        self._draining = self._closed = False
        self._to_load: queue.SimpleQueue[ShiftVersion | None] = queue.SimpleQueue()
        self._threads = [
            threading.Thread(target=work, name=f"perfit-{what}", daemon=True)
            for what, work in (("engine", self._own), ("loader", self._load))
        ]
        for thread in self._threads:
            thread.start()

    # For everybody

    def submit(self, request: Request, listener: Callable[[Event], None] | None = None) -> Handle:
        """See ``Engine``."""
        who = request.who
        if who is not None and who.base != self._base:
            raise BaseModelError("this version belongs to another base; load the base it was trained with")
        check_room(self._backbone, len(request.prompt), request.max_new_tokens)
        most = self._core.capacity
        if most is not None and len(request.prompt) + request.max_new_tokens > most:
            raise ConfigError(
                f"max_new_tokens: {request.max_new_tokens} after a prompt of {len(request.prompt)} tokens is more than the "
                f"{most} tokens this engine has room for; ask for less"
            )
        handle = Handle(request, listener)
        answer = Answer(handle, self._backbone)
        with self._changed:
            if self._draining or self._closed:
                raise ClosedError("this engine takes no more requests; ask again when it is back")
            before = self._running.get(request.id)
            if request.id in self._waiting or (before is not None and not before.finished):
                raise ConfigError("id: a request of this id is in flight; give another")
            # Read from here on, in the middle of a forward too: who is loaded when it ends is in the next one.
            loading = who is not None and not self._core.holds(who)
            self._waiting[request.id] = _Waiting(answer, loading=loading)
            if loading:
                self._to_load.put(who)
            self._changed.notify_all()
        return handle

    def cancel(self, request: str) -> bool:
        """See ``Engine``."""
        with self._changed:
            there = request in self._waiting or request in self._running
            if there:
                self._orders.append(lambda: self._cancel(request))
                self._changed.notify_all()
        return there

    def forget(self, tenant: str, user: str) -> int:
        """See ``Engine``."""
        return self._forgetting(tenant, user).result()

    def _forgetting(self, tenant: str, user: str) -> Future[int]:
        done: Future[int] = Future()

        def order() -> None:
            try:
                with self._changed:
                    self._forgets += 1
                    there = [*(one.answer for one in self._waiting.values()), *self._running.values()]
                for answer in there:
                    who = answer.request.who
                    if who is not None and (who.tenant, who.user) == (tenant, user):
                        self._cancel(answer.request.id)
                done.set_result(self._core.forget(tenant, user))
            except BaseException as error:
                done.set_exception(error)

        with self._changed:
            if self._closed:
                done.set_result(0)  # nothing is left
            else:
                self._orders.append(order)
                self._changed.notify_all()
        return done

    def drain(self, timeout: float | None = None) -> bool:
        """See ``Engine``."""
        with self._changed:
            self._draining = True
            return self._changed.wait_for(lambda: not self._waiting and not self._running, timeout)

    def close(self) -> None:
        """See ``Engine``."""
        with self._changed:
            self._closed = True
            self._changed.notify_all()
        self._to_load.put(None)
        for thread in self._threads:
            if thread is not threading.current_thread():
                thread.join()

    def stats(self) -> Stats:
        """See ``Engine``."""
        with self._changed:
            return replace(self._totals, waiting=len(self._waiting), running=len(self._running))

    # The owner of the base

    def _own(self) -> None:
        try:
            while self._turn():
                pass
        finally:
            with self._changed:
                self._closed = True
                orders, self._orders = self._orders, []
            for request in [*self._waiting, *self._running]:
                self._cancel(request)
            for order in orders:  # whoever waits for one is told
                order()
            self._core.reset()
            self._settle()

    def _turn(self) -> bool:
        """Orders, new requests, one forward; False when closed."""
        with self._changed:
            self._changed.wait_for(lambda: self._closed or bool(self._orders or self._running) or self._ready())
            if not self._running:  # one forward of many costs little more than one of a single request
                self._changed.wait_for(lambda: self._closed or bool(self._orders) or not self._loading(), _TOGETHER)
            if self._closed:
                return False
            orders, self._orders = self._orders, []
        for order in orders:
            order()
        self._settle()  # an id that is over may be another request's from here on
        self._admit()
        if self._running:
            try:
                self._core.step()
            except Exception as error:  # a fault of one forward must not end those who come after it
                for answer in self._running.values():
                    answer.finish("error", _said(error))
                self._core.reset()
        self._settle()
        return True

    def _ready(self) -> bool:
        """Whether something can be done for those who wait."""
        return any(one.loaded is not None or not one.loading for one in self._waiting.values())

    def _loading(self) -> bool:
        """Whether the shifts of some who wait are being read."""
        return any(one.loading and one.loaded is None for one in self._waiting.values())

    def _admit(self) -> None:
        with self._changed:
            waiting = list(self._waiting.items())
        for name, one in waiting:
            who = one.answer.request.who
            if who is not None and one.loaded is None and not self._core.holds(who):
                if not one.loading:
                    one.loading = True
                    self._to_load.put(who)
                continue
            if not self._core.room():
                continue
            try:
                one.answer.begin()
                self._core.begin(one.answer, one.loaded)
            except Exception as error:
                one.answer.finish("error", _said(error))
            with self._changed:
                del self._waiting[name]
                self._running[name] = one.answer

    def _settle(self) -> None:
        """Let go of answers that are finished, and count them."""
        with self._changed:
            ended = [name for name, answer in self._running.items() if answer.finished]
            old = self._totals
            for name in ended:
                answer = self._running.pop(name)
                old = replace(
                    old,
                    finished=old.finished + 1,
                    prompt_tokens=old.prompt_tokens + len(answer.request.prompt),
                    cached_tokens=old.cached_tokens + answer.cached,
                    new_tokens=old.new_tokens + len(answer.tokens),
                )
            held = self._core.stats()
            self._totals = replace(
                old,
                slots=held.slots,
                resident=held.resident,
                pinned=held.pinned,
                loads=held.loads,
                evictions=held.evictions,
            )
            self._changed.notify_all()

    def _cancel(self, request: str) -> None:
        with self._changed:
            one = self._waiting.pop(request, None)
            answer = one.answer if one is not None else self._running.get(request)
            if one is not None:
                self._running[request] = one.answer  # to be counted with the others
        if answer is not None and not answer.finished:
            self._core.end(answer)
            answer.finish("cancelled")

    # The loader

    def _load(self) -> None:
        while (version := self._to_load.get()) is not None:
            self._load_one(version)

    def _load_one(self, version: ShiftVersion) -> None:
        with self._changed:
            if not self._wanting(version):
                return  # they have it from a load before, or are gone
            before = self._forgets
        try:
            found: Loaded | Exception = self._loader.load(version)
        except Exception as error:
            found = _said(error)
        with self._changed:
            if before != self._forgets:  # it may be somebody's who was forgotten while it was read
                self._to_load.put(version)
                return
            for one in self._wanting(version):
                if isinstance(found, Loaded):
                    one.loaded = found
                else:
                    self._orders.append(partial(self._fail, one, found))
            self._changed.notify_all()

    def _wanting(self, version: ShiftVersion) -> list[_Waiting]:
        return [one for one in self._waiting.values() if one.answer.request.who == version and one.loaded is None]

    def _fail(self, one: _Waiting, problem: Exception) -> None:
        with self._changed:
            if self._waiting.pop(one.answer.request.id, None) is None:
                return
            self._running[one.answer.request.id] = one.answer
        one.answer.finish("error", problem)


def _said(error: Exception) -> Exception:
    """A fault as those may hear it who asked: our own in its words, any other by its kind alone."""
    if isinstance(error, PerfitError):
        return error
    return BaseModelError(f"the engine failed ({type(error).__name__}); ask again")
