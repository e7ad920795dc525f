"""What nobody who trains should miss, on stderr: the default listener of the Python API."""

from __future__ import annotations

import sys
from typing import Any

from perfit.shown import shown

_LONGEST = 4000


def print_notices(event: dict[str, Any]) -> None:
    """Print warnings and skipped users; everything else is silent."""
    if event["event"] == "warning":
        print(f"perfit: {shown(event['text'], _LONGEST)}", file=sys.stderr)
    elif event["event"] == "skipped":
        line = f"skipped user {event['learner']}: {event['problem']}"
        print(f"perfit: {shown(line, _LONGEST)}", file=sys.stderr)
