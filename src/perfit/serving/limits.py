"""How much is taken in: a token bucket for each tenant, and a bound on what waits."""

from __future__ import annotations

import math
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass

from perfit.serving.faults import RefusedError
from perfit.serving.keys import Tenant

_WAITED_FOR = 10.0  # seconds that places are kept for a tenant that was turned away, and told to come again in one


@dataclass
class _Bucket:
    left: float
    seen: float


class Limits:
    """Admits requests; one object for a server, used from any thread.

    Args:
        most: Requests in flight in all.
        clock: Seconds that never run back.
    """

    def __init__(self, most: int, clock: Callable[[], float] = time.monotonic):
        self.most = most
        self._clock = clock
        self._buckets: dict[str, _Bucket] = {}
        self._flying: dict[str, int] = {}
        self._turned_away: dict[str, float] = {}  # when
        self._lock = threading.Lock()

    def spend(self, tenant: Tenant) -> None:
        """Take a request from a tenant's bucket, which holds a minute's worth.

        Raises:
            RefusedError: It is empty; 429, with the seconds until there is one again.
        """
        rate = tenant.requests_per_minute
        if rate is None:
            return
        with self._lock:
            now = self._clock()
            bucket = self._buckets.setdefault(tenant.name, _Bucket(float(rate), now))
            bucket.left = min(float(rate), bucket.left + (now - bucket.seen) * rate / 60)
            bucket.seen = now
            if bucket.left < 1:
                wait = math.ceil((1 - bucket.left) * 60 / rate)
                raise RefusedError(
                    429,
                    f"more than {rate} requests a minute; wait {wait} s",
                    code="rate_limit_exceeded",
                    retry_after=wait,
                )
            bucket.left -= 1

    def begin(self, tenant: Tenant, answers: int = 1) -> None:
        """Count answers as in flight. A tenant may have all places while it is alone, and an equal share of them beside
        others: those who have answers in flight, and those who were turned away a moment ago.

        Raises:
            RefusedError: There is no place; 429.
        """
        with self._lock:
            now = self._clock()
            self._turned_away = {name: at for name, at in self._turned_away.items() if now - at < _WAITED_FOR}
            mine, all_ = self._flying.get(tenant.name, 0), sum(self._flying.values())
            others = len((self._flying.keys() | self._turned_away.keys()) - {tenant.name})
            if all_ + answers > self.most or (others and mine + answers > max(self.most // (others + 1), 1)):
                self._turned_away[tenant.name] = now
                raise RefusedError(
                    429, "too many requests are waiting; ask again in a moment", code="queue_full", retry_after=1
                )
            self._turned_away.pop(tenant.name, None)
            self._flying[tenant.name] = mine + answers

    def end(self, tenant: Tenant, answers: int = 1) -> None:
        """Count answers as over."""
        with self._lock:
            left = self._flying[tenant.name] - answers
            if left:
                self._flying[tenant.name] = left
            else:
                del self._flying[tenant.name]

    def flying(self) -> int:
        """How many answers are in flight."""
        with self._lock:
            return sum(self._flying.values())
