"""A server from a run: opened, bound to an address, and drained when it is told to end."""

from __future__ import annotations

import asyncio
import json
import logging
import shlex
import signal
import socket
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from perfit.errors import ConfigError, StoreError
from perfit.how_to_open import USUAL, HowToOpen
from perfit.notebook.database import Notebook
from perfit.notebook.jobs import Jobs
from perfit.notebook.served import serving
from perfit.personalizer import PerFit
from perfit.pseudo_users import COLLECTIVE
from perfit.run import RunDirectory
from perfit.serving.admission import is_loopback
from perfit.serving.app import check_extra, create_app
from perfit.serving.engines import open_engine
from perfit.serving.gateway import Gateway
from perfit.serving.key_file import KeyFile
from perfit.serving.keys import Keys
from perfit.serving.limits import Limits
from perfit.serving.people import People
from perfit.serving.tracing import check_endpoint, tracing_to
from perfit.serving.worker import WorkerOrders
from perfit.serving.worker_process import WorkerProcess

if TYPE_CHECKING:
    from fastapi import FastAPI

_DRAIN_SECONDS = 30
_BACKLOG = 1024


@dataclass(frozen=True)
class ServeConfig:
    """How a run is served.

    Attributes:
        run: The run's folder.
        host, port: The address; port 0 takes a free one.
        engine: "auto", "reference" or "transformers".
        keys: File of keys; None lets everybody on this machine, and no other machine.
        most: Answers in flight at most; more are told to come again.
        learn: Of one core, how much trainings may take; 0 trains nothing.
        traces: Where spans go, by OTLP over HTTP; None makes none.
        base: Where the run's base lies now, if not where it lay in training.
        how: How the base is opened.
    """

    run: Path
    host: str
    port: int
    engine: str
    keys: Path | None
    most: int
    learn: float
    traces: str | None = None
    base: str | None = None
    how: HowToOpen = USUAL

    def __post_init__(self) -> None:
        if self.keys is None and not is_loopback(self.host):
            raise ConfigError(
                f"--host: {self.host} can be reached from outside; give --keys FILE (perfit keys add makes one), or stay on "
                "127.0.0.1"
            )
        if not 0 <= self.port <= 65535:
            raise ConfigError(f"--port: {self.port} is not possible; give 1 to 65535, or 0 for a free one")
        if self.most < 1:
            raise ConfigError(f"--most: {self.most} is not possible; give at least 1")
        if not 0 <= self.learn <= 1:
            raise ConfigError(f"--learn: {self.learn} is not possible; give a share of one core, from 0 to 1")
        if self.traces is not None:
            check_endpoint(self.traces)


def serve(config: ServeConfig, say: Callable[[str], None]) -> None:
    """Serve a run until SIGTERM or Ctrl-C; then finish what is in flight, for at most half a minute.

    Args:
        config: What and where.
        say: Told the address once requests are taken.

    Raises:
        MissingExtraError: ``perfit[serve]`` is not installed.
        ConfigError, StoreError, BaseModelError: The run cannot be served so, or is served already.
        OSError: The address is taken.
    """
    check_extra()
    keys = None if config.keys is None else KeyFile(config.keys)
    RunDirectory(config.run).manifest()  # a folder that is no run must not be taken for a base
    with serving(config.run), _bound(config) as listening:
        gateway = open_gateway(config, keys, say)
        try:
            app = create_app(gateway)
            asyncio.run(_run(app, listening, lambda: say(_greeting(gateway, listening, config))))
        finally:
            gateway.close()


def open_gateway(config: ServeConfig, keys: Keys | KeyFile | None, say: Callable[[str], None]) -> Gateway:
    """Load base and run, and start engine and worker.

    Raises:
        StoreError, BaseModelError, ConfigError: The run cannot be used.
    """
    perfit = PerFit.from_pretrained(config.run, base_at=config.base, **config.how.given())
    notebook = Notebook(config.run)
    try:
        notebook.finish_erasing()
        people = People(perfit, notebook)
        engine = open_engine(config.engine, perfit.backbone, perfit.config, people, say)
    except BaseException:
        notebook.close()
        raise
    worker = None
    if config.learn:
        orders = WorkerOrders(str(config.run.resolve()), config.learn, config.base, config.how.given())
        worker = WorkerProcess(orders, Jobs(notebook).waiting)
    name = config.run.resolve().name
    limits, tracing = Limits(config.most), tracing_to(config.traces)
    return Gateway(perfit, config.run, name, engine, people, notebook, keys, limits, worker, tracing)


def _bound(config: ServeConfig) -> socket.socket:
    try:
        found = socket.getaddrinfo(config.host, config.port, type=socket.SOCK_STREAM)[0]
        listening = socket.socket(found[0], found[1])
    except OSError as error:
        raise ConfigError(f"--host: {config.host} is no address of this machine ({error.strerror})") from None
    try:
        listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listening.bind(found[4])
        listening.listen(_BACKLOG)
    except OSError as error:
        listening.close()
        raise StoreError(
            f"{config.host} port {config.port}: cannot be served ({error.strerror}); choose another --port"
        ) from None
    return listening


async def _run(app: FastAPI, listening: socket.socket, ready: Callable[[], None]) -> None:
    import uvicorn

    logging.getLogger("uvicorn.error").setLevel(logging.CRITICAL)  # its tracebacks may hold what somebody wrote
    server = uvicorn.Server(
        uvicorn.Config(
            app,
            log_config=None,
            access_log=False,
            server_header=False,
            timeout_keep_alive=30,
            timeout_graceful_shutdown=_DRAIN_SECONDS,
            h11_max_incomplete_event_size=1 << 16,
        )
    )
    # Uvicorn raises the signals again that ended it; here they have done their work then.
    before = {one: signal.signal(one, lambda *_: None) for one in (signal.SIGTERM, signal.SIGINT)}
    serving = asyncio.create_task(server.serve(sockets=[listening]))
    try:
        while not server.started and not serving.done():
            await asyncio.sleep(0.01)
        if server.started:
            ready()
        await serving
    finally:
        for one, handler in before.items():
            signal.signal(one, handler)


def _greeting(gateway: Gateway, listening: socket.socket, config: ServeConfig) -> str:
    host, port = listening.getsockname()[:2]
    address = f"http://{f'[{host}]' if ':' in host else host}:{port}"
    # On a terminal alone: what is printed elsewhere is a log, and logs hold no ids.
    user = next(iter(gateway.perfit.users()[:1]), COLLECTIVE) if sys.stdout.isatty() else COLLECTIVE
    key = "" if config.keys is None else " -H 'authorization: Bearer KEY'"
    body = json.dumps({"user": user if config.keys is None else "USER", "input": "A storm closed the harbour."})
    return (
        f"serving {gateway.name} at {address} ({gateway.engine.name}); page: {address}/ ; try: "
        f"curl {address}/v1/tasks/answer{key} -H 'content-type: application/json' -d {shlex.quote(body)}"
    )
