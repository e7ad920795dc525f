"""Whether a server can answer: a token of the untouched base, asked for at most once in a few seconds."""

from __future__ import annotations

import asyncio
import time
from typing import Any

from perfit.serving.asking import Asking
from perfit.serving.engine import Finished, Request
from perfit.serving.gateway import Gateway

_FRESH_SECONDS = 5.0
_SECONDS = 30.0


class Health:
    """Looks whether the engine gives a token.

    Args:
        gateway: The server.
    """

    def __init__(self, gateway: Gateway):
        self._gateway = gateway
        self._looked = -_FRESH_SECONDS
        self._well = False
        self._turn = asyncio.Lock()
        tokenizer: Any = gateway.perfit.backbone.tokenizer
        first = tokenizer.bos_token_id if tokenizer.bos_token_id is not None else tokenizer.eos_token_id
        self._prompt = (int(first) if first is not None else 0,)

    async def well(self) -> bool:
        """Whether a token came; true of the last few seconds."""
        async with self._turn:
            if time.monotonic() - self._looked >= _FRESH_SECONDS:
                self._well = await self._token()
                self._looked = time.monotonic()
            return self._well

    async def _token(self) -> bool:
        async def never() -> bool:
            return False

        try:
            async with asyncio.timeout(_SECONDS):
                asking = Asking(self._gateway.engine, Request(id="", prompt=self._prompt, max_new_tokens=1))
                return [
                    numbered.event.reason in ("stop", "length")
                    async for numbered in asking.events(never)
                    if isinstance(numbered.event, Finished)
                ] == [True]
        except Exception:
            return False
