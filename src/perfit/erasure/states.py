"""Hidden states of users' texts: a frozen cache, and that of a search."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from perfit.erasure.step import Step, Unreached, removal
from perfit.erasure.words import holds
from perfit.tombstones import Tombstones
from perfit.training.frozen_cache import kinds_in, locked_kinds

_WHY = "states of all users: rows do not say whose they are, and are computed again when needed"


class CachePlace:
    """A folder of ``--frozen-cache``.

    Args:
        path: The folder.
    """

    stones: Tombstones | None = None

    def __init__(self, path: Path):
        self.path = path

    @contextmanager
    def locked(self) -> Iterator[None]:
        """Keep trainings from adding to it meanwhile."""
        with locked_kinds(self.path):
            yield

    def knows(self, user: str) -> bool:
        """Nobody is named here."""
        return False

    def steps(self, user: str) -> list[Step]:
        """All of it goes."""
        return [removal(path, _WHY) for path in kinds_in(self.path)]

    def unreached(self, user: str) -> list[Unreached]:
        """Nothing."""
        return []


class SearchPlace(CachePlace):
    """A folder of ``perfit search``: its frozen cache goes; settings and scores of trials name nobody."""

    def __init__(self, path: Path):
        super().__init__(path / "frozen")
        self.search = path

    def unreached(self, user: str) -> list[Unreached]:
        """What a failed trial said."""
        files = [path for path in self.search.iterdir() if path.is_file() and path.stat().st_size and holds(path, user)]
        return [Unreached(str(path), "a trial's failure names the user; remove the search") for path in files]
