"""``perfit client``: what a server answers, and one line for whatever goes wrong."""

from __future__ import annotations

import hashlib
import json
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path

import pytest
from typer.testing import CliRunner

from perfit.cli.main import app
from perfit.errors import ConfigError
from perfit.serving.client import answer, pieces

KEY = "pf-" + hashlib.sha256(b"k").hexdigest()


class Server(BaseHTTPRequestHandler):
    """Answers like a server of perfit, as the user's name asks for."""

    def do_POST(self) -> None:
        body = json.loads(self.rfile.read(int(self.headers["content-length"])))
        kind = body["user"]
        if kind == "redirect":
            self.send_response(302)
            self.send_header("location", "/elsewhere")
            self.end_headers()
            return
        refused = kind == "nobody" or (kind == "keyed" and self.headers["authorization"] != f"Bearer {KEY}")
        self.send_response(404 if refused else 200)
        self.end_headers()
        if refused:
            said = json.dumps({"error": {"message": "no such\nuser"}})
        elif kind == "strange":
            said = "<html>"
        elif body.get("stream"):
            parts = [{"choices": [{"delta": {"content": one}}]} for one in ("a ", "b", "")]
            ends = {"cut": "", "fault": 'data: {"error": {"message": "cut off"}}\n\n'}.get(kind, "data: [DONE]\n\n")
            said = "".join(f"data: {json.dumps(part)}\n\n" for part in parts) + ends
        else:
            said = json.dumps({"answer": f"{body['input']} by {self.path}"})
        self.wfile.write(said.encode())

    def do_GET(self) -> None:
        raise AssertionError("a redirect was followed")

    def log_message(self, *args: object) -> None:
        """Says nothing."""


@pytest.fixture(scope="module")
def url() -> Iterator[str]:
    with HTTPServer(("127.0.0.1", 0), Server) as server:
        thread = threading.Thread(target=server.serve_forever, daemon=True)
        thread.start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()
        thread.join()


def test_the_answer_is_printed_whole_or_as_it_comes(url: str) -> None:
    whole = CliRunner().invoke(app, ["client", "a\x1bstorm", "--user", "anna", "--url", url])
    assert (whole.exit_code, whole.output) == (0, "a\\x1bstorm by /v1/tasks/answer\n")
    parts = CliRunner().invoke(app, ["client", "a storm", "--user", "anna", "--url", url, "--stream"])
    assert (parts.exit_code, parts.output) == (0, "a b\n")


def test_the_key_comes_from_its_file(url: str, tmp_path: Path) -> None:
    path = tmp_path / "key"
    words = ["client", "a", "--user", "keyed", "--url", url, "--key-file", str(path)]
    for wrong in (None, "", "two words"):
        if wrong is not None:
            path.write_text(wrong)
        with pytest.raises(ConfigError, match="--key-file"):
            CliRunner().invoke(app, words, catch_exceptions=False, standalone_mode=False)
    path.write_text(f"{KEY}\n")
    assert CliRunner().invoke(app, words).exit_code == 0


@pytest.mark.parametrize(
    ("kind", "said"),
    [
        ("nobody", "no such"),
        ("strange", "not as perfit serve"),
        ("redirect", "302"),
        ("cut", "before the answer's end"),
    ],
)
def test_a_fault_is_one_line(url: str, kind: str, said: str) -> None:
    ask = (lambda: list(pieces(url, "a", kind))) if kind == "cut" else (lambda: [answer(url, "a", kind)])
    with pytest.raises(ConfigError, match=said) as refused:
        ask()
    assert "\n" not in str(refused.value)


def test_a_fault_in_a_stream_and_no_server_are_faults(url: str) -> None:
    with pytest.raises(ConfigError, match="cut off"):
        list(pieces(url, "a", "fault"))
    for wrong in ("http://127.0.0.1:1", "127.0.0.1:8000", "ftp://here"):
        with pytest.raises(ConfigError, match="--url"):
            answer(wrong, "a", "anna")
