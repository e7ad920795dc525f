"""The command line in this process: ``perfit(...)`` gives exit code, stdout and stderr."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest
from command_line import House, Outcome, Perfit, furnish
from small_base import write_base

from perfit.cli import main as cli


@pytest.fixture
def perfit(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Perfit:
    def run(*arguments: str | Path) -> Outcome:
        monkeypatch.setattr(sys, "argv", ["perfit", *map(str, arguments)])
        capsys.readouterr()
        code = 0
        try:
            cli.main()
        except SystemExit as stop:
            code = int(stop.code or 0)
        return Outcome(code, *capsys.readouterr())

    return run


@pytest.fixture(scope="session")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_base(tmp_path_factory.mktemp("base"))


@pytest.fixture(scope="session")
def house(base: Path, tmp_path_factory: pytest.TempPathFactory) -> House:
    return furnish(tmp_path_factory.mktemp("house"), base, "anna", "ben")
