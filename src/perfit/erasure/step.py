"""What erasing is made of: steps that each change one file, in an order in which a kill leaves no trace out of sight."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from perfit.tombstones import Tombstones


@dataclass(frozen=True)
class Deed:
    """What became of one file: "removed", "2 lines taken out", ..."""

    path: Path
    what: str


@dataclass(frozen=True)
class Unreached:
    """What erasing leaves alone, and why."""

    what: str
    why: str


@dataclass(frozen=True)
class Step:
    """One change of one file; doing it twice does no harm."""

    path: Path
    what: str
    act: Callable[[], None]

    @property
    def deed(self) -> Deed:
        """What was done, once it is."""
        return Deed(self.path, self.what)


class Place(Protocol):
    """A folder that may hold something of a user.

    Attributes:
        path: The folder.
        stones: Where it is kept who was erased; None in folders from which nobody can come back.
    """

    @property
    def path(self) -> Path:
        """See the class."""
        ...

    @property
    def stones(self) -> Tombstones | None:
        """See the class."""
        ...

    def locked(self) -> AbstractContextManager[None]:
        """Keep others from writing here meanwhile."""
        ...

    def knows(self, user: str) -> bool:
        """Whether something here names the user."""
        ...

    def steps(self, user: str) -> list[Step]:
        """What is to be done; nothing, when nothing of the user is left."""
        ...

    def unreached(self, user: str) -> list[Unreached]:
        """What stays."""
        ...


def removal(path: Path, why: str = "") -> Step:
    """Remove a file or a folder."""

    def act() -> None:
        if path.is_dir() and not path.is_symlink():
            shutil.rmtree(path)
        else:
            path.unlink(missing_ok=True)

    return Step(path, f"removed{'; ' if why else ''}{why}", act)
