"""What nobody should miss, on stderr: the default listener of the Python API."""

from __future__ import annotations

import sys

from perfit.events.kinds import Event, Skipped, Warned
from perfit.shown import shown

_LONGEST = 4000


def print_notices(event: Event) -> None:
    """Print warnings and skipped users; everything else is silent."""
    if isinstance(event, Warned | Skipped):
        print(f"perfit: {shown(notice(event), _LONGEST)}", file=sys.stderr)


def notice(event: Warned | Skipped) -> str:
    """A warning or a skipped user in one line."""
    return event.text if isinstance(event, Warned) else f"skipped user {event.learner}: {event.problem}"
