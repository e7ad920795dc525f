"""Prometheus metrics whose number of series is fixed: no user, tenant, text or path is a label."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from perfit.extras import import_extra
from perfit.serving.engine import Stats

_SECONDS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 120)


class Metrics:
    """What a server counts.

    Args:
        stats: How its engine stands.
        jobs: How many trainings wait or run.
        flying: How many answers are in flight.
    """

    def __init__(self, stats: Callable[[], Stats], jobs: Callable[[], int], flying: Callable[[], int]):
        prometheus = import_extra("prometheus_client", "prometheus-client", "serve")
        self._prometheus = prometheus
        self._registry = prometheus.CollectorRegistry()
        made: dict[str, Any] = {"registry": self._registry}
        self._requests = prometheus.Counter(
            "perfit_requests", "Requests by route and status", ["route", "status"], **made
        )
        self._seconds = prometheus.Histogram(
            "perfit_request_seconds", "Seconds until the headers of an answer", ["route"], buckets=_SECONDS, **made
        )
        self._first = prometheus.Histogram(
            "perfit_first_token_seconds", "Seconds until the first token of an answer", buckets=_SECONDS, **made
        )
        self._tokens = prometheus.Counter("perfit_tokens", "Tokens by kind", ["kind"], **made)
        for name, said, read in (
            ("perfit_answers_in_flight", "Answers in flight", flying),
            ("perfit_training_jobs", "Trainings that wait or run", jobs),
            ("perfit_bank_slots", "Places for shifts in the engine", lambda: stats().slots),
            ("perfit_bank_resident", "Shifts in the engine", lambda: stats().resident),
            ("perfit_bank_loads", "Shifts loaded into the engine so far", lambda: stats().loads),
            ("perfit_bank_evictions", "Shifts put out of the engine so far", lambda: stats().evictions),
        ):
            prometheus.Gauge(name, said, **made).set_function(read)

    def request(self, route: str, status: int, seconds: float) -> None:
        """A request whose headers are out. ``route`` is its pattern, never its path."""
        self._requests.labels(route, f"{status // 100}xx" if status != 429 else "429").inc()
        self._seconds.labels(route).observe(seconds)

    def first_token(self, seconds: float) -> None:
        """The first token of an answer is there."""
        self._first.observe(seconds)

    def tokens(self, prompt: int, cached: int, answer: int) -> None:
        """Tokens of answers that are over."""
        for kind, count in (("prompt", prompt), ("cached", cached), ("answer", answer)):
            self._tokens.labels(kind).inc(count)

    def text(self) -> tuple[bytes, str]:
        """The exposition, and its media type."""
        return self._prometheus.generate_latest(self._registry), self._prometheus.CONTENT_TYPE_LATEST
