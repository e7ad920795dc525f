"""A run with a notebook, made once; tests change a copy."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
import torch
from small_base import CONFIG, TASK, dataset, person, write_base

from perfit.edits.shift import new_shift, to_stored
from perfit.notebook.database import Notebook
from perfit.notebook.items import Items
from perfit.notebook.jobs import Jobs
from perfit.notebook.versions import Versions
from perfit.personalizer import PerFit
from perfit.run import RunDirectory
from perfit.store.digest import shift_digest
from perfit.store.payload import StoredShift


@pytest.fixture(scope="session")
def kept(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run with a notebook in which everything there is lies once."""
    folder = tmp_path_factory.mktemp("upkeep")
    write_base(folder / "base")
    perfit = PerFit.from_pretrained(folder / "base", CONFIG, task=TASK)
    perfit.fit(dataset(("anna", "ben")), run=folder / "run", listener=lambda event: None)
    with Notebook(folder / "run") as notebook:
        Items(notebook).replace(person("anna", history=6))
        Items(notebook).judge("ben", "rejected", person("ben").history[0], TASK)
        job = Jobs(notebook).ask("anna")
        Jobs(notebook).take()
        Jobs(notebook).end(job.id, "live", {"version": 1})
        tiny = StoredShift(
            to_stored(new_shift((1, 1, 4), init="loreft", generator=torch.Generator().manual_seed(1))), {}
        )
        Versions(notebook).add("anna", tiny, shift_digest(tiny.tensors), state="kept", note={"steps": 1})
    return folder / "run"


@pytest.fixture
def run(kept: Path, tmp_path: Path) -> RunDirectory:
    shutil.copytree(kept, tmp_path / "run")
    return RunDirectory(tmp_path / "run")
