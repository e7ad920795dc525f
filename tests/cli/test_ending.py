"""How commands end: exit codes, one line, no traceback, on any console."""

from __future__ import annotations

import io
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
import typer
from command_line import House, Perfit

from perfit.cli import ending
from perfit.errors import (
    BaseModelError,
    ConfigError,
    DamagedError,
    DataError,
    LeakError,
    MissingExtraError,
    PerfitError,
    StoreError,
    UnknownUserError,
)

FEW = ("--users", "1", "--others", "0", "--history", "2", "--queries", "1")


def real(*arguments: str | Path, shell: str = "", **environment: str) -> subprocess.CompletedProcess[bytes]:
    """The command in a process of its own; ``shell`` is what follows it on a shell's line."""
    line = " ".join([sys.executable, "-m", "perfit", *(f"'{one}'" for one in arguments), shell])
    full = os.environ | {"OMP_NUM_THREADS": "1"} | environment
    return subprocess.run(["bash", "-o", "pipefail", "-c", line], capture_output=True, env=full, check=False)


def ended(fault: BaseException) -> int:
    def command(standalone_mode: bool) -> None:
        raise fault

    return ending.run(command)


@pytest.mark.parametrize(
    ("fault", "code"),
    [
        *((kind("why"), 1) for kind in (PerfitError, DataError, BaseModelError, StoreError, UnknownUserError)),
        (MissingExtraError("report", "jinja2"), 1),
        (ConfigError("why"), 2),
        (typer.BadParameter("why"), 2),
        (LeakError("why"), 3),
        (DamagedError("why"), 4),
        (OSError(2, "No such file or directory", "why"), 1),
        (KeyboardInterrupt(), 130),
    ],
)
def test_every_kind_of_fault_has_its_code(fault: BaseException, code: int, capsys: pytest.CaptureFixture[str]) -> None:
    assert ended(fault) == code
    said = capsys.readouterr()
    assert said.out == ""
    assert "Traceback" not in said.err
    assert len(said.err.splitlines()) == 1
    assert "why" in said.err or isinstance(fault, KeyboardInterrupt | MissingExtraError)


def test_what_nobody_foresaw_is_one_line_without_the_text(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("PERFIT_TRACEBACK", raising=False)
    assert ended(RuntimeError("a secret text")) == 1
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("perfit: RuntimeError at ")
    assert "secret" not in line
    monkeypatch.setenv("PERFIT_TRACEBACK", "1")
    with pytest.raises(RuntimeError, match="secret"):
        ended(RuntimeError("a secret text"))


def test_ctrl_c_inside_a_verb_is_one_line_and_130(
    house: House, perfit: Perfit, monkeypatch: pytest.MonkeyPatch
) -> None:
    from perfit.store.shifts import ShiftStore

    def stop(self: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(ShiftStore, "users", stop)
    done = perfit("users", "list", "--run", house.run)
    assert (done.code, done.out) == (130, "")
    assert done.err == "perfit: stopped; repeat the command to go on\n"


@pytest.mark.parametrize("stream", ["stdout", "stderr"])
def test_a_console_that_lacks_a_character_gets_its_number(stream: str, monkeypatch: pytest.MonkeyPatch) -> None:
    written = io.BytesIO()
    console = io.TextIOWrapper(written, encoding="cp1252", errors="strict", write_through=True)
    monkeypatch.setattr(sys, stream, console)

    def command(standalone_mode: bool) -> None:
        print("é 名", file=getattr(sys, stream))

    assert ending.run(command) == 0
    assert written.getvalue() == b"\xe9 \\u540d\n"


def test_a_reader_that_leaves_and_a_stdout_that_is_closed_or_full(tmp_path: Path) -> None:
    demo = ("data", "demo", tmp_path / "demo.jsonl", *FEW)
    for shell, code, said in (
        ("| true", 141, b""),
        (">&-", 0, b""),
        ("2>&- >&-", 0, b""),
        ("> /dev/full", 1, b"perfit: No space left on device\n"),
    ):
        done = real(*demo, shell=shell)
        assert (done.returncode, done.stderr) in ((code, said), (0, b"") if code == 141 else (code, said)), shell
    assert (tmp_path / "demo.jsonl").is_file()


def closed() -> io.TextIOWrapper:
    reader, writer = os.pipe()
    os.close(reader)
    return os.fdopen(writer, "w")


@pytest.mark.parametrize("show", [print, lambda text: typer.echo(text), lambda text: _table(text)])
def test_a_pipe_without_a_reader_is_141_and_silent(
    show: Callable[[str], None], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    pipe = closed()
    monkeypatch.setattr(sys, "stdout", pipe)

    def command(standalone_mode: bool) -> None:
        show("a line")

    assert ending.run(command) == 141
    sys.stdout.flush()  # as the interpreter does at its end
    assert capsys.readouterr().err == ""
    pipe.close()


def _table(text: str) -> None:
    from perfit.cli.show import table

    table(["what"], [[text]] * 2000)
