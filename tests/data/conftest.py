"""Small hand-written data, and the place of the real data sets."""

from __future__ import annotations

import gzip
import json
import os
from collections.abc import Callable
from pathlib import Path

import pytest


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
    beside = Path(__file__).resolve().parents[2].parent / "shared" / "data" / "lamp_format"
    folder = Path(os.environ.get("PERFIT_DATA", beside))
    if not folder.is_dir():
        pytest.skip("the real data sets are not here; set PERFIT_DATA to the folder that holds news_categorize/ ...")
    return folder
