"""The users' own shifts of one collective shift: in a run's store, or in memory in the very same form."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import torch

from perfit.errors import StoreError, UnknownUserError
from perfit.shift import Shift, from_stored, to_stored
from perfit.store.payload import StoredShift
from perfit.store.shifts import ShiftStore


class PersonalShifts:
    """Personal shifts by user id.

    Args:
        store: Where they lie; without one, in memory, so that a run directory changes no answer.
    """

    def __init__(self, store: ShiftStore | None = None):
        self._store = store
        self._memory: dict[str, StoredShift] = {}

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
            StoreError: It is missing, damaged, or of another base or collective shift.
        """
        if new and not path.exists():
            return cls(ShiftStore.create(path, identity=identity, spec=spec))
        store = ShiftStore.open(path, identity=identity)
        if store.spec.get("collective") != spec["collective"]:
            store.close()
            raise StoreError(
                f"{path.parent}: collective.safetensors is not the one its users were trained on; restore it or train again"
            )
        return cls(store)

    @property
    def path(self) -> Path | None:
        """The store's file, or None in memory."""
        return None if self._store is None else self._store.path

    def users(self) -> list[str]:
        """Ids of all users, sorted."""
        return sorted(self._store.users() if self._store is not None else self._memory)

    def stored(self, user: str) -> StoredShift:
        """A user's shift as it lies in the store.

        Raises:
            UnknownUserError: There is none.
        """
        there = user in self._store if self._store is not None else user in self._memory
        if not there:
            raise UnknownUserError(
                f"user {user!r} has no personal shift; train one (personalize, or perfit users add), or ask for 'base' or "
                "'collective'"
            )
        return self._store.get(user) if self._store is not None else self._memory[user]

    def shift(self, user: str) -> Shift:
        """A user's shift, [layers, r, d], fp32.

        Raises:
            UnknownUserError: There is none.
        """
        return from_stored(self.stored(user).tensors)

    def put(self, entries: Iterable[tuple[str, Shift, Mapping[str, Any]]]) -> None:
        """Keep users' shifts with their training records, all or none."""
        self.put_stored((user, StoredShift(to_stored(shift), dict(meta))) for user, shift, meta in entries)

    def put_stored(self, entries: Iterable[tuple[str, StoredShift]]) -> None:
        """Keep shifts in their stored form, all or none."""
        if self._store is not None:
            self._store.put_many((user, stored.tensors, stored.meta) for user, stored in entries)
            return
        for user, stored in entries:
            tensors = {name: tensor.to(torch.bfloat16) for name, tensor in stored.tensors.items()}
            self._memory[user] = StoredShift(tensors, stored.meta)

    def close(self) -> None:
        """Let go of the store's file."""
        if self._store is not None:
            self._store.close()
