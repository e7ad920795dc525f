"""A tiny run whose base can chat, served by a real HTTP server in a thread of this process."""

from __future__ import annotations

import json
import socket
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import uvicorn
from small_base import CONFIG, TASK, dataset, write_base

from perfit.how_to_open import HowToOpen
from perfit.notebook.served import serving
from perfit.personalizer import PerFit
from perfit.serving.app import create_app
from perfit.serving.gateway import Gateway
from perfit.serving.key_file import KeyFile
from perfit.serving.keys import Keys
from perfit.serving.server import ServeConfig, open_gateway
from perfit.tasks.task import Task

CHAT = (
    "{% for message in messages %}{{ '<s>' + message.role + ': ' + message.content + '\n' }}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<s>assistant:' }}{% endif %}"
)
NAMES = ("anna", "ben", "cleo")
PROMPT = TASK.prompt.replace("{input}", "river stone lamp boat")


def write_chat_base(folder: Path) -> Path:
    """The tiny base with a chat template."""
    write_base(folder)
    path = folder / "tokenizer_config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"chat_template": CHAT}))
    return folder


def train(folder: Path, task: Task = TASK) -> Path:
    """A run of three users in ``folder``."""
    perfit = PerFit.from_pretrained(write_chat_base(folder / "base"), CONFIG, task=task)
    perfit.fit(dataset(NAMES), run=folder / "run", listener=lambda event: None)
    return folder / "run"


@dataclass
class Site:
    """A server that runs.

    Attributes:
        url: Its address.
        gateway: What it is made of.
        http: A client of it.
    """

    url: str
    gateway: Gateway
    http: httpx.Client

    @property
    def perfit(self) -> PerFit:
        return self.gateway.perfit

    def post(self, path: str, body: Any, **more: Any) -> httpx.Response:
        return self.http.post(path, json=body, **more)


@contextmanager
def site(
    run: Path, *, keys: Keys | KeyFile | None = None, most: int = 64, learn: float = 0.0, engine: str = "reference"
) -> Iterator[Site]:
    """Serve a run until the end of the block."""
    config = ServeConfig(run, "127.0.0.1", 0, engine, None, most, learn, how=HowToOpen(device="cpu"))
    with serving(run):
        yield from _site(config, keys)


def _site(config: ServeConfig, keys: Keys | KeyFile | None) -> Iterator[Site]:
    gateway = open_gateway(config, keys, lambda line: None)
    server = uvicorn.Server(uvicorn.Config(create_app(gateway), port=0, log_config=None, access_log=False))
    thread = threading.Thread(target=server.run, daemon=True)
    thread.start()
    while not server.started:
        assert thread.is_alive()
        time.sleep(0.01)
    listening = server.servers[0].sockets[0]
    # A connection has this one's: who does not read is noticed after little.
    listening.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 1 << 14)
    port = listening.getsockname()[1]
    url = f"http://127.0.0.1:{port}"
    try:
        with httpx.Client(base_url=url, timeout=60) as http:
            yield Site(url, gateway, http)
    finally:
        server.should_exit = True
        thread.join(30)
        assert not thread.is_alive()
