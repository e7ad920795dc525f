"""A hundred thousand users behind one server: how long the first answer to a user waits for their shift, whether memory
grows over ten thousand requests, and what a tenant that floods does to another.

    python benchmarks/serving_store.py
    python benchmarks/serving_store.py --quick

The base is tiny but as wide as SmolLM2-135M (576), so that shifts have the size of real ones; users' shifts are random and
written as a training writes them. *Cold* is a user who was not asked for before, with the file's pages thrown out of the
system's cache where the system does so when asked; it is read, checked and decoded as for an answer. Memory is that of the
server's process. The flood comes from a process of its own, as fast as a tenant with an allowance is answered or refused.
"""

from __future__ import annotations

import argparse
import multiprocessing
import os
import random
import re
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import httpx
import torch
from tables import markdown

sys.path.insert(0, str(Path(__file__).parents[1] / "tests"))
sys.path.insert(0, str(Path(__file__).parents[1] / "tests" / "serving"))

from served_run import PROMPT
from small_base import CONFIG, TASK, dataset, write_base

from perfit.edits.shift import new_shift, to_stored
from perfit.notebook.database import Notebook
from perfit.personalizer import PerFit
from perfit.serving.keys import add_key
from perfit.serving.loading import Loader
from perfit.serving.people import People
from perfit.store.payload import StoredShift

_WIDTH, _AT_ONCE = 576, 8
_QUIET, _NOISY = "quiet", "noisy"
_ALLOWED, _SENT = 60, 20  # a minute, and a second


def main() -> None:
    """Fill a store and print three tables."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--users", type=int, default=100_000)
    parser.add_argument("--cold", type=int, default=2000, help="users who are asked for once")
    parser.add_argument("--requests", type=int, default=10_000, help="of the soak")
    parser.add_argument("--phase", type=int, default=200, help="requests of the quiet tenant in a phase")
    parser.add_argument("--folder", type=Path, default=None, help="where the store is kept, and found again")
    parser.add_argument("--parts", nargs="+", choices=["cold", "soak", "flood"], default=["cold", "soak", "flood"])
    parser.add_argument("--quick", action="store_true", help="small numbers: whether it runs")
    given = parser.parse_args()
    if given.quick:
        given.users, given.cold, given.requests, given.phase = 300, 50, 120, 20
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as temporary:
        folder = given.folder if given.folder is not None else Path(temporary)
        run = folder / "run"
        if not run.exists():
            _apart(lambda: _fill(folder, given.users))
        if "cold" in given.parts:
            _apart(lambda: _cold(run, given.users, given.cold))
        if "soak" in given.parts:
            with served(run, "--learn", "0") as (url, pid):
                print(_soak(url, pid, given.users, given.requests))
        if "flood" in given.parts:
            keys = Path(temporary) / "keys.json"
            named = {
                _QUIET: add_key(keys, _QUIET, ["user-*"], ["answer"], None),
                _NOISY: add_key(keys, _NOISY, ["user-*"], ["answer"], _ALLOWED),
            }
            with served(run, "--learn", "0", "--keys", str(keys)) as (url, _):
                print(_flooded(url, named, given.users, given.phase))


def _apart(act) -> None:  # type: ignore[no-untyped-def]
    """In a process of its own: it opens the run, and another may do so afterwards."""
    child = multiprocessing.get_context("fork").Process(target=act)
    child.start()
    child.join()
    if child.exitcode:
        sys.exit(child.exitcode)


def _fill(folder: Path, count: int) -> None:
    write_base(folder / "base", width=_WIDTH)
    perfit = PerFit.from_pretrained(folder / "base", replace(CONFIG, personal_rank=8), task=TASK)
    perfit.fit(dataset(("anna",)), run=folder / "run", listener=lambda event: None)
    like = perfit.owners.personal.stored("anna")
    shape = like.tensors["R"].shape
    made = [to_stored(new_shift(shape, init="loreft", generator=torch.Generator().manual_seed(n))) for n in range(64)]
    began = time.perf_counter()
    for first in range(0, count, 1000):
        entries = []
        for number in range(first, min(first + 1000, count)):
            tensors = {name: value.clone() for name, value in made[number % len(made)].items()}
            tensors["b"] += number / count
            entries.append((_name(number), StoredShift(tensors, like.meta)))
        perfit.owners.personal.put_stored(entries)
    seconds = time.perf_counter() - began
    perfit.owners.personal.close()
    size = sum(path.stat().st_size for path in (folder / "run").rglob("*") if path.is_file())
    print(
        f"{count:,} users of {tuple(shape)} written in {seconds:.0f} s; {size / 2**20:,.0f} MiB, {size / count:,.0f} bytes each\n"
    )


def _cold(run: Path, count: int, asked: int) -> None:
    perfit = PerFit.from_pretrained(run)
    chance, rows = random.Random(0), []
    with Notebook(run) as notebook:
        people = People(perfit, notebook)
        loader = Loader(people, len(perfit.config.layers), _WIDTH)
        chosen = chance.sample(range(count), asked)
        for name in ("cold", "again"):
            if name == "cold":
                _forget_pages(run)
            seconds = []
            for number in chosen:
                began = time.perf_counter()
                version = people.hold("t", _name(number))
                assert version is not None
                loader.load(version)
                seconds.append(time.perf_counter() - began)
                people.let_go(version)
            rows.append([name, f"{asked:,}", *(f"{1000 * value:.2f}" for value in _places(seconds))])
    perfit.owners.personal.close()
    print(markdown(["a user's shift", "users", "p50 ms", "p99 ms", "longest ms"], rows))


def _forget_pages(run: Path) -> None:
    """In a process of its own: whoever closes a file that SQLite has open loses SQLite's locks."""
    text = "import os, sys\nfor path in sys.argv[1:]:\n    file = os.open(path, os.O_RDONLY)\n    os.fsync(file)\n"
    text += "    os.posix_fadvise(file, 0, 0, os.POSIX_FADV_DONTNEED)\n"
    subprocess.run([sys.executable, "-c", text, *map(str, run.rglob("*.sqlite"))], check=True)


@contextmanager
def served(run: Path, *more: str) -> Iterator[tuple[str, int]]:
    """``perfit serve`` in a process of its own."""
    command = [sys.executable, "-m", "perfit", "serve", str(run), "--port", "0", "--device", "cpu", *more]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True)
    try:
        assert process.stdout is not None
        line = process.stdout.readline()
        found = re.search(r"http://\S+", line)
        if found is None:
            sys.exit(f"the server did not start: {line}")
        yield found[0].rstrip(";"), process.pid
    finally:
        process.terminate()
        process.wait()


def _soak(url: str, pid: int, count: int, requests: int) -> str:
    """So many requests, ``_AT_ONCE`` together, each of a user drawn from all; the server's memory on the way."""
    rows, began, lock = [], time.perf_counter(), threading.Lock()
    numbers = iter(range(1, requests + 1))

    def ask() -> None:
        with httpx.Client(base_url=url, timeout=120) as http:
            while True:
                with lock:
                    number = next(numbers, None)
                    if number is None:
                        return
                    if number == 1 or number % max(requests // 10, 1) == 0:
                        rows.append([f"{number:,}", f"{_resident(pid):.1f}", f"{time.perf_counter() - began:.0f}"])
                        print(*rows[-1], file=sys.stderr, flush=True)
                user = _name(random.Random(number).randrange(count))
                body = {"user": user, "prompt": f"{PROMPT} {number}", "max_tokens": 2}
                http.post("/v1/completions", json=body).raise_for_status()

    threads = [threading.Thread(target=ask) for _ in range(_AT_ONCE)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return markdown(["requests", "resident MiB", "seconds"], rows)


def _flooded(url: str, keys: dict[str, str], count: int, phase: int) -> str:
    """The quiet tenant alone, beside the flood, beside the flood, alone; and again."""
    found: dict[str, list[list[float]]] = {"alone": [], "beside a flood": []}
    sent = [0, 0]
    with httpx.Client(base_url=url, timeout=120, headers={"authorization": f"Bearer {keys[_QUIET]}"}) as http:
        _phase(http, count, 5)
        for turn in (0, 1, 1, 0, 0, 1, 1, 0):
            stop, told = multiprocessing.Event(), multiprocessing.SimpleQueue()
            noisy = multiprocessing.Process(target=_flood, args=(url, keys[_NOISY], count, stop, told))
            if turn:
                noisy.start()
                told.get()
            found[[*found][turn]].append(_phase(http, count, phase))
            if turn:
                stop.set()
                answered, refused = told.get()
                sent[0], sent[1] = sent[0] + answered, sent[1] + refused
                noisy.join()
    rows, before = [], statistics.median(_places(one)[1] for one in found["alone"])
    for name, phases in found.items():
        places = [_places(one) for one in phases]
        p99 = [place[1] for place in places]
        rows.append(
            [
                name,
                str(sum(map(len, phases))),
                f"{1000 * statistics.median(place[0] for place in places):.1f}",
                f"{1000 * statistics.median(p99):.1f} ({1000 * min(p99):.1f} to {1000 * max(p99):.1f})",
                f"{statistics.median(p99) / before - 1:+.0%}",
            ]
        )
    table = markdown(["the quiet tenant is", "requests", "p50 ms", "p99 ms, median of four phases", "p99 moved"], rows)
    sent_ = f"{sent[0]:,} were answered, {sent[1]:,} refused (429)"
    return f"{table}\nThe noisy tenant sends up to {_SENT} a second and may send {_ALLOWED} a minute: {sent_}.\n"


def _phase(http: httpx.Client, count: int, requests: int) -> list[float]:
    chance, seconds = random.Random(count), []
    for number in range(requests):
        body = {"user": _name(chance.randrange(count)), "prompt": f"{PROMPT} {number}", "max_tokens": 8}
        began = time.perf_counter()
        http.post("/v1/completions", json=body).raise_for_status()
        seconds.append(time.perf_counter() - began)
    return seconds


def _flood(url: str, key: str, count: int, stop, told) -> None:  # type: ignore[no-untyped-def]
    """Far more than the allowance, whatever is answered; says when the minute's worth of a fresh bucket is spent."""
    os.nice(10)  # it shares a core with the server, as no real one does
    answered = refused = 0
    with httpx.Client(base_url=url, timeout=120, headers={"authorization": f"Bearer {key}"}) as http:
        while not stop.is_set():
            body = {"user": _name(random.randrange(count)), "prompt": PROMPT, "max_tokens": 8}
            status = http.post("/v1/completions", json=body).status_code
            if status == 429 and not refused:
                told.put(None)
                answered = 0
            refused += status == 429
            answered += status == 200
            if refused:
                time.sleep(1 / _SENT)
    told.put((answered, refused))


def _places(seconds: list[float]) -> tuple[float, float, float]:
    ordered = sorted(seconds)
    return statistics.median(ordered), ordered[min(int(0.99 * len(ordered)), len(ordered) - 1)], ordered[-1]


def _resident(pid: int) -> float:
    text = Path(f"/proc/{pid}/status").read_text()
    found = re.search(r"VmRSS:\s+(\d+) kB", text)
    assert found is not None
    return int(found[1]) / 1024


def _name(number: int) -> str:
    return f"user-{number:06d}"


if __name__ == "__main__":
    main()
