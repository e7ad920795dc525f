"""An interrupt at every line of some files while a call runs: what Ctrl-C in a notebook or an alarm does, everywhere."""

from __future__ import annotations

import sys
from collections import Counter
from collections.abc import Callable, Collection
from types import FrameType
from typing import Any

Place = tuple[str, int]


class _Lines:
    """Counts how often each line of some files runs, and raises at one run of one of them."""

    def __init__(self, files: Collection[str], at: tuple[Place, int] | None):
        self.files, self.at = files, at
        self.seen: Counter[Place] = Counter()

    def __call__(self, frame: FrameType, event: str, argument: Any) -> Any:
        if frame.f_code.co_filename not in self.files:
            return None
        if event == "line":
            place = (frame.f_code.co_filename, frame.f_lineno)
            self.seen[place] += 1
            if self.at == (place, self.seen[place]):
                raise KeyboardInterrupt
        return self


def _came_through(call: Callable[[], object], lines: _Lines) -> bool:
    before = sys.gettrace()
    sys.settrace(lines)
    try:
        call()
    except KeyboardInterrupt:
        return False
    finally:
        sys.settrace(before)
    return True


def interrupted_at_every_line(files: Collection[str], call: Callable[[], object], check: Callable[[], None]) -> int:
    """Interrupt ``call`` at the first and at the last run of each line in ``files``, and ``check`` after each; how many."""
    whole = _Lines(files, None)
    assert _came_through(call, whole)
    moments = sorted({(place, number) for place, times in whole.seen.items() for number in (1, times)})
    assert moments, "nothing of these files runs"
    stopped = 0
    for moment in moments:
        stopped += not _came_through(call, _Lines(files, moment))
        check()
    return stopped
