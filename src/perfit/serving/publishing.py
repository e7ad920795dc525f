"""A user's shift put live: in one step, so that every request has the old one or the new one."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from perfit.belonging import open_store
from perfit.errors import StoreError
from perfit.notebook.versions import Versions
from perfit.run import RunDirectory
from perfit.store.digest import shift_digest
from perfit.store.payload import StoredShift, rounded
from perfit.tombstones import Tombstones

KEPT, KEPT_BACK = "kept", "kept back"
_OUTSIDE: Mapping[str, Any] = {"trained": "outside serving"}
_TRY_SECONDS = 0.2


@contextmanager
def locked(run: RunDirectory, seconds: float) -> Iterator[None]:
    """The run to oneself, waited for so many seconds.

    Raises:
        StoreError: Somebody else had it all the while.
    """
    until = time.monotonic() + seconds
    while True:
        lock = run.locked()
        try:
            lock.__enter__()
            break
        except StoreError:
            if time.monotonic() >= until:
                raise
            time.sleep(_TRY_SECONDS)
    try:
        yield
    finally:
        lock.__exit__(None, None, None)


def live_of(run: RunDirectory, user: str) -> StoredShift | None:
    """The live shift of a user; None where there is none."""
    with open_store(run) as store:
        return store.find(user)


def from_outside(versions: Versions, user: str, live: StoredShift | None) -> StoredShift | None:
    """The shift of a user that was trained on what this server never had, the newest; None where there is none such.

    Args:
        versions: What is kept of the user.
        user: Whose.
        live: What is live now; what is in no version came from outside.
    """
    if live is None or versions.number_of(user, shift_digest(live.tensors)) is None:
        return live
    outside = [version.number for version in versions.of(user) if version.note == _OUTSIDE]
    return versions.stored(user, outside[-1]) if outside else None


@dataclass(frozen=True)
class Publication:
    """A shift that becomes a version of a user, live or not.

    Attributes:
        user: Whose.
        stored: The shift.
        note: What is known of it.
        live: Whether it is put live; else it is kept back.
    """

    user: str
    stored: StoredShift
    note: Mapping[str, Any]
    live: bool


def publish(
    run: RunDirectory,
    versions: Versions,
    one: Publication,
    *,
    seconds: float,
    still_wanted: Callable[[], bool] = lambda: True,
) -> int | None:
    """Keep a shift as a version and put it live, while nobody can erase its user. Whoever was erased is there again.

    Args:
        run: The run.
        versions: Where versions are kept; what was live before is kept there first.
        one: The shift.
        seconds: How long to wait for others who work in the run.
        still_wanted: Asked under the lock; False leaves everything as it is.

    Returns:
        The number of the version; None where it was not wanted any more.

    Raises:
        StoreError: The run is in use or damaged.
    """
    with locked(run, seconds):
        if not still_wanted():
            return None
        with open_store(run, readonly=False) as store:
            # As the store keeps it, so that both are known by one digest.
            stored = StoredShift(rounded(one.stored.tensors, store.dtype, {}), one.stored.meta)
            digest = shift_digest(stored.tensors)
            before = store.find(one.user)
            if before is not None:
                versions.add(one.user, before, shift_digest(before.tensors), state=KEPT, note=_OUTSIDE)
            number = versions.add(one.user, stored, digest, state=KEPT if one.live else KEPT_BACK, note=one.note)
            if one.live:
                store.put(one.user, stored.tensors, stored.meta)
            elif before is not None:
                digest = shift_digest(before.tensors)
        stones = Tombstones(run.path)
        if one.live and one.user in stones:
            stones.lift(one.user)
        versions.prune(one.user, digest)
        return number


def described(versions: Versions, user: str, live: str | None) -> list[dict[str, Any]]:
    """A user's versions for whoever may see them; of the live one, by its digest, it is said that it is."""
    found = [
        {
            "version": version.number,
            "created": version.created,
            "state": "live" if version.digest == live else version.state,
            "digest": version.digest,
            "note": dict(version.note),
        }
        for version in versions.of(user)
    ]
    if live is not None and all(one["digest"] != live for one in found):
        number = versions.numbered(user, live)
        found.append(
            {
                "version": number,
                "created": None,
                "state": "live",
                "digest": live,
                "note": dict(_OUTSIDE),
            }
        )
    return found
