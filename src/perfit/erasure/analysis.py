"""What a folder of ``perfit analyze`` holds of a user."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from functools import partial
from pathlib import Path

import torch

from perfit.analysis.deltas import DeltaVectors
from perfit.analysis.excerpts import read_texts, write_texts
from perfit.analysis.folder import alone_in
from perfit.erasure.step import Step, Unreached, removal
from perfit.erasure.words import unfinished
from perfit.errors import DamagedError
from perfit.private import private_folder
from perfit.tombstones import Tombstones

_AGAIN = "perfit analyze --out makes it again"
_ERASED = "erased"
"""Before the stamp of δ-vectors from which somebody was taken out: measuring the same data again is not taken for them."""


class AnalysisPlace:
    """An analysis: folders ``<task>/<group>`` of δ-vectors, and what was derived from them.

    Args:
        path: Its folder.
    """

    stones: Tombstones | None = None

    def __init__(self, path: Path):
        self.path = path

    @contextmanager
    def locked(self) -> Iterator[None]:
        """As an analysis does; finishes what a kill left half done."""
        with alone_in(self.path):
            for made in sorted(self.path.glob("*/.*.without")):
                _settle(made)
            yield

    def knows(self, user: str) -> bool:
        """Whether the user was measured, or is shown."""
        return any(user in found.users for _, found in self._measured()) or any(
            user in (_texts(path) or ()) for path in self.path.glob("*/*/texts.json")
        )

    def steps(self, user: str) -> list[Step]:
        """What was derived goes first and the δ-vectors last, so that a kill leaves the sign that there is more."""
        steps = unfinished(self.path)
        # They do not say whose they are.
        steps += [removal(path, "an unfinished measurement") for path in sorted(self.path.glob("*/*/parts"))]
        if self.knows(user):
            derived = [self.path / name for name in ("index.html", "tables", "figures")]
            steps += [removal(path, _AGAIN) for path in derived if path.exists()]
        for path in sorted(self.path.glob("*/*/texts.json")):
            texts = _texts(path)
            if texts is None:
                steps.append(removal(path, f"damaged; {_AGAIN}"))
            elif user in texts:
                steps.append(Step(path, "the user's excerpts taken out", partial(_take_texts, path, user)))
        for folder, found in self._measured():
            if user in found.users:
                act = partial(_take_vectors, folder, user)
                steps.append(Step(folder / "deltas.safetensors", "the user's δ-vectors taken out", act))
        return steps

    def unreached(self, user: str) -> list[Unreached]:
        """Nothing: what is not measured is not looked at."""
        return []

    def _measured(self) -> list[tuple[Path, DeltaVectors]]:
        folders = [path.parent for path in sorted(self.path.glob("*/*/recipe.json")) if path.parent.name[0] != "."]
        return [(folder, DeltaVectors.load(folder)) for folder in folders]


def _texts(path: Path) -> dict[str, list[str]] | None:
    """Excerpts by user; None where nobody can say whose they are."""
    try:
        return read_texts(path.parent)
    except DamagedError:
        return None


def _take_texts(path: Path, user: str) -> None:
    write_texts(path, {name: lines for name, lines in read_texts(path.parent).items() if name != user})


def _take_vectors(folder: Path, user: str) -> None:
    """Make the δ-vectors of all but one user beside their place, and put them there."""
    found = DeltaVectors.load(folder)
    kept = [place for place, name in enumerate(found.users) if name != user]
    if not kept:
        shutil.rmtree(folder)
        return
    made = folder.with_name(f".{folder.name}.without")
    shutil.rmtree(made, ignore_errors=True)
    private_folder(made)
    if (folder / "texts.json").exists():
        shutil.copy(folder / "texts.json", made / "texts.json")
    index = torch.tensor(kept, dtype=torch.long)
    replace(
        found,
        users=tuple(found.users[place] for place in kept),
        means=found.means.index_select(0, index),
        counts=found.counts.index_select(0, index),
        notes={**found.notes, "stamp": f"{_ERASED} {str(found.notes['stamp']).removeprefix(_ERASED + ' ')}"},
    ).save(made)
    _settle(made)


def _settle(made: Path) -> None:
    """Put δ-vectors in the place of those they were made of; ones that are not whole are forgotten."""
    folder = made.with_name(made.name.removeprefix(".").removesuffix(".without"))
    if not (made / "recipe.json").exists():
        shutil.rmtree(made)
        return
    # The recipe is written last: what is here is whole, and what lies in its place is what it was made of.
    shutil.rmtree(folder, ignore_errors=True)
    made.rename(folder)
