"""Fetching LaMP's public files: resumable, and suspicious of what arrives."""

from __future__ import annotations

import http.client
import os
import time
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Callable
from pathlib import Path
from typing import Any, Literal

from perfit.data.lamp_names import TASK_LAMP_IDS
from perfit.errors import ConfigError, PerfitError

LAMP_BASE_URL = "https://ciir.cs.umass.edu/downloads/LaMP"

Progress = Callable[[str, int, int | None], None]
"""Called with (file name, bytes so far, bytes in all if known)."""

_CHUNK = 256 * 1024
_ATTEMPTS = 5
_RETRY_CODES = frozenset({408, 425, 429, 500, 502, 503, 504})


class DownloadError(PerfitError):
    """A file could not be fetched, or what arrived is not the file."""


class _RetryError(Exception):
    """This attempt failed in a way that another one may mend; the text says how."""


def lamp_urls(
    task: str, split: str, *, base_url: str = LAMP_BASE_URL, time_ordered: bool = True
) -> tuple[tuple[str, str], ...]:
    """File names and addresses of one split: questions, and outputs except for test (not public).

    Args:
        task: Task name ("news_headline") or LaMP name ("LaMP_4").
        split: "train", "dev" or "test".
        base_url: Where the LaMP folders lie.
        time_ordered: Take the variant split by time, which OPPU starts from, instead of the one split by user.

    Raises:
        ConfigError: For an unknown task or split, or a base address that is not http(s).
    """
    lamp_id = TASK_LAMP_IDS.get(task, task)
    if lamp_id not in TASK_LAMP_IDS.values():
        raise ConfigError(f"task={task!r} has no LaMP files; take one of {', '.join(TASK_LAMP_IDS)}")
    if split not in ("train", "dev", "test"):
        raise ConfigError(f"split={split!r} is unknown; take train, dev or test")
    if urllib.parse.urlsplit(base_url).scheme not in ("http", "https"):
        raise ConfigError("base_url must begin with http:// or https://")
    # Movie tagging came later and lives inside the folder of news categorisation.
    folder = {"LaMP_2N": "LaMP_2", "LaMP_2M": "LaMP_2/new"}.get(lamp_id, lamp_id)
    root = f"{base_url.rstrip('/')}/{'time/' if time_ordered else ''}{folder}/{split}"
    kinds = ("questions",) if split == "test" else ("questions", "outputs")
    return tuple((f"{split}_{kind}.json", f"{root}/{split}_{kind}.json") for kind in kinds)


def download_lamp(
    task: str,
    split: Literal["train", "dev", "test"],
    folder: str | os.PathLike[str],
    *,
    base_url: str = LAMP_BASE_URL,
    time_ordered: bool = True,
    progress: Progress | None = None,
    timeout: float = 60.0,
    backoff: float = 1.0,
) -> tuple[Path, ...]:
    """Fetches one split of a LaMP task; files that are there already are kept.

    An interrupted download leaves ``<name>.part`` and goes on from there the next time, if the server still has the
    same version of the file.

    Args:
        task: Task name or LaMP name.
        split: "train", "dev" or "test".
        folder: Where to put the files; made if missing.
        base_url: Where the LaMP folders lie.
        time_ordered: Take the variant split by time.
        progress: Called after every piece.
        timeout: Seconds without data after which a connection counts as lost.
        backoff: Seconds before the second attempt; doubles with every further one.

    Returns:
        The paths of the files.

    Raises:
        ConfigError: For an unknown task, split or address.
        DownloadError: When the server refuses, fails five times running, or sends something else than the file.
    """
    target = Path(folder)
    urls = lamp_urls(task, split, base_url=base_url, time_ordered=time_ordered)
    try:
        target.mkdir(parents=True, exist_ok=True)
        for name, url in urls:
            if not (target / name).is_file():
                _fetch(url, target / name, progress, timeout, backoff)
    except OSError as error:
        raise DownloadError(f"{target}: cannot be written ({error.strerror}); check space and rights") from None
    return tuple(target / name for name, _ in urls)


def _fetch(url: str, target: Path, progress: Progress | None, timeout: float, backoff: float) -> None:
    part = target.with_name(target.name + ".part")
    failures, most = 0, _size(part)
    while True:
        try:
            _attempt(url, target.name, part, progress, timeout)
            break
        except _RetryError as reason:
            # A long download over a bad line is no failure as long as every attempt gets further than all before.
            size = _size(part)
            failures = 1 if size > most else failures + 1
            most = max(most, size)
            if failures >= _ATTEMPTS:
                raise DownloadError(f"{url}: {reason}, {_ATTEMPTS} times running; try again later") from None
            time.sleep(backoff * 2 ** (failures - 1))
    _check_json_ends(part, url)
    os.replace(part, target)
    _tag_file(part).unlink(missing_ok=True)


def _attempt(url: str, name: str, part: Path, progress: Progress | None, timeout: float) -> None:
    """One connection; returns when the part file is complete, raises ``_RetryError`` when another one may help."""
    tag_file = _tag_file(part)
    tag = tag_file.read_text(encoding="utf-8") if tag_file.is_file() else ""
    have = _size(part) if tag else 0
    request = urllib.request.Request(url, headers={"User-Agent": "perfit", "Accept-Encoding": "identity"})
    if have:
        request.add_header("Range", f"bytes={have}-")
        request.add_header("If-Range", tag)
    try:
        response = urllib.request.urlopen(request, timeout=timeout)
    except urllib.error.HTTPError as error:
        error.close()
        if error.code == 416:
            _forget(part)
            raise _RetryError("the server has a shorter file than before") from None
        if error.code in _RETRY_CODES:
            raise _RetryError(f"the server answered {error.code}") from None
        raise DownloadError(
            f"{url}: the server answered {error.code}; check the task, the split and the base address"
        ) from None
    except (urllib.error.URLError, OSError, http.client.HTTPException) as error:
        raise _RetryError(f"no connection ({_reason(error)})") from None
    with response:
        if "html" in response.headers.get("Content-Type", "").lower():
            raise _page_error(url)
        start = _range_start(response) if response.status == 206 else 0
        if start not in (0, have):
            _forget(part)
            raise _RetryError("the server sent another piece than asked for")
        new_tag = _strong_tag(response)
        if start == 0:
            _forget(part)
            if new_tag:
                tag_file.write_text(new_tag, encoding="utf-8")
        length = response.headers.get("Content-Length", "")
        total = start + int(length) if length.isdigit() else None
        _receive(response, url, name, part, start, total, progress)


def _receive(
    response: Any, url: str, name: str, part: Path, start: int, total: int | None, progress: Progress | None
) -> None:
    done = start
    with part.open("ab" if start else "wb") as file:
        while True:
            try:
                chunk = response.read(_CHUNK)
            except (OSError, http.client.HTTPException) as error:
                raise _RetryError(f"the connection broke off ({_reason(error)})") from None
            if not chunk:
                break
            if done == 0 and chunk.lstrip().startswith(b"<"):
                file.close()
                _forget(part)
                raise _page_error(url)
            file.write(chunk)
            done += len(chunk)
            if progress is not None:
                progress(name, done, total)
        file.flush()
        os.fsync(file.fileno())
    if total is not None and done != total:
        raise _RetryError(f"{done} of {total} bytes arrived")


def _check_json_ends(part: Path, url: str) -> None:
    size = _size(part)
    with part.open("rb") as file:
        head = file.read(64).strip()
        file.seek(max(0, size - 64))
        tail = file.read().strip()
    if (head[:1], tail[-1:]) not in ((b"[", b"]"), (b"{", b"}")):
        _forget(part)
        raise DownloadError(f"{url}: the {size} bytes that arrived are not a complete JSON file; try again later")


def _page_error(url: str) -> DownloadError:
    return DownloadError(
        f"{url}: a web page (HTML) came instead of the file, as this server does for a wrong path; "
        "check the task, the split and the base address"
    )


def _range_start(response: Any) -> int:
    unit = response.headers.get("Content-Range", "")
    first = unit.removeprefix("bytes ").split("-")[0]
    return int(first) if first.isdigit() else -1


def _strong_tag(response: Any) -> str:
    """What If-Range may be asked with; empty when the server names no version, and then nothing is resumed."""
    tag: str = response.headers.get("ETag", "")
    return tag if tag and not tag.startswith("W/") else response.headers.get("Last-Modified", "")


def _reason(error: Exception) -> str:
    reason = error.reason if isinstance(error, urllib.error.URLError) else error
    return type(reason).__name__ if isinstance(reason, Exception) else str(reason)


def _tag_file(part: Path) -> Path:
    return part.with_name(part.name + ".version")


def _forget(part: Path) -> None:
    part.unlink(missing_ok=True)
    _tag_file(part).unlink(missing_ok=True)


def _size(path: Path) -> int:
    return path.stat().st_size if path.is_file() else 0
