"""Spans of a request for OpenTelemetry: the request, its time in the queue, prefill, decode, and label scoring.

A span holds routes, statuses and counts. Nobody's text or id, no tenant and no path is ever written into one.
"""

from __future__ import annotations

import os
import time
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Protocol

from perfit.errors import ConfigError
from perfit.extras import import_extra
from perfit.serving.engine import Finished

if TYPE_CHECKING:
    from opentelemetry.sdk.trace import SpanProcessor, TracerProvider

_NAMED = "OTEL_SERVICE_NAME"


class RequestTrace(Protocol):
    """The spans of one request."""

    def answered(self, end: Finished) -> None:
        """Tell when an answer of an engine waited, read its prompt, and was made."""
        ...

    def scored(self, began: int, tokens: int) -> None:
        """Tell that labels or an answer were scored from ``began`` (``time.time_ns``) to now, after so many tokens."""
        ...

    def end(self, status: int) -> None:
        """Tell that the request is over, once; later calls are nothing."""
        ...


class Tracing(Protocol):
    """Whoever makes the spans of requests."""

    def begin(self, method: str, route: str, name: str, parent: str | None) -> RequestTrace:
        """A request has come.

        Args:
            method, route: Its method, and the pattern of its path.
            name: The random name that its log line and its header ``x-request-id`` have.
            parent: Its header ``traceparent``.
        """
        ...

    def close(self) -> None:
        """Send what is left."""
        ...


class Untraced:
    """No spans, for a server that nobody asked for any."""

    def begin(self, method: str, route: str, name: str, parent: str | None) -> RequestTrace:
        """See ``Tracing``."""
        return _NOTHING

    def close(self) -> None:
        """See ``Tracing``."""


class _Nothing:
    def answered(self, end: Finished) -> None: ...

    def scored(self, began: int, tokens: int) -> None: ...

    def end(self, status: int) -> None: ...


_NOTHING = _Nothing()


def check_endpoint(url: str) -> None:
    """Refuse what is no address of a collector.

    Raises:
        ConfigError: It is none.
        MissingExtraError: ``perfit[otel]`` is not installed.
    """
    if not url.startswith(("http://", "https://")):
        raise ConfigError(f"--traces: {url} is no address; give one such as http://127.0.0.1:4318/v1/traces")
    _exporter()


def tracing_to(url: str | None) -> Tracing:
    """Spans sent to a collector by OTLP over HTTP; without an address, none.

    Raises:
        MissingExtraError: ``perfit[otel]`` is not installed.
    """
    if url is None:
        return Untraced()
    made = _exporter().OTLPSpanExporter(endpoint=url)
    return Traces(import_extra("opentelemetry.sdk.trace.export", "opentelemetry-sdk", "otel").BatchSpanProcessor(made))


def _exporter() -> Any:
    import_extra("opentelemetry.sdk.trace", "opentelemetry-sdk", "otel")
    return import_extra(
        "opentelemetry.exporter.otlp.proto.http.trace_exporter", "opentelemetry-exporter-otlp-proto-http", "otel"
    )


class Traces:
    """Spans by OpenTelemetry's SDK; its own environment (``OTEL_...``) says how many are kept and what the service is called.

    Args:
        processor: Where spans go.
    """

    def __init__(self, processor: SpanProcessor):
        from opentelemetry.sdk.resources import Resource
        from opentelemetry.sdk.trace import TracerProvider
        from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

        resource = Resource.create({} if os.environ.get(_NAMED) else {"service.name": "perfit"})
        self._provider: TracerProvider = TracerProvider(resource=resource, shutdown_on_exit=False)
        self._provider.add_span_processor(processor)
        self._tracer = self._provider.get_tracer("perfit.serving")
        self._propagator = TraceContextTextMapPropagator()

    def begin(self, method: str, route: str, name: str, parent: str | None) -> RequestTrace:
        """See ``Tracing``."""
        from opentelemetry.trace import SpanKind

        # Not ``tracestate``: it is a client's free text. Two ids are all that is taken.
        context = self._propagator.extract({} if parent is None else {"traceparent": parent})
        attributes = {"http.request.method": method, "http.route": route, "perfit.request": name}
        span = self._tracer.start_span(f"{method} {route}", context, SpanKind.SERVER, attributes)
        return _Traced(self._tracer, span)

    def close(self) -> None:
        """See ``Tracing``."""
        self._provider.shutdown()


class _Traced:
    """See ``RequestTrace``."""

    def __init__(self, tracer: Any, span: Any):
        from opentelemetry.trace import set_span_in_context

        self._tracer, self._span = tracer, span
        self._inside = set_span_in_context(span)
        self._over = False

    def answered(self, end: Finished) -> None:
        times = end.times
        if times is None:
            return
        begun = times.ended if times.begun is None else times.begun
        self._part("queue", times.submitted, begun)
        if times.begun is None:
            return
        first = times.ended if times.first is None else times.first
        read = {"gen_ai.usage.input_tokens": end.prompt_tokens, "perfit.cached_tokens": end.cached_tokens}
        self._part("prefill", begun, first, read)
        if times.first is not None:
            said = {"gen_ai.usage.output_tokens": end.new_tokens, "gen_ai.response.finish_reasons": (end.reason,)}
            self._part("decode", first, times.ended, said)

    def scored(self, began: int, tokens: int) -> None:
        self._part("label scoring", began, time.time_ns(), {"gen_ai.usage.input_tokens": tokens})

    def end(self, status: int) -> None:
        from opentelemetry.trace import StatusCode

        if self._over:
            return
        self._over = True
        self._span.set_attribute("http.response.status_code", status)
        if status >= 500:
            self._span.set_status(StatusCode.ERROR)
        self._span.end()

    def _part(self, name: str, began: int, ended: int, attributes: Mapping[str, Any] | None = None) -> None:
        span = self._tracer.start_span(name, self._inside, attributes=attributes, start_time=began)
        span.end(end_time=max(began, ended))  # a clock may be set back
