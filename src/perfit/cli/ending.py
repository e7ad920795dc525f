"""How a command ends: an exit code for every kind of end, one line on stderr, and no traceback (docs/cli.md)."""

from __future__ import annotations

import errno
import os
import sys
import warnings
from collections.abc import Callable
from typing import Any

import typer

from perfit.errors import ConfigError, DamagedError, LeakError, PerfitError
from perfit.shown import shown

ERROR = 1
USAGE = 2
LEAK = 3
DAMAGED = 4
STOPPED = 130
NO_READER = 141

_LONGEST = 4000
_TRACE = "PERFIT_TRACEBACK"
_WrongUsage = typer.BadParameter.__mro__[2]  # click's ClickException, which typer brings but does not name


def code_of(error: PerfitError) -> int:
    """The exit code of a fault."""
    for kind, code in ((LeakError, LEAK), (DamagedError, DAMAGED), (ConfigError, USAGE)):
        if isinstance(error, kind):
            return code
    return ERROR


def run(command: Callable[..., Any]) -> int:
    """Run the command line and say in one line why it ended, where it did not end well.

    Args:
        command: The typer application.

    Returns:
        The exit code.
    """
    _prepare_streams()
    try:
        code = int(command(standalone_mode=False) or 0)
        sys.stdout.flush()
    except BaseException as error:
        code = _end(error)
    if code == STOPPED:
        say_error("stopped; repeat the command to go on")
    return code


def say_error(text: str) -> None:
    """One line on stderr."""
    print(f"perfit: {shown(text, _LONGEST)}", file=sys.stderr)


def _prepare_streams() -> None:
    # Started without one (>&-), or on a console that lacks a character: nothing to stumble over half-way.
    sys.stdout = sys.stdout or open(os.devnull, "w", encoding="utf-8")  # noqa: SIM115
    sys.stderr = sys.stderr or open(os.devnull, "w", encoding="utf-8")  # noqa: SIM115
    for stream in (sys.stdout, sys.stderr):
        reconfigure = getattr(stream, "reconfigure", None)
        if reconfigure is not None:
            reconfigure(errors="backslashreplace")
    warnings.formatwarning = lambda message, *where, **more: f"perfit: {shown(message, _LONGEST)}\n"


def _end(error: BaseException) -> int:
    if isinstance(error, SystemExit):
        if isinstance(error.__context__, BrokenPipeError):  # typer's own end of a closed pipe
            return _end(error.__context__)
        return error.code if isinstance(error.code, int) else ERROR if error.code else 0
    if isinstance(error, KeyboardInterrupt):
        return STOPPED
    if isinstance(error, PerfitError):
        say_error(str(error))
        return code_of(error)
    if isinstance(error, _WrongUsage):
        error.show()  # type: ignore[attr-defined]
        return USAGE
    if isinstance(error, typer.Abort):
        say_error("stopped: there was no answer")
        return ERROR
    if isinstance(error, OSError):
        return _end_of_files(error)
    if os.environ.get(_TRACE):
        raise error
    from perfit.failures import describe_failure

    say_error(f"{describe_failure(error)['error']}: a fault of perfit; {_TRACE}=1 shows where")
    return ERROR


def _end_of_files(error: OSError) -> int:
    if error.errno == errno.EPIPE and error.filename is None:
        _drop_stdout()
        return NO_READER
    if error.errno == errno.ENOSPC and error.filename is None:
        _drop_stdout()
    where = f"{error.filename}: " if error.filename else ""
    say_error(f"{where}{error.strerror or error}")
    return ERROR


def _drop_stdout() -> None:
    """Let what is still unwritten go nowhere: the interpreter would try, and complain, once more at its end."""
    nowhere = os.open(os.devnull, os.O_WRONLY)
    try:
        os.dup2(nowhere, sys.stdout.fileno())
    except (OSError, ValueError):
        sys.stdout = open(os.devnull, "w", encoding="utf-8")  # noqa: SIM115
    finally:
        os.close(nowhere)
