"""Files for their owner alone are made, never opened again and never at the end of a link."""

from __future__ import annotations

import os
import sqlite3
import stat
from pathlib import Path

import pytest

from perfit.errors import StoreError
from perfit.private import private_file, private_opener
from perfit.run import RunDirectory


def test_a_file_that_is_there_is_not_opened_so_its_locks_stay(tmp_path: Path) -> None:
    path = tmp_path / "rows.sqlite"
    private_file(path)
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    path.chmod(0)
    private_file(path)
    path.chmod(0o600)
    with sqlite3.connect(path) as database:
        database.execute("CREATE TABLE t (a)")
        database.execute("BEGIN EXCLUSIVE")
        private_file(path)
        code = "import os, sqlite3, sys; sqlite3.connect(sys.argv[1], timeout=0).execute('BEGIN EXCLUSIVE')"
        assert (
            os.spawnlp(os.P_WAIT, "python", "python", "-Sc", f"import sys; sys.stderr.close(); {code}", str(path)) == 1
        )


def test_appending_follows_no_link(tmp_path: Path) -> None:
    (tmp_path / "victim").write_text("precious")
    (tmp_path / "events.jsonl").symlink_to(tmp_path / "victim")
    appending = private_opener(str(tmp_path / "new"), os.O_WRONLY | os.O_CREAT)
    os.close(appending)
    with pytest.raises(OSError, match="symbolic link"):
        private_opener(str(tmp_path / "events.jsonl"), os.O_WRONLY | os.O_APPEND | os.O_CREAT)
    assert (tmp_path / "victim").read_text() == "precious"


@pytest.mark.parametrize("name", ["checkpoints", "predictions", "figures"])
def test_a_run_that_leads_elsewhere_is_refused(tmp_path: Path, name: str) -> None:
    (tmp_path / "elsewhere").mkdir()
    run = RunDirectory(tmp_path / "run")
    run.create({"base": {"name": "b"}, "task": {}, "config": {}, "versions": {}})
    assert run.manifest()["base"] == {"name": "b"}
    folder = run.path / name
    if folder.exists():
        folder.rmdir()
    folder.symlink_to(tmp_path / "elsewhere")
    with pytest.raises(StoreError, match=f"{name}: is a symbolic link"):
        run.manifest()
