"""``perfit data download`` shows what the download tells it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from command_line import Perfit

from perfit import data
from perfit.cli import show


def test_the_bar_has_the_totals_of_the_files_and_no_rate_of_earlier_bytes(
    tmp_path: Path, perfit: Perfit, monkeypatch: pytest.MonkeyPatch
) -> None:
    bars: list[tuple[int, int, int]] = []

    def download(task: str, split: str, folder: Path, *, time_ordered: bool, progress: Any) -> tuple[Path, ...]:
        for name, received, total in (("a", 70, 100), ("a", 100, 100), ("b", 5, None), ("b", 9, None)):
            progress(name, received, total)
        return (folder / "a",)

    def close(bar: Any) -> None:
        bars.append((bar.count, bar.before, bar.total))

    monkeypatch.setattr(data, "download_lamp", download)
    monkeypatch.setattr(show._Bar, "close", close)
    done = perfit("data", "download", "movie_tagging", "dev", tmp_path)
    assert (done.code, done.out.strip()) == (0, str(tmp_path / "a"))
    assert bars == [(109, 75, 100)]
