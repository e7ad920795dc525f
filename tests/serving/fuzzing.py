"""Requests that nobody means: valid ones with something wrong in them, any JSON, any bytes, any address; the suite sends some
hundred, ``benchmarks/serving_faults.py`` as many as it is told."""

from __future__ import annotations

import json
import logging
import random
import string
from collections import Counter
from typing import Any
from urllib.parse import quote

import httpx
from served_run import PROMPT, Site

CANARY = "canary-7c41d"
"""Stands in every text that is sent, so that a log that holds one can be told."""

_TALK = [{"role": "system", "content": f"be brief {CANARY}"}, {"role": "user", "content": f"hello {CANARY}"}]
_ASKED = {"model": "run", "user": "anna", "max_tokens": 2, "temperature": 0.7, "seed": 3, "n": 2, "stop": [CANARY]}
_ITEM = {"text": f"a boat {CANARY}", "folder": "travel"}
VALID: tuple[tuple[str, str, Any], ...] = (
    ("POST", "/v1/completions", _ASKED | {"prompt": f"{PROMPT} {CANARY}", "logprobs": 2}),
    ("POST", "/v1/completions", _ASKED | {"prompt": CANARY, "stream": True, "stream_options": {"include_usage": True}}),
    ("POST", "/v1/chat/completions", _ASKED | {"messages": _TALK, "logprobs": True, "top_logprobs": 2}),
    ("POST", "/v1/chat/completions", _ASKED | {"messages": _TALK, "stream": True, "top_p": 0.9}),
    ("POST", "/v1/tasks/answer", {"user": "ben", "input": f"a lamp {CANARY}"}),
    ("PUT", "/v1/users/{}/history", {"history": [_ITEM, _ITEM | {"text": CANARY}]}),
    ("POST", "/v1/users/{}/feedback", {"input": CANARY, "verdict": "edited", "answer": "work", "text": "family"}),
    (
        "POST",
        "/v1/users/{}/feedback",
        {"input": CANARY, "verdict": "accepted", "answer": "work", "fields": {"a": CANARY}},
    ),
    ("POST", "/v1/users/{}/personalize", None),
    ("GET", "/v1/users/{}/personalize", None),
    ("GET", "/v1/users/{}/shift", None),
    ("GET", "/v1/users/{}/versions", None),
    ("POST", "/v1/users/{}/rollback", {"version": 1}),
    ("DELETE", "/v1/users/{}", None),
    ("GET", "/v1/users", None),
    ("GET", "/v1/models/{}", None),
    ("GET", "/metrics", None),
)


def _quoted(text: str, safe: str) -> str:
    return quote(text.encode(errors="surrogatepass"), safe=safe)


class Logged(logging.Handler):
    """Everything that is logged by anybody, as it would be written."""

    def __init__(self) -> None:
        super().__init__(logging.DEBUG)
        self.lines: list[str] = []
        self.setFormatter(logging.Formatter("%(name)s %(message)s"))

    def emit(self, record: logging.LogRecord) -> None:
        self.lines.append(self.format(record))

    def __enter__(self) -> Logged:
        root = logging.getLogger()
        self._level = root.level
        root.addHandler(self)
        root.setLevel(logging.DEBUG)
        for name in ("httpx", "httpcore"):  # the client's own
            logging.getLogger(name).setLevel(logging.WARNING)
        return self

    def __exit__(self, *_: object) -> None:
        logging.getLogger().removeHandler(self)
        logging.getLogger().setLevel(self._level)


class Fuzzer:
    """Sends requests to a site and remembers what came.

    Attributes:
        statuses: How often each status came.
        wrong: Requests whose answer nobody may get: a 500, or an error that has not the form of one.
    """

    def __init__(self, site: Site, seed: int):
        self.site, self.random = site, random.Random(seed)
        self.statuses: Counter[int] = Counter()
        self.wrong: list[str] = []

    def run(self, count: int) -> None:
        """So many requests; AssertionError where the server logs a text, or does not answer as before afterwards."""
        asked = {"user": "cleo", "prompt": PROMPT, "max_tokens": 4, "logprobs": 1}
        before = self.site.post("/v1/completions", asked).json()["choices"]
        with Logged() as logged:
            for _ in range(count):
                self.one()
        told = [line for line in logged.lines if CANARY in line]
        assert not told, told[:3]
        assert CANARY not in self.site.http.get("/metrics").text
        assert self.site.http.get("/health").status_code == 200
        assert self.site.post("/v1/completions", asked).json()["choices"] == before, "others' answers changed"

    def one(self) -> None:
        method, path, body = self.random.choice(VALID)
        path = path.replace("{}", _quoted(self._user(), "/" if self._chance(0.3) else ""))
        headers = {"content-type": "application/json"}
        content = b"" if body is None else self._broken(body)
        if self._chance(0.05):
            path = _quoted("/v1/" + self._text(), "/?%&=")
        if self._chance(0.05):
            method = self.random.choice(("GET", "POST", "PUT", "DELETE", "PATCH", "OPTIONS", "HEAD"))
        if self._chance(0.1):
            value = self.random.choice(("Bearer " + CANARY, "Basic x", "", CANARY * 50, "application/xml"))
            headers[self.random.choice(("authorization", "content-type", "accept", "x-request-id", "origin"))] = value
        try:
            # A new address each time: what is not as HTTP says closes a connection.
            said = self.site.http.request(method, path, content=content, headers=headers)
        except (httpx.InvalidURL, httpx.LocalProtocolError):
            self.statuses[0] += 1  # the client would not send it
            return
        self.statuses[said.status_code] += 1
        if not self._in_form(said):
            self.wrong.append(f"{said.status_code} {method} {path} {content[:300]!r}: {said.text[:300]}")

    def _in_form(self, said: httpx.Response) -> bool:
        if said.status_code < 400 or said.request.method == "HEAD":
            return True
        try:
            error = said.json()["error"]
        except (ValueError, KeyError, TypeError):
            return False
        if said.status_code == 503:
            return bool(error["code"] == "no_training")  # this site trains nobody
        return said.status_code < 500 and isinstance(error["message"], str) and "Traceback" not in said.text

    def _broken(self, body: Any) -> bytes:
        """A body with something wrong in it, or nothing."""
        kind = self.random.random()
        if kind < 0.1:
            return json.dumps(body).encode()
        if kind < 0.2:
            return bytes(self.random.randrange(256) for _ in range(self.random.randrange(60)))
        if kind < 0.3:
            text = json.dumps(body).encode()
            place = self.random.randrange(len(text))
            cut = text[:place] + bytes([self.random.randrange(256)]) + text[place + self.random.randrange(3) :]
            return self.random.choice((cut, text[:place], text + text, b"[" * 5000, b'{"a":' * 3000))
        if kind < 0.35:
            return self._json(self._value(0))
        changed = json.loads(json.dumps(body))
        for _ in range(self.random.choice((1, 1, 1, 2, 4))):
            self._change(changed)
        return self._json(changed)

    def _change(self, value: Any) -> None:
        """Something in a value, somewhere."""
        if isinstance(value, dict) and value:
            name = self.random.choice([*value])
            if isinstance(value[name], dict | list) and self._chance(0.5):
                self._change(value[name])
            elif self._chance(0.2):
                del value[name]
            elif self._chance(0.1):
                value[self._text()] = self._value(1)
            else:
                value[name] = self._value(0)
        elif isinstance(value, list) and value:
            place = self.random.randrange(len(value))
            if isinstance(value[place], dict | list) and self._chance(0.7):
                self._change(value[place])
            else:
                value[place : place + self.random.randrange(2)] = [self._value(1)] * self.random.choice((0, 1, 3))

    def _value(self, depth: int) -> Any:
        kind = self.random.randrange(9 if depth < 3 else 7)
        if kind < 3:
            return self._text()
        if kind == 3:
            return self.random.choice((0, -1, 1, 2, 1 << 31, 1 << 63, 10**40, -(10**400)))
        if kind == 4:
            return self.random.choice((0.0, -0.0, 0.5, 1e308, -1e-308, float("nan"), float("inf")))
        if kind < 7:
            return self.random.choice((None, True, False, "", [], {}, "base", "anna"))
        if kind == 7:
            return [self._value(depth + 1) for _ in range(self.random.randrange(4))]
        return {self._text(): self._value(depth + 1) for _ in range(self.random.randrange(4))}

    def _text(self) -> str:
        odd = self.random.choice(
            (
                "",
                "\0",
                "\n",
                "\ud800",
                "\U0001f600",
                "é" * 30,
                "../../etc/passwd",
                "{{7*7}}",
                "<s>",
                "%00",
                "'; --",
                " ",
            )
        )
        more = "".join(self.random.choice(string.printable) for _ in range(self.random.randrange(6)))
        return CANARY + odd + more * self.random.choice((1, 1, 1, 300))

    def _user(self) -> str:
        known = ("base", "collective", "", "nobody", f"{CANARY}-1", f"{CANARY}-2", "../anna", "a/b")
        # Never anna, ben or cleo: what they are answered must stay.
        return self.random.choice(known) if self._chance(0.7) else self._text()

    def _json(self, value: Any) -> bytes:
        return json.dumps(value).encode()

    def _chance(self, share: float) -> bool:
        return self.random.random() < share
