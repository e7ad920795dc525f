"""A run written to another place: a folder, or a repository of the Hugging Face hub."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

from perfit.belonging import spec_digest
from perfit.errors import StoreError
from perfit.model_card import write_first_card
from perfit.run import RunDirectory
from perfit.shown import shown
from perfit.store.personal import PersonalShifts
from perfit.tombstones import Tombstones

if TYPE_CHECKING:
    from perfit.personalizer import PerFit


def save(perfit: PerFit, path: str | Path) -> None:
    """See ``PerFit.save_pretrained``."""
    owners = perfit.owners
    if owners.shared is None:
        raise StoreError("there is nothing to save yet; call fit first")
    run = RunDirectory(path)
    if owners.personal.path is not None and owners.personal.path.resolve() == run.store_path.resolve():
        return  # it lies there already, user by user
    manifest = perfit.belonging.manifest(None)
    if run.exists():
        theirs = run.manifest()
        same = spec_digest(theirs) == spec_digest(manifest)
        if not same or not run.has_collective() or run.read_collective() != owners.shared.file:
            raise StoreError(f"{run.path}: holds another run; choose another folder")
    elif run.store_path.exists():
        raise StoreError(f"{run.path}: holds a personal.sqlite that belongs to no run; choose another folder")
    else:
        run.create(manifest)
        run.save_collective(owners.shared.file)
    stones = Tombstones(run.path)
    if erased := [user for user in owners.personal.users() if user in stones]:
        raise StoreError(
            f"{run.path}: user {shown(erased[0])!r} was erased from it; erase the user here too, or choose another folder"
        )
    spec = perfit.belonging.store_spec(owners.shared.file)
    copy = PersonalShifts.open(run.store_path, perfit.identity.as_dict(), spec, new=True)
    try:
        copy.put_stored((user, owners.personal.stored(user)) for user in owners.personal.users())
    finally:
        copy.close()
    write_first_card(run)


def upload(perfit: PerFit, repo_id: str, *, private: bool, token: str | None) -> str:
    """See ``PerFit.push_to_hub``."""
    from huggingface_hub import HfApi

    with tempfile.TemporaryDirectory() as folder:
        save(perfit, folder)
        api = HfApi(token=token)
        api.create_repo(repo_id, private=private, exist_ok=True)
        if private and not api.repo_info(repo_id).private:
            raise StoreError(f"{repo_id}: is public; pass private=False if everybody may have these users' shifts")
        return str(api.upload_folder(repo_id=repo_id, folder_path=folder))
