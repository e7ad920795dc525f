"""A receipt held against a run: is this what the run has, and is it still so?"""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Any

from perfit.belonging import open_store, parts_of
from perfit.durable.identity import digest_of
from perfit.errors import ConfigError, StoreError
from perfit.notebook.database import FILE, Notebook
from perfit.notebook.versions import Versions
from perfit.run import RunDirectory
from perfit.serving.receipts import read_receipt
from perfit.store.digest import shift_digest
from perfit.strength import strength_of


def verified(receipt: str, run: str | Path, user: str | None = None) -> dict[str, Any]:
    """What a receipt says, each part held against the run.

    Args:
        receipt: The text of the header ``x-perfit-receipt``.
        run: The run's folder.
        user: Whose it should be; None looks through everybody's shifts.

    Raises:
        ConfigError: It is no receipt, was changed, is another run's, or of another base or collective shift than the run
            has, or is not of this user.
        StoreError: The run is damaged, or was never served.
    """
    folder = RunDirectory(run)
    _, _, identity = parts_of(folder)
    if not (folder.path / FILE).exists():
        raise StoreError(f"{folder.path}: was never served, and so gave no receipts; name the run that did")
    with Notebook(folder.path) as notebook:
        said = dict(read_receipt(receipt, notebook.key))
        said.pop("format")
        if said["base"] != digest_of(identity.as_dict()):
            raise ConfigError("receipt: it is of another base than the run has now")
        collective = hashlib.sha256(folder.read_collective()).hexdigest()
        if said["collective"] not in (None, collective):
            raise ConfigError("receipt: it is of another collective shift than the run has now")
        digest = said["user"]
        if digest is None:
            if user is not None:
                raise ConfigError(f"receipt: no personal shift answered, so it is not of user {user!r}")
            return said | {"signature": "good", "shift": "none: the base or the shared shift answered"}
        return said | {"signature": "good", "shift": _where(folder, Versions(notebook), said, user)}


def _where(run: RunDirectory, versions: Versions, said: dict[str, Any], user: str | None) -> str:
    digest = said["user"]
    with open_store(run) as store:
        for name in [user] if user is not None else store.users():
            found = store.find(name)
            if found is not None and shift_digest(found.tensors) == digest:
                same = strength_of(found.meta) == said["strength"]
                return "live" if same else "live, with another strength now"
    if digest in versions.digests() if user is None else versions.number_of(user, digest) is not None:
        return "an earlier version, which is kept"
    if user is not None:
        raise ConfigError(
            f"receipt: it is of none of the versions of user {user!r}; without --user all users are searched"
        )
    return "not here any more: retrained without the server, or erased"
