"""Spans of requests: which there are, how they lie in time, and that nobody is in them."""

from __future__ import annotations

import http.server
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from served_run import NAMES, Site, site

from perfit.errors import ConfigError
from perfit.serving import tracing
from perfit.serving.key_file import KeyFile
from perfit.serving.keys import add_key
from perfit.serving.server import ServeConfig
from perfit.serving.tracing import Traces, Untraced, tracing_to

export = pytest.importorskip("opentelemetry.sdk.trace.export")
in_memory = pytest.importorskip("opentelemetry.sdk.trace.export.in_memory_span_exporter")

CANARY = "zanzibar"


@pytest.fixture
def spans() -> Any:
    return in_memory.InMemorySpanExporter()


@pytest.fixture
def traced(shared_site: Site, spans: Any, monkeypatch: pytest.MonkeyPatch) -> Iterator[Site]:
    made = Traces(export.SimpleSpanProcessor(spans))
    monkeypatch.setattr(shared_site.gateway, "tracing", made)
    yield shared_site
    made.close()


def told(spans: Any) -> dict[str, Any]:
    """The spans of one request, by name; whoever asked has a stream's last bytes before the server lets go of it."""
    end = time.monotonic() + 30
    while not any(span.name.startswith(("GET", "POST")) for span in spans.get_finished_spans()):
        assert time.monotonic() < end
        time.sleep(0.01)
    found = spans.get_finished_spans()
    spans.clear()
    assert len({span.name for span in found}) == len(found)
    return {span.name: span for span in found}


@pytest.mark.parametrize("stream", [True, False])
def test_an_answer_waits_reads_and_is_made(traced: Site, spans: Any, stream: bool) -> None:
    body = {"user": "anna", "prompt": "river stone", "max_tokens": 5, "stream": stream}
    said = traced.post("/v1/completions", body)
    found = told(spans)
    name = "POST /v1/completions"
    assert set(found) == {name, "queue", "prefill", "decode"}
    whole, queue, prefill, decode = (found[each] for each in (name, "queue", "prefill", "decode"))
    assert whole.parent is None
    assert {span.parent.span_id for span in (queue, prefill, decode)} == {whole.context.span_id}
    assert whole.start_time <= queue.start_time <= queue.end_time == prefill.start_time < prefill.end_time
    assert prefill.end_time == decode.start_time < decode.end_time <= whole.end_time
    assert whole.attributes["http.response.status_code"] == 200
    assert whole.attributes["http.route"] == "/v1/completions"
    assert whole.attributes["perfit.request"] == said.headers["x-request-id"]
    assert prefill.attributes["gen_ai.usage.input_tokens"] > 0
    assert decode.attributes["gen_ai.usage.output_tokens"] == 5
    assert decode.attributes["gen_ai.response.finish_reasons"] == ("length",)


def test_labels_and_answers_are_scored(traced: Site, spans: Any) -> None:
    for path, body in (
        ("/v1/tasks/answer", {"input": "river"}),
        ("/v1/answers/score", {"input": "river", "answer": "work"}),
    ):
        prompt = traced.post(path, {"user": "ben"} | body).json()["perfit"]["prompt_tokens"]
        found = told(spans)
        assert set(found) == {f"POST {path}", "label scoring"}
        assert found["label scoring"].attributes["gen_ai.usage.input_tokens"] == prompt
        assert found["label scoring"].parent.span_id == found[f"POST {path}"].context.span_id


def test_what_is_refused_is_a_span_with_its_status(traced: Site, spans: Any) -> None:
    traced.post("/v1/completions", {"user": "nobody", "prompt": "a"})
    (one,) = told(spans).values()
    assert (one.attributes["http.response.status_code"], one.status.is_ok) == (404, True)


def test_it_is_a_part_of_the_callers_trace_and_takes_two_ids_of_it_alone(traced: Site, spans: Any) -> None:
    parent = f"00-{'a' * 32}-{'b' * 16}-01"
    headers = {"traceparent": parent, "tracestate": f"vendor={CANARY}", "baggage": f"user={CANARY}"}
    traced.http.get("/v1/models", headers=headers)
    (one,) = told(spans).values()
    assert f"{one.context.trace_id:032x}" == "a" * 32
    assert f"{one.parent.span_id:016x}" == "b" * 16
    assert CANARY not in one.to_json()
    traced.http.get("/v1/models", headers={"traceparent": CANARY})
    (one,) = told(spans).values()
    assert one.parent is None


def test_nobody_and_no_text_is_in_a_span(own_run: Path, tmp_path: Path, spans: Any) -> None:
    file = tmp_path / "keys.json"
    key = add_key(file, f"tenant-{CANARY}", ["*"], ["answer", "learn"], None)
    with site(own_run, keys=KeyFile(file)) as one:
        one.gateway.tracing = Traces(export.SimpleSpanProcessor(spans))
        one.http.headers["authorization"] = f"Bearer {key}"
        turn = [{"role": "user", "content": CANARY}]
        for path, body in (
            ("/v1/completions", {"user": "anna", "prompt": CANARY, "max_tokens": 2}),
            ("/v1/chat/completions", {"user": "anna", "messages": turn, "max_tokens": 2, "stream": True}),
            ("/v1/tasks/answer", {"user": "anna", "input": CANARY}),
            ("/v1/tasks/answer", {"user": CANARY, "input": CANARY}),
            (f"/v1/users/{CANARY}/feedback", {"input": CANARY, "verdict": "accepted", "answer": "work"}),
            (f"/v1/users/{CANARY}/feedback", {CANARY: CANARY}),
        ):
            one.post(path, body)
        one.http.delete(f"/v1/users/{CANARY}")
        one.http.get(f"/v1/{CANARY}")
    written = "".join(span.to_json() for span in spans.get_finished_spans())
    assert len(spans.get_finished_spans()) > 12
    for secret in (CANARY, key, *NAMES, str(own_run)):
        assert secret not in written


def test_spans_arrive_at_a_collector(own_run: Path) -> None:
    arrived: list[tuple[str, bytes]] = []

    class Collector(http.server.BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            arrived.append((self.path, self.rfile.read(int(self.headers["content-length"]))))
            self.send_response(200)
            self.end_headers()

        def log_message(self, *args: Any) -> None: ...

    with http.server.HTTPServer(("127.0.0.1", 0), Collector) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        sending = tracing_to(f"http://127.0.0.1:{server.server_port}/v1/traces")
        sending.begin("GET", "/v1/models", "name", None).end(200)
        sending.close()
        server.shutdown()
    ((path, _),) = arrived
    assert path == "/v1/traces"


def test_without_being_asked_for_there_are_none(shared_site: Site) -> None:
    assert isinstance(shared_site.gateway.tracing, Untraced)
    assert isinstance(tracing_to(None), Untraced)


def test_an_address_that_is_none_is_refused_before_anything_is_loaded() -> None:
    with pytest.raises(ConfigError, match="--traces: collector:4318 is no address"):
        ServeConfig(Path("run"), "127.0.0.1", 0, "auto", None, 1, 0.0, "collector:4318")


def test_what_is_missing_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    from perfit.errors import MissingExtraError

    def missing(module: str, package: str, extra: str) -> Any:
        raise MissingExtraError(extra, package)

    monkeypatch.setattr(tracing, "import_extra", missing)
    with pytest.raises(MissingExtraError, match=r"perfit\[otel\]"):
        ServeConfig(Path("run"), "127.0.0.1", 0, "auto", None, 1, 0.0, "http://127.0.0.1:4318/v1/traces")
