"""One answer from an engine, as its tokens come, for whoever waits in an event loop."""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from dataclasses import dataclass, replace

from perfit.serving.engine import Engine, Event, Finished, Request, Token
from perfit.serving.faults import RefusedError, refused

_LOOK_SECONDS = 0.2


class ClientGoneError(Exception):
    """Whoever asked has gone away."""


@dataclass(frozen=True)
class Numbered:
    """An event of one of several answers to a prompt."""

    choice: int
    event: Event


class Asking:
    """Several answers to one prompt, in flight together; left or cancelled, they end at the engine's next step.

    Args:
        engine: Who answers.
        request: The prompt and how it is answered.
        n: How many answers; each with a seed of its own.
    """

    def __init__(self, engine: Engine, request: Request, n: int = 1):
        self._engine = engine
        self._loop = asyncio.get_running_loop()
        self._events: asyncio.Queue[Numbered] = asyncio.Queue()
        self._going: dict[int, str] = {}
        try:
            for choice in range(n):
                name = secrets.token_hex(12)
                self._going[choice] = name
                engine.submit(replace(request, id=name, seed=request.seed + choice), self._listener(choice))
        except BaseException:
            self.cancel()
            raise

    def _listener(self, choice: int) -> Callable[[Event], None]:
        def told(event: Event) -> None:
            self._loop.call_soon_threadsafe(self._events.put_nowait, Numbered(choice, event))

        return told

    async def events(self, gone: Callable[[], Awaitable[bool]]) -> AsyncIterator[Numbered]:
        """All events to the last end, in the order in which they come.

        Args:
            gone: Whether whoever asked has gone away: looked at now and then, and the answers end.

        Raises:
            RefusedError: An answer ended by a fault, or was cancelled by the server.
            ClientGoneError: Nobody waits any more.
        """
        looked = self._loop.time()
        try:
            while self._going:
                if self._loop.time() - looked >= _LOOK_SECONDS:
                    looked = self._loop.time()
                    if await gone():
                        raise ClientGoneError
                try:
                    numbered = await asyncio.wait_for(self._events.get(), _LOOK_SECONDS)
                except TimeoutError:
                    continue
                if isinstance(numbered.event, Finished):
                    self._going.pop(numbered.choice, None)
                    _check(numbered.event)
                yield numbered
        finally:
            self.cancel()

    def cancel(self) -> None:
        """End what still runs."""
        for name in self._going.values():
            self._engine.cancel(name)
        self._going = {}


def _check(end: Finished) -> None:
    if end.reason == "error":
        problem = end.problem or RuntimeError("an engine gave no reason")
        raise refused(problem) from problem
    if end.reason == "cancelled":
        raise RefusedError(503, "the answer was cut off by the server; ask again", code="cancelled", retry_after=1)


@dataclass
class Gathered:
    """One answer, gathered.

    Attributes:
        text: Its text so far.
        tokens: Its tokens.
        end: How it ended.
    """

    text: str
    tokens: list[Token]
    end: Finished | None = None

    def add(self, event: Event) -> None:
        """Take in an event."""
        self.text += event.text
        if isinstance(event, Token):
            self.tokens.append(event)
        else:
            self.end = event


def gathered(answers: Sequence[Gathered]) -> tuple[int, int, int]:
    """Tokens of the prompt, of them those that were there already, and tokens of all answers."""
    ends = [answer.end for answer in answers if answer.end is not None]
    return (
        max((end.prompt_tokens for end in ends), default=0),
        min((end.cached_tokens for end in ends), default=0),
        sum(end.new_tokens for end in ends),
    )
