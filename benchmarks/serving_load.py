"""How many answers a second does a server on this machine give, and after how long do they begin and end?

    python benchmarks/serving_load.py http://127.0.0.1:8000 --users 8 --requests 200 --together 8

Streams completions for the first users of the run that is served, in turn, so many together; every request has an own
number in its prompt. Only a loopback address is asked, and at most 10,000 times. The first ``--together`` requests warm up.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import statistics
import sys
import time
from dataclasses import dataclass
from urllib.parse import urlsplit

import httpx
from tables import markdown

from perfit.serving.admission import is_loopback

MOST = 10_000


@dataclass
class Told:
    """One answer: seconds to its first token and to its end, its tokens, its status."""

    first: float
    end: float
    tokens: int
    status: int


async def ask(http: httpx.AsyncClient, user: str, prompt: str, tokens: int) -> Told:
    """One streamed answer."""
    began, first, count = time.perf_counter(), 0.0, 0
    body = {
        "user": user,
        "prompt": prompt,
        "max_tokens": tokens,
        "stream": True,
        "stream_options": {"include_usage": True},
    }
    async with http.stream("POST", "/v1/completions", json=body) as answer:
        async for line in answer.aiter_lines():
            if line.startswith("data: {"):
                first = first or time.perf_counter() - began
                usage = json.loads(line[6:]).get("usage")
                count = usage["completion_tokens"] if usage else count
        return Told(first, time.perf_counter() - began, count, answer.status_code)


async def load(url: str, key: str | None, users: int, requests: int, together: int, tokens: int) -> list[Told]:
    """All answers but those that warm up, and prints how long they took in all."""
    headers = {} if key is None else {"authorization": f"Bearer {key}"}
    async with httpx.AsyncClient(base_url=url, headers=headers, timeout=600) as http:
        names = (await http.get("/v1/users")).raise_for_status().json()["data"][:users] or ["collective"]
        numbers = iter(range(requests + together))
        told: list[Told] = []

        async def one_after_another() -> None:
            for number in numbers:
                text = f"Note {number}: on Saturday a storm closed the harbour and the market. It is about"
                told.append(await ask(http, names[number % len(names)], text, tokens))

        began = time.perf_counter()
        await asyncio.gather(*(one_after_another() for _ in range(together)))
        seconds = time.perf_counter() - began
    kept = told[together:]
    good = [one for one in kept if one.status == 200]
    rate = len(told) / seconds
    spoken = sum(one.tokens for one in told) / seconds
    print(f"{len(names)} users, {len(kept)} requests, {together} together: {len(kept) - len(good)} refused")
    print(row(good, rate, spoken))
    return kept


def row(told: list[Told], rate: float, spoken: float) -> str:
    """The table."""

    def share(values: list[float], place: float) -> str:
        return f"{sorted(values)[min(int(len(values) * place), len(values) - 1)]:.3f}"

    firsts, ends = [one.first for one in told], [one.end for one in told]
    return markdown(
        ("answers/s", "tokens/s", "first token p50 s", "p99 s", "end p50 s", "p99 s"),
        [
            (
                f"{rate:.2f}",
                f"{spoken:.1f}",
                f"{statistics.median(firsts):.3f}",
                share(firsts, 0.99),
                f"{statistics.median(ends):.3f}",
                share(ends, 0.99),
            )
        ],
    )


def main() -> None:
    """Run the benchmark and print its table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("url", help="a server on this machine")
    parser.add_argument("--key", default=None)
    parser.add_argument("--users", type=int, default=8)
    parser.add_argument("--requests", type=int, default=200)
    parser.add_argument("--together", type=int, default=8)
    parser.add_argument("--tokens", type=int, default=16)
    given = parser.parse_args()
    if not is_loopback(urlsplit(given.url).hostname or ""):
        sys.exit(f"{given.url} is not on this machine; only a loopback address is asked")
    if not 1 <= given.requests <= MOST or not 1 <= given.together <= 256:
        sys.exit(f"--requests: give 1 to {MOST:,}; --together: 1 to 256")
    told = asyncio.run(load(given.url, given.key, given.users, given.requests, given.together, given.tokens))
    sys.exit(any(one.status != 200 for one in told))


if __name__ == "__main__":
    main()
