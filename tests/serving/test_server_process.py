"""``perfit serve`` as a process: what it prints works, and SIGTERM ends it after what is in flight."""

from __future__ import annotations

import json
import os
import shlex
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO

import httpx
import pytest
from served_run import PROMPT

from perfit.cli import main as cli
from perfit.cli.ending import run as end_of
from perfit.durable.lock import locked
from perfit.serving.verifying import verified

ROOT = Path(__file__).parents[2]


@contextmanager
def process(run: Path, *more: str) -> Iterator[tuple[subprocess.Popen[str], str]]:
    """The command, and the line it printed when it was ready."""
    environment = os.environ | {"PYTHONPATH": str(ROOT / "src"), "OMP_NUM_THREADS": "1"}
    command = [sys.executable, "-m", "perfit", "serve", str(run), "--port", "0", "--device", "cpu", *more]
    served = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=environment)
    try:
        yield served, line_of(served.stdout)
    finally:
        if served.poll() is None:
            served.kill()
        served.wait()


def line_of(stream: IO[str] | None) -> str:
    assert stream is not None
    found: list[str] = []
    reader = threading.Thread(target=lambda: found.append(stream.readline()), daemon=True)
    reader.start()
    reader.join(180)
    assert found, "the server printed nothing"
    return found[0]


def address(line: str) -> str:
    return next(word for word in line.split() if word.startswith("http://"))


def test_the_printed_curl_works_and_a_signal_drains(own_run: Path) -> None:
    with process(own_run, "--engine", "reference") as (served, line):
        words = shlex.split(line.partition("try: ")[2])
        assert words[0] == "curl"
        body, headers = words[words.index("-d") + 1], dict([words[words.index("-H") + 1].split(": ")])
        said = httpx.post(words[1], content=body, headers=headers, timeout=60)
        assert said.status_code == 200
        assert said.json()["answer"] in ("work", "family", "travel")
        assert json.loads(body)["user"] == "collective"  # stdout is a file here, and no log has an id
        assert verified(said.headers["x-perfit-receipt"], own_run)["signature"] == "good"

        asked = {"user": "anna", "prompt": PROMPT, "max_tokens": 300, "stream": True}
        url = f"{address(line)}/v1/completions"
        with httpx.stream("POST", url, json=asked, timeout=120) as answer:
            lines = answer.iter_lines()
            next(lines)
            served.send_signal(signal.SIGTERM)
            rest = [one for one in lines if one]
        assert rest[-1] == "data: [DONE]"
        assert sum('"finish_reason":null' in one for one in rest) > 200
        assert served.wait(60) == 0
        with pytest.raises(httpx.ConnectError):
            httpx.get(f"{address(line)}/live")
        assert served.stderr is not None
        told = served.stderr.read()
        assert "stopped" in told
        assert "anna" not in told
        assert "Traceback" not in told


def test_what_cannot_be_served_is_one_line(
    own_run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def fault(*words: str | Path) -> str:
        monkeypatch.setattr("sys.argv", ["perfit", "serve", *map(str, words)])
        assert end_of(cli.app) != 0
        return capsys.readouterr().err.strip().splitlines()[-1]

    assert "--keys" in fault(own_run, "--host", "0.0.0.0")
    assert "not found" in fault(tmp_path / "nothing")
    # Erasing through one server would leave the user in the other's memory.
    with locked(own_run / ".serving.lock"):
        assert "another perfit serve" in fault(own_run, "--port", "0", "--device", "cpu")
    assert "--engine" in fault(own_run, "--engine", "steam", "--port", "0", "--device", "cpu")
