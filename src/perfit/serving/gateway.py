"""What a server is made of, and how one answer is given: who asks, which version, what comes of it."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from concurrent.futures import Executor, ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

from perfit.backbone.room import positions_of
from perfit.errors import ConfigError
from perfit.notebook.database import Notebook
from perfit.notebook.items import Items
from perfit.notebook.jobs import Jobs
from perfit.notebook.versions import Versions
from perfit.personalizer import PerFit
from perfit.pseudo_users import COLLECTIVE
from perfit.serving.asking import Asking, Numbered
from perfit.serving.engine import Engine, Finished, Request, Token
from perfit.serving.faults import RefusedError
from perfit.serving.forgetting import Forgetting
from perfit.serving.key_file import KeyFile
from perfit.serving.keys import LOCAL, Keys, Tenant
from perfit.serving.limits import Limits
from perfit.serving.metrics import Metrics
from perfit.serving.people import Lease, People
from perfit.serving.receipts import Receipt
from perfit.serving.token_texts import TokenTexts
from perfit.serving.tracing import RequestTrace, Tracing, Untraced
from perfit.serving.version import ShiftVersion

if TYPE_CHECKING:
    from perfit.serving.worker_process import WorkerProcess

T = TypeVar("T")
_TENDING = 16
_SCORING = 4  # more would not end sooner


@dataclass
class Gateway:
    """Everything a request may need.

    Attributes:
        perfit: The run.
        run: Its folder.
        name: What the model is called in the API.
        engine: Who answers.
        people: Versions of users.
        notebook: What is kept of users beside their shifts.
        keys: Who may ask; None lets everybody on this machine.
        limits: How much is taken in.
        worker: Who trains; None where nobody does.
        tracing: Who is told of spans.
        loading: Threads that fetch shifts for answers, one for each that may be in flight: a bucket that does not answer keeps
            nobody waiting but those whose shifts lie there.
        tending: Threads that fetch shifts for all else, and those that wait until they have the run to themselves.
        scoring: Threads in which labels and answers are scored.
    """

    perfit: PerFit
    run: Path
    name: str
    engine: Engine
    people: People
    notebook: Notebook
    keys: Keys | KeyFile | None
    limits: Limits
    worker: WorkerProcess | None = None
    tracing: Tracing = field(default_factory=Untraced)
    tokens: TokenTexts = field(init=False)
    items: Items = field(init=False)
    jobs: Jobs = field(init=False)
    versions: Versions = field(init=False)
    metrics: Metrics = field(init=False)
    answer_limit: int = field(init=False)
    started: int = field(init=False)
    forgetting: Forgetting = field(init=False)
    loading: Executor = field(init=False)
    tending: Executor = field(init=False)
    scoring: Executor = field(init=False)

    def __post_init__(self) -> None:
        self.loading = ThreadPoolExecutor(self.limits.most, "perfit-loading")
        self.tending = ThreadPoolExecutor(_TENDING, "perfit-tending")
        self.scoring = ThreadPoolExecutor(_SCORING, "perfit-scoring")
        self.tokens = TokenTexts(self.perfit.backbone.tokenizer)
        self.started = int(time.time())
        self.answer_limit = self.perfit.answer_limit()
        self.items, self.jobs, self.versions = Items(self.notebook), Jobs(self.notebook), Versions(self.notebook)
        self.forgetting = Forgetting(
            self.notebook, self.people, self.engine, lambda: (LOCAL,) if self.keys is None else self.keys.tenants
        )
        self.metrics = Metrics(self.engine.stats, self.jobs.waiting, self.limits.flying)

    def room(self, prompt_tokens: int) -> int:
        """How many tokens may follow a prompt.

        Raises:
            ConfigError: None may.
        """
        limit = positions_of(self.perfit.backbone)
        if limit is None:
            return 1 << 20
        if prompt_tokens >= limit:
            raise ConfigError(
                f"prompt: {prompt_tokens} tokens fill the {limit} positions of this base; send a shorter one"
            )
        return limit - prompt_tokens

    def close(self) -> None:
        """End the engine and the worker, and let go of the files."""
        if self.worker is not None:
            self.worker.close()
        self.forgetting.close()
        for threads in (self.loading, self.tending, self.scoring):
            threads.shutdown(wait=False, cancel_futures=True)
        self.engine.close()
        self.notebook.close()
        self.perfit.owners.personal.close()
        self.tracing.close()


@dataclass(frozen=True)
class Asked:
    """Who is asked for, as a request says it.

    Attributes:
        tenant: Who asks.
        user: Whose shift.
    """

    tenant: Tenant
    user: str


def asked_for(tenant: Tenant, user: str | None, personalize: bool) -> Asked:
    """Whose shift a request runs with; nobody's is never a default.

    Args:
        tenant: Who asks.
        user: The field ``user``.
        personalize: The field of this name; False is the shared shift, which knows nothing of the user.

    Raises:
        RefusedError: Nobody is named, or one the tenant may not act for.
    """
    if user is None:
        if personalize:
            raise RefusedError(
                400,
                "user: is missing; name whose shift answers, or 'base' or 'collective', or send personalize: false",
                param="user",
                code="missing_parameter",
            )
        user = COLLECTIVE
    check_user(tenant, user)
    return Asked(tenant, user if personalize else COLLECTIVE)


def check_user(tenant: Tenant, user: str) -> None:
    """Refuse users whom a tenant may not act for, whether they exist or not.

    Raises:
        RefusedError: 403.
    """
    if not tenant.acts_for(user):
        raise RefusedError(403, "user: this key may not act for this user", param="user", code="foreign_user")


class Flight:
    """One request in flight: its place in the queue, the version it holds, its answers; ended once.

    Args:
        gateway: The server.
        asked: Who is asked for.
        trace: The request's spans.
        answers: How many answers are wanted.

    Raises:
        RefusedError: There is no place.
    """

    def __init__(self, gateway: Gateway, asked: Asked, trace: RequestTrace, answers: int = 1):
        self.gateway, self.asked, self.trace, self.answers = gateway, asked, trace, answers
        self._lease = Lease(gateway.people)
        self._asking: Asking | None = None
        self._began = time.perf_counter()
        gateway.limits.begin(asked.tenant, answers)
        self._over = False
        self.receipt: Receipt | None = None

    async def take_off(self) -> None:
        """Hold the version that answers.

        Raises:
            UnknownUserError: The user has no shift.
        """
        await in_thread(lambda: self._lease.take(self.asked.tenant.name, self.asked.user), self.gateway.loading)

    def ask(self, request: Request) -> None:
        """Hand the request to the engine, for the version that is held.

        Raises:
            ConfigError: It does not fit the base.
            ClosedError: The server shuts down.
        """
        version = self._lease.version
        self.receipt = self.note(len(request.prompt))
        self._asking = Asking(
            self.gateway.engine, replace(request, who=version, tenant=self.asked.tenant.name), self.answers
        )

    def note(self, prompt_tokens: int, engine: str | None = None) -> Receipt:
        """The receipt of an answer to a prompt of so many tokens."""
        name = engine if engine is not None else self.gateway.engine.name
        return Receipt.of(self._lease.version, self.gateway.people.base, prompt_tokens, name)

    def check(self) -> None:
        """See that the user is still there, before scores are sent: no engine cuts them off.

        Raises:
            UnknownUserError: The user was erased meanwhile.
        """
        self._lease.check()

    @property
    def version(self) -> ShiftVersion | None:
        """The version that is held; None is the untouched base."""
        return self._lease.version

    async def events(self, gone: Callable[[], Awaitable[bool]]) -> AsyncIterator[Numbered]:
        """All events of all answers.

        Args:
            gone: Whether the client went away, which ends them.

        Raises:
            RefusedError: An answer was cut off.
        """
        assert self._asking is not None
        first = True
        async for numbered in self._asking.events(gone):
            if first and isinstance(numbered.event, Token):
                first = False
                self.gateway.metrics.first_token(time.perf_counter() - self._began)
            elif isinstance(numbered.event, Finished):
                self.trace.answered(numbered.event)
            yield numbered

    def end(self) -> None:
        """Cancel what still runs, let the version go, free the place."""
        if self._over:
            return
        self._over = True
        if self._asking is not None:
            self._asking.cancel()
        self._lease.end()
        self.gateway.limits.end(self.asked.tenant, self.answers)


async def in_thread(act: Callable[[], T], threads: Executor | None = None) -> T:
    """Run what waits for files or tokenizers outside the event loop; once begun it is waited for.

    Args:
        act: What to run.
        threads: Where, if it may wait for a bucket or for the run, or takes seconds; else among the few that all share.
    """
    work = asyncio.get_running_loop().run_in_executor(threads, act)
    try:
        return await asyncio.shield(work)
    except asyncio.CancelledError:
        await asyncio.wait([work])
        raise
