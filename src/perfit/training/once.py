"""Done once: what lies there is taken, what does not is made and kept, and only then its checkpoint goes."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar

Kept = TypeVar("Kept")


def once(there: Callable[[], Kept | None], make: Callable[[], None], drop: Callable[[], None]) -> tuple[Kept, bool]:
    """The result of a stage of training, from the place where it is kept.

    Who goes on after a kill reads the same bytes as who was never stopped: a result that was just made is read back too.
    A kill between keeping it and dropping the checkpoint leaves a checkpoint, which the next call drops.

    Args:
        there: Reads the result; None where it is not made yet.
        make: Trains and keeps it, so that ``there`` reads it.
        drop: Removes the state of training under way.

    Returns:
        The result, and whether it was there before.
    """
    found = there()
    if found is None:
        make()
    kept = there() if found is None else found
    assert kept is not None, "make keeps what it made"
    drop()
    return kept, found is not None
