"""A stage's result: taken where it lies, else made, kept and read back, before its checkpoint goes."""

from __future__ import annotations

import pytest

from perfit.training.once import once


class Place:
    """Notes what was done, in order; dies where it is told to."""

    def __init__(self, kept: str | None = None, dies: str = ""):
        self.kept, self.dies, self.done = kept, dies, list[str]()

    def there(self) -> str | None:
        return None if self.kept is None else f"read {self.kept}"

    def make(self) -> None:
        self.done.append("make")
        if self.dies == "make":
            raise KeyboardInterrupt
        self.kept = "made"

    def drop(self) -> None:
        self.done.append("drop")

    def once(self) -> tuple[str, bool]:
        return once(self.there, self.make, self.drop)


def test_what_is_not_there_is_made_and_read_back_before_the_checkpoint_goes() -> None:
    place = Place()
    assert place.once() == ("read made", False)
    assert place.done == ["make", "drop"]


def test_what_is_there_is_not_made_again_and_a_checkpoint_that_a_kill_left_goes() -> None:
    place = Place("of before")
    assert place.once() == ("read of before", True)
    assert place.done == ["drop"]


def test_a_training_that_dies_keeps_its_checkpoint() -> None:
    place = Place(dies="make")
    with pytest.raises(KeyboardInterrupt):
        place.once()
    assert place.done == ["make"]
