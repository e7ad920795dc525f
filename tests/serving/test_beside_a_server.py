"""Commands on a run that a server process serves: what they did is what it answers by when they end."""

from __future__ import annotations

import threading
import time
from pathlib import Path

import httpx
import pytest
from served_run import NAMES, PROMPT
from small_base import dataset, person
from test_server_process import address, process

from perfit.cli import main as cli
from perfit.cli.ending import run as end_of
from perfit.data.jsonl import write_jsonl
from perfit.data.schema import Dataset
from perfit.errors import StoreError
from perfit.notebook.database import Notebook
from perfit.notebook.served import forget, is_served, serving, to_forget
from perfit.serving.receipts import read_receipt

LONG = f"{PROMPT} {' '.join(['river stone lamp boat paper garden winter song'] * 12)}"


def verb(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, *words: str | Path) -> str:
    monkeypatch.setattr("sys.argv", ["perfit", *map(str, words)])
    code = end_of(cli.app)
    said = capsys.readouterr()
    assert code == 0, said.err
    return said.out


def ask(http: httpx.Client, user: str) -> httpx.Response:
    return http.post("/v1/completions", json={"user": user, "prompt": LONG, "max_tokens": 8})


def test_what_commands_do_beside_a_server_is_what_it_answers_by(
    own_run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    with (
        process(own_run, "--engine", "transformers", "--learn", "0") as (_, line),
        httpx.Client(base_url=address(line), timeout=120) as http,
    ):

        def gauge(name: str) -> float:
            found = [one.split() for one in http.get("/metrics").text.splitlines() if one.startswith(f"{name} ")]
            return float(found[0][1])

        def cached() -> int:
            found: int = ask(http, "anna").json()["usage"]["prompt_tokens_details"]["cached_tokens"]
            return found

        verb(capsys, monkeypatch, "users", "export", "anna", tmp_path / "anna.safetensors", "--run", own_run)
        before = ask(http, "anna")
        assert before.status_code == 200
        assert cached() > 0, "nothing is shared: the test would show nothing"
        assert gauge("perfit_bank_resident") > 0

        # Deleted while an answer is in flight: it ends, and nothing is left when the command does.
        rest: list[str] = []
        begun = threading.Event()

        def stream() -> None:
            body = {"user": "anna", "prompt": PROMPT, "max_tokens": 900, "stream": True}
            with http.stream("POST", "/v1/completions", json=body) as parts:
                for one in parts.iter_lines():
                    rest.append(one)
                    begun.set()

        reader = threading.Thread(target=stream)
        reader.start()
        assert begun.wait(60)
        resident = gauge("perfit_bank_resident")
        said = verb(capsys, monkeypatch, "users", "delete", "anna", "--run", own_run)
        assert "forgotten by the server" in said
        assert gauge("perfit_bank_resident") == resident - 1
        assert ask(http, "anna").status_code == 404
        reader.join(60)
        assert any('"cancelled"' in one for one in rest)
        assert "data: [DONE]" not in rest

        # Back again, the very same shift: no page of before is there, and the answer is the one of before.
        verb(capsys, monkeypatch, "users", "import", tmp_path / "anna.safetensors", "--run", own_run)
        assert cached() == 0
        again = ask(http, "anna")
        assert again.json()["choices"] == before.json()["choices"]

        # Trained again by another command: another version, and its answers, from the next request on.
        people = Dataset(users=(person("anna", history=7), *dataset(NAMES[1:]).users))
        write_jsonl(people, tmp_path / "more.jsonl")
        more = tmp_path / "more.jsonl"
        verb(capsys, monkeypatch, "users", "add", "anna", "--run", own_run, "--data", more, "--device", "cpu")
        later = ask(http, "anna")
        with Notebook(own_run) as notebook:
            receipts = [read_receipt(one.headers["x-perfit-receipt"], notebook.key) for one in (before, again, later)]
        assert receipts[0]["user"] == receipts[1]["user"] != receipts[2]["user"]

        # Another file in the place of the store is nothing that this server answers by.
        store = own_run / "personal.sqlite"
        store.write_bytes((store.rename(own_run / "old.sqlite")).read_bytes())
        assert ask(http, "anna").status_code == 409


def test_an_eraser_does_not_wait_for_nobody_and_says_who_does_not_answer(own_run: Path) -> None:
    assert not forget(own_run, "anna", 0)  # nobody serves, and nothing is asked
    with Notebook(own_run) as notebook:
        assert not is_served(own_run)
        assert to_forget(notebook) == []
        with serving(own_run):
            assert is_served(own_run)
            with pytest.raises(StoreError, match="has not forgotten the user"):
                forget(own_run, "anna", 0.1)
            assert to_forget(notebook) == [notebook.mark("anna")]
            assert b"anna" not in notebook.path.read_bytes()
        # A server that ends meanwhile takes its memory with it.
        with serving(own_run):
            waiting = threading.Thread(target=forget, args=(own_run, "anna", 60.0))
            waiting.start()
            time.sleep(0.2)
            assert waiting.is_alive()
        waiting.join(20)
        assert not waiting.is_alive()
        assert to_forget(notebook) == []
