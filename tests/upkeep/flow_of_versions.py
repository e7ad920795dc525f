"""What is put live and rolled back in tests, and what a reader finds afterwards."""

from __future__ import annotations

from dataclasses import dataclass

import torch

from perfit.belonging import open_store
from perfit.edits.shift import new_shift, to_stored
from perfit.notebook.database import Notebook
from perfit.notebook.items import Items
from perfit.notebook.versions import Versions
from perfit.run import RunDirectory
from perfit.serving.publishing import Publication, publish
from perfit.store.digest import shift_digest
from perfit.store.payload import StoredShift


def shift(seed: int) -> StoredShift:
    made = to_stored(new_shift((2, 3, 32), init="loreft", generator=torch.Generator().manual_seed(seed)))
    return StoredShift({name: tensor.bfloat16() for name, tensor in made.items()}, {"seed": seed})


@dataclass(frozen=True)
class State:
    """What a reader finds afterwards."""

    live: str | None
    versions: dict[int, str]
    history: tuple[str, ...]


def found(run: RunDirectory) -> State:
    with open_store(run, readonly=False) as store, Notebook(run.path) as notebook:
        notebook.finish_erasing()
        mine, versions = store.find("anna"), Versions(notebook)
        kept = {one.number: shift_digest(versions.stored("anna", one.number).tensors) for one in versions.of("anna")}
        assert kept == {one.number: one.digest for one in versions.of("anna")}
        both = Items(notebook).of("anna")
        texts = tuple(item.fields["text"] for item in (*both.training.history, *both.held_out.history))
        assert store.get("ben").tensors
    return State(None if mine is None else shift_digest(mine.tensors), kept, texts)


def published(run: RunDirectory) -> None:
    with Notebook(run.path) as notebook:
        publish(run, Versions(notebook), Publication("anna", shift(9), {}, live=True), seconds=0)


def rolled_back(run: RunDirectory) -> None:
    with Notebook(run.path) as notebook:
        versions = Versions(notebook)
        publish(run, versions, Publication("anna", versions.stored("anna", 1), {}, live=True), seconds=0)
