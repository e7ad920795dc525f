"""A run whose users' rows are hidden from now on, each with a key of the user's own."""

from __future__ import annotations

from pathlib import Path

from perfit.belonging import open_store
from perfit.durable.identity import digest_of
from perfit.errors import ConfigError, StoreError
from perfit.notebook.database import Notebook
from perfit.run import RunDirectory
from perfit.store.data_keys import DataKeys
from perfit.upkeep.alone import alone


def encrypt(run: RunDirectory, file: Path) -> DataKeys:
    """Hide shifts, versions, histories and feedback, those that are there and those to come. Killed, the same call goes on.

    Args:
        run: The run; nobody may serve it meanwhile.
        file: Where the users' keys lie, outside the run; made where there is none.

    Raises:
        ConfigError: The file would lie in the run.
        StoreError: The run is in use, served or damaged, or hidden already with other keys.
        MissingExtraError: ``perfit[encrypted]`` is not installed.
    """
    if file.resolve().is_relative_to(run.path.resolve()):
        raise ConfigError("--data-keys: the file must lie outside the run, or every copy of the run brings its keys")
    with alone(run):
        with open_store(run, readonly=False) as store:
            if store.data_keys is None:
                store.hide(DataKeys.create(file, digest_of(store.identity, store.spec)))
            keys = store.data_keys
            assert keys is not None
            if keys.file.resolve() != file.resolve():
                raise StoreError(f"{run.path}: is encrypted already, with the keys of {keys.file}")
        Notebook(run.path).close()  # which hides what is in it, and what will be
    return keys
