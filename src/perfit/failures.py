"""An exception that nobody foresaw, in one line that holds no user's text."""

from __future__ import annotations

import traceback
from pathlib import Path
from typing import Any

from perfit.errors import PerfitError


def describe_failure(error: BaseException) -> dict[str, Any]:
    """An exception in one line and the frames it came through.

    The messages of our own errors never hold a user's text and are kept whole; those of others may, and are not kept.
    """
    frames = traceback.extract_tb(error.__traceback__)
    where = [f"{'/'.join(Path(f.filename).parts[-3:])}:{f.lineno} in {f.name}" for f in frames]
    if isinstance(error, PerfitError):
        return {"error": str(error), "where": where}
    last = f" at {where[-1]}" if where else ""
    reason = f" ({error.strerror})" if isinstance(error, OSError) and error.strerror else ""
    return {"error": f"{type(error).__name__}{reason}{last}", "where": where}
