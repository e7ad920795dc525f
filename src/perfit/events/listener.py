"""Who hears of events: one callable, whatever it does with them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TypeAlias

from perfit.events.kinds import Event

Listener: TypeAlias = Callable[[Event], None]
"""Called with each event as it happens, by the thread that does the work; what it raises ends the work."""


def nobody(event: Event) -> None:
    """Listen to nothing."""


def tee(listeners: Sequence[Listener]) -> Listener:
    """One listener that hands each event to all of them, in order."""

    def listener(event: Event) -> None:
        for one in listeners:
            one(event)

    return listener
