"""A run on the hub: what goes there, and what comes back."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import huggingface_hub
import pytest
from small_base import CONFIG, TASK, dataset, person, write_base

from perfit.errors import StoreError
from perfit.personalizer import PerFit

DATA = dataset(("anna", "ben"))
ASKED = ([DATA.users[0].queries[0]] * 3, ["anna", "ben", "collective"])


def test_a_run_from_the_hub_answers_and_takes_users_once_it_has_a_folder_of_its_own(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    perfit = PerFit.from_pretrained(write_base(tmp_path / "base"), CONFIG, task=TASK)
    perfit.fit(DATA)
    perfit.save_pretrained(tmp_path / "blobs")
    seen: dict[str, Any] = {}

    def snapshot_download(repo_id: str, *, token: str | None) -> str:
        """As the hub's cache lies: links to files that lie elsewhere."""
        seen.update(repo_id=repo_id, token=token)
        folder = tmp_path / "snapshot"
        folder.mkdir(exist_ok=True)
        for file in (tmp_path / "blobs").iterdir():
            if file.is_file() and not (folder / file.name).exists():
                (folder / file.name).symlink_to(file)
        return str(folder)

    monkeypatch.setattr(huggingface_hub, "snapshot_download", snapshot_download)
    loaded = PerFit.from_hub("me/run", token="t", device="cpu")
    assert seen == {"repo_id": "me/run", "token": "t"}
    assert loaded.generate(*ASKED) == perfit.generate(*ASKED)
    with pytest.raises(StoreError) as refused:
        loaded.personalize(person("dora"))
    assert "\n" not in str(refused.value)
    loaded.save_pretrained(tmp_path / "mine")
    mine = PerFit.from_pretrained(tmp_path / "mine")
    mine.personalize(person("dora"))
    assert mine.users() == ["anna", "ben", "dora"]
    assert PerFit.from_hub("me/run").users() == ["anna", "ben"]
