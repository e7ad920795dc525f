"""Without extras every module imports, and what needs one says which in one line."""

from __future__ import annotations

import os
import subprocess
import sys
import tomllib
from pathlib import Path

import without_extras


def test_without_extras_everything_imports_and_what_needs_one_names_it(tmp_path: Path) -> None:
    script = Path(without_extras.__file__)
    environment = {**os.environ, "PYTHONPATH": str(script.parents[1] / "src"), "PERFIT_CACHE": str(tmp_path)}
    done = subprocess.run(
        [sys.executable, script, "--hide"], capture_output=True, text=True, check=False, env=environment
    )
    assert (done.returncode, done.stdout.strip()) == (0, ""), done.stderr


def test_every_extra_is_tried() -> None:
    project = tomllib.loads((Path(__file__).parents[1] / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    assert set(without_extras.USES) == set(project["optional-dependencies"]) - {"dev", "docs"}


def test_the_package_asks_for_ranges_and_constraints_pin() -> None:
    project = tomllib.loads((Path(__file__).parents[1] / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    needed = [one for extra in project["optional-dependencies"].values() for one in extra] + project["dependencies"]
    assert [one for one in needed if "==" in one] == []
    assert [one for one in needed if one.startswith("torch>") and "," in one] == []
