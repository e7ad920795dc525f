"""A server whose users' shifts lie in a bucket: learnt, rolled back and erased as ever, and a slow bucket stops nobody else."""

from __future__ import annotations

import shutil
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
from bucket import URL, Bucket, in_memory
from served_run import PROMPT, Site, site
from small_base import person

from perfit.belonging import open_store
from perfit.errors import StoreError
from perfit.notebook.database import Notebook
from perfit.notebook.items import Items
from perfit.notebook.versions import Versions
from perfit.run import RunDirectory
from perfit.serving import learning
from perfit.serving.updating import Updates
from perfit.store.objects import Objects
from perfit.upkeep.encrypt import encrypt
from perfit.upkeep.fsck import fsck
from perfit.upkeep.move import move

CANARY = "canary-77ab"


@pytest.fixture
def bucket() -> Iterator[Bucket]:
    with in_memory() as one:
        yield one


def ask(one: Site, user: str, **more: Any) -> Any:
    return one.post("/v1/completions", {"user": user, "prompt": PROMPT, "max_tokens": 4, **more})


def learn(one: Site, user: str) -> Any:
    """Train in this process what was asked for, as the worker does, and say what became of it."""
    one.gateway.jobs.ask(user)
    updates = Updates(one.perfit, RunDirectory(one.gateway.run), one.gateway.notebook, lambda: None)
    while updates.run_one():
        pass
    return one.http.get(f"/v1/users/{user}/personalize").json()


@pytest.mark.parametrize("where", ["files", "bucket"])
def test_an_encrypted_run_over_http(own_run: Path, tmp_path: Path, bucket: Bucket, where: str) -> None:
    """From the first history to the erasure: nothing readable on the disk or in the bucket, and in no copy afterwards."""
    run, user = RunDirectory(own_run), f"user-{CANARY}"
    encrypt(run, tmp_path / "keys")
    if where == "bucket":
        move(run, URL)

    def planted(*texts: bytes) -> list[str]:
        files = {path.name: path.read_bytes() for path in own_run.rglob("*") if path.is_file()}
        return [name for name, found in {**files, **bucket.objects()}.items() if any(text in found for text in texts)]

    texts = [
        {"text": f"{item.fields['text']} {CANARY}", "folder": "travel"} for item in person("d", history=10).history
    ]
    with site(own_run) as one:
        assert one.http.put(f"/v1/users/{user}/history", json={"history": texts}).status_code == 200
        told = {"input": f"storm {CANARY}", "verdict": "edited", "text": "travel"}
        assert one.post(f"/v1/users/{user}/feedback", told).status_code == 200
        assert learn(one, user)["state"] == "live"
        one.http.put(f"/v1/users/{user}/history", json={"history": texts[:7]})
        assert learn(one, user)["result"]["version"] == 2
        first = one.post(f"/v1/users/{user}/rollback", {"version": 1})
        assert first.json() == {"live": 1}
        assert ask(one, user).status_code == 200
        exported = one.http.get(f"/v1/users/{user}/shift")
        assert exported.status_code == 200
        values = one.gateway.people.stored(user).tensors["D"].flatten()[:64].view(dtype=_bytes()).numpy().tobytes()
        assert values in exported.content
        assert planted(values, f"storm {CANARY}".encode(), texts[0]["text"].encode()) == []
        copy, objects = RunDirectory(tmp_path / "copy"), bucket.objects()
        shutil.copytree(own_run, copy.path)
        with open_store(copy) as store:
            assert store.get(user).tensors
        gone = one.http.delete(f"/v1/users/{user}")
        assert gone.status_code == 200
        assert ask(one, user).status_code == 404
        assert ask(one, "anna").status_code == 200
    assert planted(CANARY.encode(), values) == []
    bucket.system.pipe(objects)  # of a backup
    with open_store(copy) as store, Notebook(copy.path) as notebook:
        for read in (
            lambda: store.get(user),
            lambda: Items(notebook).of(user),
            lambda: Versions(notebook).stored(user, 1),
        ):
            with pytest.raises(StoreError, match="has no data key of this user"):
                read()
        assert store.get("anna").tensors


def _bytes() -> Any:
    import torch

    return torch.uint8


def test_a_slow_bucket_stops_nobody_whose_shift_does_not_lie_there(
    own_run: Path, bucket: Bucket, monkeypatch: pytest.MonkeyPatch
) -> None:
    """More answers wait for it than the threads that all share: others are answered, listed, told of and rolled back."""
    move(RunDirectory(own_run), URL)
    real, asked, go = Objects.get, threading.Semaphore(0), threading.Event()

    def slow(objects: Objects, user: str, reference: str) -> bytes:
        if user == "anna":
            asked.release()
            assert go.wait(60)
        return real(objects, user, reference)

    with site(own_run, most=64) as one, ThreadPoolExecutor(40) as askers:
        alone = ask(one, "anna").json()["choices"]
        monkeypatch.setattr(Objects, "get", slow)
        waiting = [askers.submit(ask, one, "anna") for _ in range(36)]
        for _ in waiting:
            assert asked.acquire(timeout=60)
        for user in ("ben", "collective", "base"):
            assert ask(one, user).status_code == 200
        assert (
            one.http.put("/v1/users/ben/history", json={"history": [{"text": "a", "folder": "work"}]}).status_code
            == 200
        )
        assert one.http.get("/v1/users/ben/versions").status_code == 200
        assert one.http.get("/health").status_code == 200
        assert not any(one.done() for one in waiting)
        go.set()
        assert [one.result().json()["choices"] for one in waiting] == [alone] * 36


def test_a_bucket_that_does_not_answer_is_said_and_an_erasure_goes_on(
    own_run: Path, bucket: Bucket, monkeypatch: pytest.MonkeyPatch
) -> None:
    move(RunDirectory(own_run), URL)
    monkeypatch.setattr(learning, "_LOCK_SECONDS", 0)
    with site(own_run) as one:
        bucket.fail(1, lasting=True)
        for answer in (ask(one, "anna"), one.http.get("/v1/users/anna/shift"), one.http.delete("/v1/users/anna")):
            assert (answer.status_code, answer.json()["error"]["code"]) == (503, "unreachable")
            assert answer.headers["retry-after"] == "5"
            assert "s3:" not in answer.text
        assert ask(one, "collective").status_code == 200
        assert ask(one, "anna").status_code == 404  # the row is gone, what the bucket holds is not
        bucket.fail(0)
        assert ask(one, "ben").status_code == 200
        assert len(bucket.objects()) == 3
        gone = one.http.delete("/v1/users/anna")
        assert gone.status_code == 200
        assert len(bucket.objects()) == 2
    assert fsck(RunDirectory(own_run)) == []
