"""One question to a running server, over HTTP by the standard library alone."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from http.client import HTTPException, HTTPResponse
from typing import Any
from urllib.error import HTTPError, URLError
from urllib.parse import urlsplit
from urllib.request import HTTPRedirectHandler, Request, build_opener

from perfit.errors import ConfigError
from perfit.shown import shown

_SECONDS = 300.0
_MOST_BYTES = 1 << 24


class _Nowhere(HTTPRedirectHandler):
    """A key goes to the address that was named and to no other."""

    def redirect_request(self, *asked: Any) -> None:
        """Follow nothing; the redirect is the answer, and a fault."""


def answer(url: str, text: str, user: str, key: str | None = None) -> str:
    """The answer of the run's task, ``/v1/tasks/answer``.

    Args:
        url: The server, such as ``http://127.0.0.1:8000``.
        text: What is asked.
        user: Whose shift answers, or ``base`` or ``collective``.
        key: A key of the server, where it has any.

    Raises:
        ConfigError: The server is not there, or refuses.
    """
    with _asked(url, "/v1/tasks/answer", {"user": user, "input": text}, key) as response:
        try:
            return str(json.loads(response.read(_MOST_BYTES))["answer"])
        except (ValueError, KeyError, TypeError):
            raise _stranger(url) from None


def pieces(url: str, text: str, user: str, key: str | None = None) -> Iterator[str]:
    """The answer to a text as the only message of a conversation, ``/v1/chat/completions``, as it comes.

    Args:
        url, text, user, key: As for ``answer``.

    Raises:
        ConfigError: The server is not there, refuses, or goes away before the end.
    """
    body = {"user": user, "messages": [{"role": "user", "content": text}], "stream": True}
    with _asked(url, "/v1/chat/completions", body, key) as response:
        for line in response:
            if not line.startswith(b"data: "):
                continue
            if line.strip() == b"data: [DONE]":
                return
            try:
                event = json.loads(line[6:])
                if "error" in event:
                    raise ConfigError(f"the server says: {shown(event['error']['message'], 300)}")
                for choice in event["choices"]:
                    yield str(choice["delta"].get("content") or "")
            except (ValueError, KeyError, TypeError):
                raise _stranger(url) from None
        raise ConfigError(f"--url: {shown(url)} went away before the answer's end; ask again")


@contextmanager
def _asked(url: str, path: str, body: dict[str, Any], key: str | None) -> Iterator[HTTPResponse]:
    if urlsplit(url).scheme not in ("http", "https") or not urlsplit(url).hostname:
        raise ConfigError(f"--url: {shown(url)} is no address of a server; give one such as http://127.0.0.1:8000")
    headers = {"content-type": "application/json"} | ({} if key is None else {"authorization": f"Bearer {key}"})
    request = Request(url.rstrip("/") + path, json.dumps(body).encode(), headers)
    try:
        with build_opener(_Nowhere()).open(request, timeout=_SECONDS) as response:
            yield response
    except HTTPError as error:
        with error:
            raise ConfigError(f"the server says: {_reason(error)}") from None
    except (URLError, HTTPException, OSError, ValueError) as error:
        why = shown(str(getattr(error, "reason", "") or type(error).__name__), 200)
        raise ConfigError(f"--url: {shown(url)} does not answer ({why}); is perfit serve running there?") from None


def _reason(error: HTTPError) -> str:
    try:
        return shown(json.loads(error.read(_MOST_BYTES))["error"]["message"], 300)
    except (ValueError, KeyError, TypeError, OSError):
        return f"{error.code}, and not as perfit serve would; check --url"


def _stranger(url: str) -> ConfigError:
    return ConfigError(f"--url: {shown(url)} answers, but not as perfit serve does; check the address")
