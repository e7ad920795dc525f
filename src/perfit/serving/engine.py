"""What serves requests: each runs with the shifts it names and no others, and gives its tokens as they come.

One thread owns a base; other threads submit, cancel and read. What a forward needs travels with the forward.
"""

from __future__ import annotations

import queue
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Literal, Protocol

from perfit.errors import ConfigError
from perfit.serving.version import ShiftVersion
from perfit.stop_strings import checked_stop
from perfit.store.collective_file import Collective
from perfit.store.payload import StoredShift
from perfit.tasks.task import check_repetition

Reason = Literal["stop", "length", "cancelled", "error"]


@dataclass(frozen=True)
class Request:
    """One prompt to answer.

    Attributes:
        id: Unique among the requests in flight; it never leaves the process.
        prompt: Token ids of the whole prompt, all turns so far: positions count on it.
        who: Whose shifts; None is the untouched base.
        max_new_tokens: Most tokens of the answer.
        temperature: 0 takes the most probable token; above 0 samples.
        top_p: Smallest share of probability that is sampled from.
        seed: A request's draws depend on it and on the prompt alone, never on the rows beside it.
        stop: Texts that end the answer and are no part of it.
        repetition_penalty, no_repeat_ngram: As of ``Decoding``; 1 and 0 leave repetition alone.
        n_logprobs: How many of the most probable tokens are told with each token; its own is told always.
        tenant: Who asks, where ``who`` is None; a version brings its own. What one tenant asked is never computed faster
            for another: that would tell them.
    """

    id: str
    prompt: tuple[int, ...]
    who: ShiftVersion | None = None
    max_new_tokens: int = 200
    temperature: float = 0.0
    top_p: float = 1.0
    seed: int = 0
    stop: tuple[str, ...] = ()
    repetition_penalty: float = 1.0
    no_repeat_ngram: int = 0
    n_logprobs: int = 0
    tenant: str = ""

    def __post_init__(self) -> None:
        if not self.prompt:
            raise ConfigError("prompt: it has no tokens; give a text")
        if self.max_new_tokens < 1:
            raise ConfigError(f"max_new_tokens: {self.max_new_tokens!r} is not possible; give at least 1")
        if not 0 <= self.temperature < float("inf"):
            raise ConfigError(f"temperature: {self.temperature!r} is not possible; give 0, or a number above it")
        if not 0 < self.top_p <= 1:
            raise ConfigError(f"top_p: {self.top_p!r} is not possible; give a share above 0, at most 1")
        if self.n_logprobs < 0:
            raise ConfigError(f"n_logprobs: {self.n_logprobs!r} is not possible; give 0 or more")
        check_repetition(self.repetition_penalty, self.no_repeat_ngram)
        object.__setattr__(self, "stop", checked_stop(self.stop))


@dataclass(frozen=True, slots=True)
class Token:
    """One token of an answer. An end token is not told, but ends it.

    Attributes:
        id: The token.
        text: What it adds to the answer's text: "" while a character is not complete, or while the text might begin a
            stop string.
        logprob: Its log-probability as the edited base gives it, before repetition control, temperature and
            top-p.
        top: The most probable tokens at its place and their log-probabilities, most probable first.
    """

    id: int
    text: str
    logprob: float
    top: tuple[tuple[int, float], ...] = ()


@dataclass(frozen=True, slots=True)
class Times:
    """When things happened to a request, in nanoseconds of ``time.time_ns``.

    Attributes:
        submitted: It came.
        begun: The engine took it in; None where it never did.
        first: Its first token was there; None where none came.
        ended: It was over.
    """

    submitted: int
    begun: int | None
    first: int | None
    ended: int


@dataclass(frozen=True, slots=True)
class Finished:
    """The end of an answer; nothing comes after it.

    Attributes:
        reason: "stop": an end token or a stop string; "length": ``max_new_tokens``; "cancelled"; "error".
        text: What was held back of the answer's text: all texts in order are the answer.
        prompt_tokens: Tokens of the prompt.
        new_tokens: Tokens of the answer, an end token not counted.
        cached_tokens: Tokens of the prompt whose keys and values were there already.
        edited: Positions of the prompt that were edited, ascending; none for the base.
        problem: What went wrong, where the reason is "error".
        times: When; two ends that differ in it alone are equal.
    """

    reason: Reason
    text: str = ""
    prompt_tokens: int = 0
    new_tokens: int = 0
    cached_tokens: int = 0
    edited: tuple[int, ...] = ()
    problem: Exception | None = None
    times: Times | None = field(default=None, compare=False, repr=False)


Event = Token | Finished


class Handle:
    """The events of one request, from the engine's thread to whoever waits for them.

    Args:
        request: The request.
        listener: Called with each event, from the engine's thread, instead of keeping them for ``get``; it must not
            block, and its exceptions are dropped.
    """

    def __init__(self, request: Request, listener: Callable[[Event], None] | None = None):
        self.request = request
        self._listener = listener
        self._events: queue.SimpleQueue[Event] = queue.SimpleQueue()
        self._ended = False

    def put(self, event: Event) -> None:
        """Tell an event; for engines."""
        if self._listener is None:
            self._events.put(event)
            return
        try:
            self._listener(event)
        except Exception:  # whoever listens may be gone, and the rows beside this one are not theirs
            self._listener = lambda event: None

    def get(self, timeout: float | None = None) -> Event:
        """The next event.

        Raises:
            TimeoutError: None came within ``timeout`` seconds.
        """
        try:
            return self._events.get(timeout=timeout)
        except queue.Empty:
            raise TimeoutError("no token came in time") from None

    def __iter__(self) -> Iterator[Event]:
        """All events to the end, ``Finished`` last; once."""
        while not self._ended:
            event = self.get()
            self._ended = isinstance(event, Finished)
            yield event


@dataclass(frozen=True, slots=True)
class Stats:
    """Counts of an engine since it began, and how it stands now.

    Attributes:
        waiting, running: Requests now.
        finished: Requests that ended, however.
        prompt_tokens, cached_tokens, new_tokens: Sums over the requests that ended.
        slots, resident, pinned: Of the bank: places, how many hold a shift, how many are in use now.
        loads, evictions: Shifts loaded into the bank, and put out of it for others.
    """

    waiting: int = 0
    running: int = 0
    finished: int = 0
    prompt_tokens: int = 0
    cached_tokens: int = 0
    new_tokens: int = 0
    slots: int = 0
    resident: int = 0
    pinned: int = 0
    loads: int = 0
    evictions: int = 0


class Shifts(Protocol):
    """Where an engine gets the shifts that a version names; called from its loading thread, never from the one that owns
    the base. What comes back is held against the version's digests: a shift of anybody else is refused."""

    def collective(self, digest: str) -> Collective:
        """Both shared shifts by the SHA-256 of their file.

        Raises:
            PerfitError: There are none such.
        """
        ...

    def personal(self, version: ShiftVersion) -> StoredShift:
        """A version's personal shift.

        Raises:
            UnknownUserError: The user, or this version of the user, is not there any more.
            StoreError: It is damaged.
        """
        ...


class Engine(Protocol):
    """Serves requests of any users in any order; all methods may be called from any thread."""

    name: str
    """Which engine, for receipts: "reference", "transformers"."""

    def submit(self, request: Request, listener: Callable[[Event], None] | None = None) -> Handle:
        """Take in a request; its events come through the handle, or to the listener from the engine's thread.

        Raises:
            ConfigError: Prompt and answer do not fit the base, the id is in flight, or the positions are no rule.
            BaseModelError: The version belongs to another base.
            ClosedError: The engine is draining or closed.
        """
        ...

    def cancel(self, request: str) -> bool:
        """End a request at the next step; False where no such one is in flight. Its handle gets "cancelled"."""
        ...

    def forget(self, tenant: str, user: str) -> int:
        """Cancel a user's requests and wipe every shift and every key and value of theirs, of all versions.

        Returns:
            How many shifts were wiped; on return none is left.
        """
        ...

    def drain(self, timeout: float | None = None) -> bool:
        """Take no more requests and wait for those in flight; False where some are left after ``timeout`` seconds."""
        ...

    def close(self) -> None:
        """End everything now; requests in flight get "cancelled". Closing twice is nothing."""
        ...

    def stats(self) -> Stats:
        """How it stands."""
        ...
