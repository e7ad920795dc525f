"""The users' own shifts of one collective shift: in a run's store, or in memory in the very same form."""

from __future__ import annotations

import threading
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from perfit.edits.shift import Shift, from_stored
from perfit.errors import StoreError, UnknownUserError
from perfit.shown import shown
from perfit.store.payload import StoredShift, differences, rounded
from perfit.store.shifts import ShiftStore


def check_spec(run: Path, stored: Mapping[str, Any], wanted: Mapping[str, Any]) -> None:
    """Refuse a store whose users were trained with another collective shift, base, task or settings.

    Raises:
        StoreError: They were.
    """
    if stored.get("collective") != wanted["collective"]:
        raise StoreError(
            f"{run}: collective.safetensors is not the one its users were trained on; restore it or train again"
        )
    if stored.get("run") != wanted["run"]:
        raise StoreError(
            f"{run}: manifest.json names another base, task or settings than its users were trained with; restore it "
            "or train again"
        )
    if found := differences(stored, wanted):
        raise StoreError(f"{run}: its users hold another kind of shift: {found}; restore it or train again")


class PersonalShifts:
    """Personal shifts by user id; one object may be used from several threads.

    Args:
        store: Where they lie; without one, in memory, so that a run directory changes no answer.
    """

    def __init__(self, store: ShiftStore | None = None):
        self._store = store
        self._memory: dict[str, StoredShift] = {}
        self._lock = threading.Lock()

    @classmethod
    def open(
        cls, path: Path, identity: Mapping[str, Any], spec: Mapping[str, Any], *, new: bool = False
    ) -> PersonalShifts:
        """The store of a run whose collective shift is settled.

        Args:
            path: The store's file.
            identity: The base.
            spec: What a shift must agree on with this run, the collective shift's hash among it.
            new: Make the store where there is none.

        Raises:
            StoreError: It is missing, damaged, or of another base, task, settings or collective shift.
        """
        if new and not path.exists():
            return cls(ShiftStore.create(path, identity=identity, spec=spec))
        store = ShiftStore.open(path, identity=identity)
        try:
            check_spec(path.parent, store.spec, spec)
        except BaseException:
            store.close()
            raise
        return cls(store)

    @property
    def path(self) -> Path | None:
        """The store's file, or None in memory."""
        return None if self._store is None else self._store.path

    def users(self) -> list[str]:
        """Ids of all users, sorted."""
        if self._store is not None:
            return self._store.users()
        with self._lock:
            return sorted(self._memory)

    def count(self) -> int:
        """How many users there are."""
        return len(self._store) if self._store is not None else len(self._memory)

    def stored(self, user: str) -> StoredShift:
        """A user's shift as it lies in the store.

        Raises:
            UnknownUserError: There is none.
        """
        # In one look: another thread may delete the user between two.
        found = self._store.find(user) if self._store is not None else self._memory.get(user)
        if found is None:
            raise UnknownUserError(
                f"user '{shown(user)}' has no personal shift; train one (personalize, or perfit users add), or ask for 'base' "
                "or 'collective'"
            )
        return found

    def shift(self, user: str) -> Shift:
        """A user's shift, [layers, r, d], fp32.

        Raises:
            UnknownUserError: There is none.
        """
        return from_stored(self.stored(user).tensors)

    def put_stored(self, entries: Iterable[tuple[str, StoredShift]]) -> None:
        """Keep shifts in their stored form, all or none."""
        if self._store is not None:
            self._store.put_many((user, stored.tensors, stored.meta) for user, stored in entries)
            return
        # As the store would keep them, refused for the same reasons.
        kept = {user: StoredShift(rounded(stored.tensors, "bf16", {}), stored.meta) for user, stored in entries}
        with self._lock:
            self._memory.update(kept)

    def close(self) -> None:
        """Let go of the store's file."""
        if self._store is not None:
            self._store.close()
