"""What the page on serving says of a service: its unit is one for systemd, and its image holds no users."""

from __future__ import annotations

import re
import shutil
import subprocess
from pathlib import Path

import pytest

TOP = Path(__file__).parents[2]
PAGE = (TOP / "docs" / "serving.md").read_text()
(UNIT,) = re.findall(r"```ini\n(.*?)```", PAGE, re.DOTALL)


@pytest.mark.skipif(
    shutil.which("systemd-analyze") is None, reason="needs systemd-analyze, of Debian's package systemd"
)
def test_systemd_takes_the_unit(tmp_path: Path) -> None:
    there = tmp_path / "perfit"
    there.write_text("#!/bin/sh\n")
    there.chmod(0o755)
    program = re.search(r"ExecStart=(\S+)", UNIT)
    assert program is not None
    file = tmp_path / "perfit.service"
    for unit, said in ((UNIT, ""), (UNIT.replace("UMask", "Umasque"), "Umasque")):
        file.write_text(unit.replace(program[1], str(there)))
        found = subprocess.run(["systemd-analyze", "verify", file], capture_output=True, text=True, check=False)
        assert (said in found.stderr) if said else (found.returncode, found.stderr) == (0, "")


def test_the_unit_starts_what_there_is() -> None:
    from perfit.cli.serve import serve

    options = set(re.findall(r" --(\w+)", UNIT))
    assert options
    assert options <= set(serve.__annotations__)


def test_an_image_holds_the_package_and_no_runs() -> None:
    copied = re.findall(r"^COPY (.+) \S+$", (TOP / "Containerfile").read_text(), re.MULTILINE)
    names = {name for line in copied for name in line.split()}
    kept = {line[1:] for line in (TOP / ".containerignore").read_text().splitlines() if line.startswith("!")}
    assert names == kept
    assert all((TOP / name).exists() for name in names)
    assert {"pyproject.toml", "src"} <= names
