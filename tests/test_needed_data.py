"""Tests without their data are skipped, or fail where the data are required."""

from __future__ import annotations

from pathlib import Path

import pytest
from needed_data import data_folder, without


def test_missing_data_skip_or_fail(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("PERFIT_DATA_REQUIRED", raising=False)
    with pytest.raises(pytest.skip.Exception, match="no data"):
        without("no data")
    monkeypatch.setenv("PERFIT_DATA_REQUIRED", "1")
    with pytest.raises(pytest.fail.Exception, match="no data, and PERFIT_DATA_REQUIRED is set"):
        without("no data")


def test_the_folder_can_be_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PERFIT_DATA", "elsewhere")
    assert data_folder() == Path.cwd() / "elsewhere"
    monkeypatch.setenv("PERFIT_DATA", "")
    assert data_folder().parts[-3:] == ("shared", "data", "lamp_format")
