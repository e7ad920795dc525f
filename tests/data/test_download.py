"""The download, against a server on this machine that misbehaves as told."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from perfit.data.download import DownloadError, download_lamp, lamp_urls
from perfit.errors import ConfigError

BODY = json.dumps([{"id": str(n), "input": "x" * 50, "profile": []} for n in range(9000)]).encode()
PART = "train_questions.json.part"


class Server(ThreadingHTTPServer):
    """Serves BODY for every path; the attributes make it fail."""

    body = BODY
    version: str | None = '"v1"'
    content_type = "application/json"
    ranges = True
    wrong_range = False
    announce_more = 0
    html_paths: tuple[str, ...] = ()

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.statuses: list[int] = []
        self.cuts: list[int] = []
        self.seen: list[tuple[str, str | None]] = []

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_address[1]}/LaMP"

    def handle_error(self, *_: object) -> None:
        """A client that goes away is part of the tests."""


class Handler(BaseHTTPRequestHandler):
    server: Server

    def do_GET(self) -> None:
        server = self.server
        wanted = self.headers.get("Range")
        server.seen.append((self.path, wanted))
        status = server.statuses.pop(0) if server.statuses else 200
        if status != 200:
            self.send_response(status)
            self.send_header("Content-Length", "0")
            self.end_headers()
            return
        start = 0
        same = self.headers.get("If-Range") == server.version
        if wanted and server.ranges and same:
            start = int(wanted.removeprefix("bytes=").removesuffix("-"))
            if start >= len(server.body):
                self.send_response(416)
                self.send_header("Content-Length", "0")
                self.end_headers()
                return
            start += 7 if server.wrong_range else 0
        body = server.body[start:]
        self.send_response(206 if start else 200)
        self.send_header("Content-Type", server.content_type)
        self.send_header("Content-Length", str(len(body) + server.announce_more))
        if server.version:
            self.send_header("ETag", server.version)
        if start:
            self.send_header("Content-Range", f"bytes {start}-{len(server.body) - 1}/{len(server.body)}")
        self.end_headers()
        self.wfile.write(body[: server.cuts.pop(0)] if server.cuts else body)

    def log_message(self, *_: object) -> None:
        """Keeps the test output quiet."""


@pytest.fixture
def server() -> Iterator[Server]:
    with Server() as running:
        thread = threading.Thread(target=running.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        yield running
        running.shutdown()
        thread.join()


def fetch(server: Server, folder: Path, split: str = "train", **options: object) -> tuple[Path, ...]:
    settings = {"base_url": server.url, "backoff": 0.001, "timeout": 5.0} | options
    return download_lamp("news_headline", split, folder, **settings)  # type: ignore[arg-type]


def test_fetches_both_files_and_keeps_them(server: Server, tmp_path: Path) -> None:
    steps: list[tuple[str, int, int | None]] = []
    paths = fetch(server, tmp_path / "new", progress=lambda *step: steps.append(step))
    assert [path.name for path in paths] == ["train_questions.json", "train_outputs.json"]
    assert all(path.read_bytes() == BODY for path in paths)
    assert sorted((tmp_path / "new").iterdir()) == sorted(paths), "no part file stays"
    assert [path for path, _ in server.seen] == [f"/LaMP/time/LaMP_4/train/{path.name}" for path in paths]
    assert steps[-1] == ("train_outputs.json", len(BODY), len(BODY))
    assert max(done for name, done, _ in steps if name == paths[0].name) == len(BODY)
    fetch(server, tmp_path / "new")
    assert len(server.seen) == 2, "what is there is not fetched again"


@pytest.mark.parametrize(
    ("task", "time_ordered", "folder"),
    [
        ("movie_tagging", True, "time/LaMP_2/new"),
        ("movie_tagging", False, "LaMP_2/new"),
        ("LaMP_2M", False, "LaMP_2/new"),
        ("news_categorize", True, "time/LaMP_2"),
        ("product_rating", True, "time/LaMP_3"),
        ("scholarly_title", False, "LaMP_5"),
        ("LaMP_7", True, "time/LaMP_7"),
    ],
)
def test_addresses(task: str, time_ordered: bool, folder: str) -> None:
    root = f"https://ciir.cs.umass.edu/downloads/LaMP/{folder}"
    names = [url for _, url in lamp_urls(task, "dev", time_ordered=time_ordered)]
    assert names == [f"{root}/dev/dev_questions.json", f"{root}/dev/dev_outputs.json"]
    assert len(lamp_urls(task, "test")) == 1, "the answers of the test split are not public"


def test_unknown_names_are_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="task='LaMP_6'"):
        lamp_urls("LaMP_6", "train")
    with pytest.raises(ConfigError, match="split='validation'"):
        lamp_urls("LaMP_4", "validation")
    with pytest.raises(ConfigError, match="http"):
        download_lamp("LaMP_4", "dev", tmp_path, base_url="file:///etc")


def test_goes_on_within_one_call_after_a_broken_connection(server: Server, tmp_path: Path) -> None:
    server.cuts = [300_000, 300_000]
    (path,) = fetch(server, tmp_path, "test")
    assert path.read_bytes() == BODY
    assert [wanted for _, wanted in server.seen] == [None, "bytes=300000-", "bytes=600000-"]


def test_goes_on_in_a_later_call(server: Server, tmp_path: Path) -> None:
    server.cuts = [300_000]

    def interrupt(_: str, done: int, __: int | None) -> None:
        if done >= 262_144:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        fetch(server, tmp_path, progress=interrupt)
    assert not (tmp_path / "train_questions.json").exists()
    have = (tmp_path / PART).stat().st_size
    assert have >= 262_144
    server.cuts.clear()
    fetch(server, tmp_path)
    assert (tmp_path / "train_questions.json").read_bytes() == BODY
    assert server.seen[1][1] == f"bytes={have}-"
    assert not list(tmp_path.glob("*.part*"))


def leave_part(folder: Path, data: bytes, version: str | None = '"v1"') -> None:
    (folder / PART).write_bytes(data)
    if version is not None:
        (folder / f"{PART}.version").write_text(version)


@pytest.mark.parametrize("case", ["no ranges", "another version", "no version kept", "no version sent", "wrong range"])
def test_starts_over_when_going_on_is_not_safe(server: Server, tmp_path: Path, case: str) -> None:
    leave_part(tmp_path, b"[" + b"old" * 1000, None if case == "no version kept" else '"v1"')
    if case == "no ranges":
        server.ranges = False
    if case == "another version":
        server.version = '"v2"'
    if case == "no version sent":
        server.version = None
    if case == "wrong range":
        server.wrong_range = True
    assert fetch(server, tmp_path)[0].read_bytes() == BODY
    assert not list(tmp_path.glob("*.part*"))


def test_weak_versions_are_not_trusted_for_going_on(server: Server, tmp_path: Path) -> None:
    server.version, server.cuts = 'W/"v1"', [300_000]
    assert fetch(server, tmp_path)[0].read_bytes() == BODY
    assert all(wanted is None for _, wanted in server.seen)


def test_part_longer_than_the_file(server: Server, tmp_path: Path) -> None:
    leave_part(tmp_path, BODY + b"more")
    assert fetch(server, tmp_path)[0].read_bytes() == BODY


@pytest.mark.parametrize("content_type", ["text/html; charset=utf-8", "application/json"])
def test_web_page_with_status_200(server: Server, tmp_path: Path, content_type: str) -> None:
    server.body, server.content_type = b"\n <!DOCTYPE html><html></html>", content_type
    with pytest.raises(DownloadError, match=r"train_questions\.json: a web page \(HTML\) came instead of the file"):
        fetch(server, tmp_path)
    assert list(tmp_path.iterdir()) == []
    assert len(server.seen) == 1


@pytest.mark.parametrize("status", [404, 403, 410])
def test_refusals_are_final(server: Server, tmp_path: Path, status: int) -> None:
    server.statuses = [status]
    with pytest.raises(DownloadError, match=f"the server answered {status}; check the task"):
        fetch(server, tmp_path)
    assert len(server.seen) == 1


def test_server_errors_are_tried_again(server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    waits: list[float] = []
    monkeypatch.setattr("perfit.data.download.time.sleep", waits.append)
    server.statuses = [500, 503, 429, 502]
    assert fetch(server, tmp_path, "test", backoff=1.0)[0].read_bytes() == BODY
    assert waits == [1, 2, 4, 8]
    server.statuses = [503] * 9
    (tmp_path / "two").mkdir()
    with pytest.raises(DownloadError, match="the server answered 503, 5 times running; try again later"):
        fetch(server, tmp_path / "two")
    assert len(server.statuses) == 4


@pytest.mark.parametrize("version", [None, '"v1"'])
def test_shorter_than_announced_ends_some_time(server: Server, tmp_path: Path, version: str | None) -> None:
    server.announce_more, server.version = 10, version
    with pytest.raises(DownloadError, match="times running"):
        fetch(server, tmp_path)
    assert not (tmp_path / "train_questions.json").exists()


def test_incomplete_json_of_the_right_length(server: Server, tmp_path: Path) -> None:
    server.body = BODY[:-5]
    with pytest.raises(DownloadError, match="not a complete JSON file"):
        fetch(server, tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_no_server(tmp_path: Path) -> None:
    with Server() as closed:
        url = closed.url
    with pytest.raises(DownloadError, match=r"no connection \(ConnectionRefusedError\), 5 times running"):
        download_lamp("LaMP_4", "dev", tmp_path, base_url=url, backoff=0.001)


def test_folder_that_cannot_be_written(server: Server, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(DownloadError, match="cannot be written"):
        fetch(server, tmp_path / "file")
