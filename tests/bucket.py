"""Buckets for tests: fsspec's memory in place of S3, one whose n-th call fails, and moto's server as a process."""

from __future__ import annotations

import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import fsspec
import pytest

from perfit.store.objects import Objects

URL = "s3://bucket/prefix"
_CALLS = ("pipe", "cat_file", "find", "rm", "rm_file", "exists")


@dataclass
class Bucket:
    """A bucket in memory, every call to which is counted and may fail.

    Attributes:
        at: Which call fails, from 1; 0 for none.
        lasting: Whether all later ones fail, too.
        late: Whether a call that fails has done its work all the same; else a write or removal of several does half of it.
        calls: How many there were.
        failed: How many failed.
    """

    system: Any = field(default_factory=lambda: fsspec.filesystem("memory"))
    at: int = 0
    lasting: bool = False
    late: bool = False
    calls: int = 0
    failed: int = 0

    def fail(self, at: int, *, lasting: bool = False, late: bool = False) -> None:
        """From now on."""
        self.at, self.lasting, self.late, self.calls, self.failed = at, lasting, late, 0, 0

    def objects(self) -> dict[str, bytes]:
        """Everything there, past all faults."""
        return {path: self.system.cat_file(path) for path in sorted(self.system.find("/bucket"))}

    def empty(self) -> None:
        """Remove everything."""
        if self.system.exists("/bucket"):
            self.system.rm("/bucket", recursive=True)

    def __getattr__(self, name: str) -> Any:
        assert name in _CALLS, name
        real = getattr(self.system, name)

        def call(*given: Any, **more: Any) -> Any:
            self.calls += 1
            if not self.at or not (self.calls == self.at or (self.lasting and self.calls > self.at)):
                return real(*given, **more)
            self.failed += 1
            if self.late:
                real(*given, **more)
            elif name in ("pipe", "rm"):
                (paths,) = given
                some = list(paths)[: len(paths) // 2]
                if some:
                    real({path: paths[path] for path in some} if name == "pipe" else some)
            raise OSError("secret words of a library")

        return call


@contextmanager
def in_memory() -> Iterator[Bucket]:
    """Every store of this process has its objects in memory."""
    bucket = Bucket()
    bucket.empty()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Objects, "_system", lambda objects: (bucket, objects.url.replace("s3:/", "")))
        yield bucket
    bucket.empty()


@contextmanager
def moto_server() -> Iterator[dict[str, str]]:
    """A server that speaks S3, on loopback; gives what the environment must say to reach it."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    command = [sys.executable, "-m", "moto.server", "-H", "127.0.0.1", "-p", str(port)]
    server = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        until = time.monotonic() + 60
        while True:
            assert server.poll() is None
            try:
                socket.create_connection(("127.0.0.1", port), 1).close()
                break
            except OSError:
                assert time.monotonic() < until
                time.sleep(0.05)
        yield {
            "AWS_ENDPOINT_URL": f"http://127.0.0.1:{port}",
            "AWS_ACCESS_KEY_ID": "AKIACANARYCANARY0001",
            "AWS_SECRET_ACCESS_KEY": "canary-secret-4c1f",
            "AWS_DEFAULT_REGION": "us-east-1",
        }
    finally:
        server.kill()
        server.wait()
