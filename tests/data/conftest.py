"""Small hand-written data, and the place of the real data sets."""

from __future__ import annotations

import gzip
import json
from collections.abc import Callable
from pathlib import Path

import pytest
from needed_data import data_folder, without


@pytest.fixture
def oppu_folder(tmp_path: Path) -> Callable[..., Path]:
    """Writes an OPPU folder with the given users and returns it."""

    def write(
        users: object,
        others: object = None,
        label: object = None,
        *,
        name: str = "folder",
        stem: str = "user_top_100_history",
        packed: bool = False,
    ) -> Path:
        folder = tmp_path / name
        folder.mkdir()
        files = {stem: users, "user_others": others, f"{stem}_label": label}
        for file, content in files.items():
            if content is not None:
                data = json.dumps(content).encode()
                path = folder / (file + (".json.gz" if packed else ".json"))
                path.write_bytes(gzip.compress(data) if packed else data)
        return folder

    return write


@pytest.fixture(scope="session")
def real_data() -> Path:
    """Folder of the real data sets: PERFIT_DATA, or beside the checkout."""
    folder = data_folder()
    if not folder.is_dir():
        without("the real data sets are not here; set PERFIT_DATA to the folder that holds news_categorize/ ...")
    return folder
