"""Tests without their data are skipped, or fail where the data are required."""

from __future__ import annotations

import os
import shutil
import subprocess
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


CI = Path(__file__).parents[1] / ".ci"


@pytest.mark.skipif(shutil.which("bash") is None, reason="needs bash")
def test_ci_takes_the_data_that_are_named_or_lie_beside_the_checkout_or_its_origin(tmp_path: Path) -> None:
    named, beside, of_origin = (tmp_path / place / "shared/data/lamp_format" for place in ("named", "clones", "homes"))
    checkout = tmp_path / "clones/checkout"
    shutil.copytree(CI, checkout / ".ci")
    (tmp_path / "homes/origin").mkdir(parents=True)
    git = ["git", "-C", str(checkout)]
    subprocess.run([*git, "init", "-q"], check=True)
    subprocess.run([*git, "remote", "add", "origin", str(tmp_path / "homes/origin")], check=True)

    def found(name: str = "") -> str:
        answer = subprocess.run(
            [checkout / ".ci/run" if name == "run" else checkout / ".ci/data_folder"],
            env={**os.environ, "PERFIT_DATA": "" if name == "run" else name},
            capture_output=True,
            text=True,
        )
        assert answer.returncode == 0 or len(answer.stderr.splitlines()) == 1
        return answer.stdout.strip() or answer.stderr

    assert "set PERFIT_DATA" in found()
    assert "set PERFIT_DATA" in found("run")
    of_origin.mkdir(parents=True)
    assert found() == str(of_origin)
    beside.mkdir(parents=True)
    assert found() == str(beside)
    assert str(named) in found(str(named))  # what is named and missing is an error, whatever lies elsewhere
    named.mkdir(parents=True)
    assert found(str(named)) == str(named)
