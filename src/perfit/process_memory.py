"""How much memory this process takes, as the system counts it."""

from __future__ import annotations

import contextlib
import sys
from pathlib import Path

_STATUS = Path("/proc/self/status")


def process_bytes(field: str) -> int:
    """A field of ``/proc/self/status`` in bytes; the peak so far where there is none, and 0 on Windows.

    Args:
        field: "RssAnon", what is in use without mapped files, which the system may drop; "VmHWM", the peak, which can be
            reset. psutil knows neither.
    """
    with contextlib.suppress(OSError):
        for line in _STATUS.read_text().splitlines():
            if line.startswith(f"{field}:"):
                return int(line.split()[1]) * 1024
    try:
        import resource
    except ImportError:  # Windows has none
        return 0
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return int(peak) if sys.platform == "darwin" else int(peak) * 1024
