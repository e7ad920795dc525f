"""What this process takes, where the system tells it and where it does not."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from perfit import process_memory
from perfit.process_memory import process_bytes


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="/proc is Linux's")
def test_fields_of_the_kernel_are_in_bytes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert process_bytes("VmHWM") > process_bytes("RssAnon") > 2**20
    (tmp_path / "status").write_text("VmHWM:\t  300 kB\nRssAnon:\t  20 kB\n")
    monkeypatch.setattr(process_memory, "_STATUS", tmp_path / "status")
    assert (process_bytes("VmHWM"), process_bytes("RssAnon")) == (300 * 1024, 20 * 1024)


def test_without_proc_it_is_the_peak_and_nothing_on_windows(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(process_memory, "_STATUS", tmp_path / "none")
    if sys.platform != "win32":
        assert process_bytes("RssAnon") > 2**20
    monkeypatch.setitem(sys.modules, "resource", None)
    assert process_bytes("RssAnon") == 0
