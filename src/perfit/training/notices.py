"""What nobody who trains should miss, on stderr: the default listener of the Python API."""

from __future__ import annotations

import sys
from typing import Any


def print_notices(event: dict[str, Any]) -> None:
    """Print warnings and skipped users; everything else is silent."""
    if event["event"] == "warning":
        print(f"perfit: {event['text']}", file=sys.stderr)
    elif event["event"] == "skipped":
        print(f"perfit: skipped user {event['learner']}: {event['problem']}", file=sys.stderr)
