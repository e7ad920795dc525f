"""Python code in a process of its own that need not import anything again: a child forked off this one."""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
import traceback


def python(code: str, *arguments: object) -> subprocess.CompletedProcess[str]:
    """As ``python -c code arguments``, to its end."""
    with tempfile.TemporaryFile("w+") as out, tempfile.TemporaryFile("w+") as err:
        _, status = os.waitpid(start(code, *arguments, out=out.fileno(), err=err.fileno()), 0)
        out.seek(0)
        err.seek(0)
        code_of_exit = os.waitstatus_to_exitcode(status)
        return subprocess.CompletedProcess([code, *arguments], code_of_exit, out.read(), err.read())


def start(code: str, *arguments: object, out: int, err: int) -> int:
    """The same, begun: its process id. What it prints goes to these files."""
    child = os.fork()
    if child:
        return child
    status = 1
    try:
        os.dup2(out, 1)
        os.dup2(err, 2)
        sys.stdout, sys.stderr = (os.fdopen(number, "w", closefd=False) for number in (1, 2))
        sys.argv = ["-c", *map(str, arguments)]
        exec(code, {"__name__": "__main__"})
        status = 0
    except SystemExit as stop:
        status = int(stop.code or 0)
    except BaseException:
        traceback.print_exc()
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(status)
