"""Erasing a user: from the run, from what was made beside it, and a list of all that was done and could not be."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from perfit.comparison.folder import ComparisonFolder
from perfit.elsewhere import Elsewhere
from perfit.erasure.analysis import AnalysisPlace
from perfit.erasure.comparison import ComparisonPlace
from perfit.erasure.run import RunPlace
from perfit.erasure.states import CachePlace, SearchPlace
from perfit.erasure.step import Deed, Place, Unreached
from perfit.errors import ConfigError, PerfitError, StoreError, UnknownUserError
from perfit.notebook.served import forget
from perfit.run import RunDirectory
from perfit.shown import shown
from perfit.store.shifts import ShiftStore
from perfit.tombstones import BEGUN, DONE
from perfit.training.frozen_cache import kinds_in

_COPIES = Unreached(
    "copies", "exports, backups, runs saved or pushed elsewhere, what was printed, and old blocks of the disk"
)


_FORGET_SECONDS = 60.0


@dataclass(frozen=True)
class Erasure:
    """What an erasure did.

    Attributes:
        user: The id.
        deeds: What became of each file.
        unreached: What it leaves alone, and why.
        went_on: Whether it finished one that was interrupted; what that one did is not listed again.
    """

    user: str
    deeds: tuple[Deed, ...]
    unreached: tuple[Unreached, ...]
    went_on: bool = False

    def as_dict(self) -> dict[str, Any]:
        """Plain values."""
        return {
            "user": self.user,
            "done": [{"path": str(deed.path), "what": deed.what} for deed in self.deeds],
            "not_reached": [{"what": left.what, "why": left.why} for left in self.unreached],
            "went_on": self.went_on,
        }


def erase_user(user: str, run: str | Path, also: Iterable[str | Path] = ()) -> Erasure:
    """Erase a user from a run, from its frozen caches, and from comparisons of the same data beside it or in it.

    A kill at any moment leaves an erasure that the same call finishes. ``fit`` and ``evaluate`` leave the user out from
    then on, and comparisons too; ``personalize`` or an import brings them back.

    Args:
        user: The id.
        run: The run's folder.
        also: Other folders that perfit made: runs, comparisons, analyses, searches, frozen caches.

    Raises:
        UnknownUserError: Nothing here is of this user.
        StoreError: A folder is in use or damaged, or something is left in spite of it all.
        ConfigError: A folder of ``also`` is none of perfit's.
    """
    own = RunPlace(RunDirectory(run))
    others = {Path(path).resolve(): Path(path) for path in also}
    others.pop(own.path.resolve(), None)
    places, unreached = _places(own, list(others.values()), user)
    with ExitStack() as held:
        for place in places:
            held.enter_context(place.locked())
        # What was read before the locks were taken may have changed.
        places = [_again(place) for place in places]
        states = [place.stones.state(user) for place in places if place.stones is not None]
        # All are read before anything is changed: one that cannot be read stops the erasure before it begins.
        known = [place.knows(user) for place in places]
        if not any(states) and not any(known):
            raise _unknown(user, own)
        for place, knows in zip(places, known, strict=True):
            if place.stones is not None and (place is places[0] or knows):
                place.stones.put(user, BEGUN)
        deeds = []
        for place in places:
            for step in place.steps(user):
                step.act()
                deeds.append(step.deed)
        for place in places:
            if left := place.steps(user):
                raise StoreError(f"{left[0].path}: still holds something of the user; repeat the command")
        # The files first: a server looks there for whoever it does not have in memory.
        for place in places:
            if isinstance(place, RunPlace) and forget(place.path, user, _FORGET_SECONDS):
                deeds.append(Deed(place.path, "forgotten by the server that runs"))
        for place in places:
            if place.stones is not None and place.stones.state(user) == BEGUN:
                place.stones.put(user, DONE)
        unreached += [left for place in places for left in place.unreached(user)]
    source = (own.manifest.get("data") or {}).get("source")
    data = (
        [Unreached(str(source), "the data it was trained on: a training from them has the user again")]
        if source
        else []
    )
    return Erasure(user, tuple(deeds), (*unreached, *data, _COPIES), BEGUN in states)


def place_of(path: Path) -> Place:
    """A folder of perfit's as a place to erase from.

    Raises:
        ConfigError: It is none.
        StoreError: It is damaged.
    """
    if RunDirectory(path).exists():
        return RunPlace(RunDirectory(path))
    if ComparisonFolder(path).exists():
        return ComparisonPlace(path)
    if _is_search(path):
        return SearchPlace(path)
    if _is_analysis(path):
        return AnalysisPlace(path)
    if path.is_dir() and kinds_in(path):
        return CachePlace(path)
    raise ConfigError(f"also: {path} is no run, comparison, analysis, search or frozen cache; check the path")


def _again(place: Place) -> Place:
    if isinstance(place, RunPlace):
        return RunPlace(place.run)
    return ComparisonPlace(place.path) if isinstance(place, ComparisonPlace) else place


def _places(own: RunPlace, also: Sequence[Path], user: str) -> tuple[list[Place], list[Unreached]]:
    """Where to erase, the run first, and what lies beside it and is left alone."""
    places: list[Place] = [own, *map(place_of, also)]
    taken = {path.resolve() for path in (own.path, *also)}
    left = []
    for path in _near(own.path):
        if path.resolve() in taken:
            continue
        try:
            place = place_of(path)
            if isinstance(place, ComparisonPlace) and _same_data(own, place):
                places.append(place)
            elif isinstance(place, SearchPlace | CachePlace):
                if kinds_in(place.path):
                    left.append(
                        Unreached(str(path), f"may hold states of the user's texts; erase them with --also {path}")
                    )
            elif place.knows(user):
                left.append(
                    Unreached(str(path), f"names such a user too; if it is this one, erase there with --also {path}")
                )
        except PerfitError as error:
            left.append(Unreached(str(path), f"cannot be read ({error})"))
    caches = [
        path for place in places if isinstance(place, RunPlace) for path in Elsewhere(place.path).paths("frozen_cache")
    ]
    for path in dict.fromkeys(caches):
        if path.resolve() not in taken and path.is_dir():
            taken.add(path.resolve())
            left = [one for one in left if Path(one.what).resolve() != path.resolve()]
            places.append(CachePlace(path))
    return places, left


def _near(run: Path) -> Iterator[Path]:
    """Folders of perfit's in a run and beside it."""
    for folder in (run, run.resolve().parent):
        for path in sorted(folder.iterdir()):
            if path.is_dir() and path.resolve() != run.resolve():
                made = RunDirectory(path).exists() or ComparisonFolder(path).exists()
                if made or _is_search(path) or _is_analysis(path) or kinds_in(path):
                    yield path


def _is_search(path: Path) -> bool:
    return (path / "search.json").is_file()


def _is_analysis(path: Path) -> bool:
    return any(path.glob("*/*/recipe.json")) or any(path.glob("*/*/parts/*.safetensors"))


def _same_data(own: RunPlace, place: ComparisonPlace) -> bool:
    """Whether a comparison asks the run's users: the same task, and the same data or a part of the same file."""
    mine, theirs = own.manifest.get("data"), place.plan["data"]
    if not isinstance(mine, dict) or own.manifest["task"] != place.plan["task"]:
        return False
    return bool(mine["fingerprint"] == theirs["fingerprint"] or (mine["source"] and mine["source"] == theirs["source"]))


def _unknown(user: str, own: RunPlace) -> UnknownUserError:
    """With similar ids, where the store has some."""
    if own.run.store_path.exists():
        with ShiftStore.open(own.run.store_path, own.manifest["base"]["identity"], readonly=True) as store:
            try:
                store.get(user)
            except UnknownUserError as error:
                return error
    return UnknownUserError(f"nothing of user {shown(user)!r} is in {own.path}")
