"""A run directory: everything one training made, documented by itself."""

from __future__ import annotations

import hashlib
import platform
from collections.abc import Mapping
from contextlib import AbstractContextManager
from functools import cache
from importlib import metadata
from pathlib import Path
from typing import Any

from perfit.config import RESOURCES
from perfit.durable.files import sweep, write_atomically
from perfit.durable.folder import Folder, Kind
from perfit.durable.identity import digest_of
from perfit.durable.records import NotAsWrittenError, read_bounded, write_record
from perfit.errors import DamagedError, StoreError
from perfit.store.collective_file import Collective

_MEND = "restore it or train again"
RUN = Kind(
    holds="another run, with",
    manifest="manifest.json",
    version=2,
    busy="another process trains or evaluates here",
    other="choose another --run",
    mend=_MEND,
    again="train again in another folder",
    missing="not found; is {path} a run of perfit train?",
    inside=("checkpoints", "predictions"),
)

FILES = """| file | what it holds |
|---|---|
| `README.md` | what this run is, and this table |
| `manifest.json` | base (name, revision, identity), task, settings, data hash, versions, hash of the collective shift; with checksum |
| `collective.safetensors` | both shared shifts of stage 1: `first.R/D/b`, `second.R/D/b`; D = W − R; [layers, r, d], fp32 |
| `personal.sqlite` | the users' own second shifts: one safetensors payload per user, with checksum |
| `training.jsonl` | grows line by line: what each user's training came to (steps, mean loss per epoch), or why it was skipped |
| `events.jsonl` | what happened during training, one JSON object a line: `stage`, `prepare`, `step`, `finished`, `skipped`, `resumed`, `phase` (with seconds), `warning` |
| `tensorboard/` | curves of losses, learners and rates, where `--track tensorboard` asked for them |
| `checkpoints/` | state of an unfinished stage; gone when the stage is done |
| `predictions/*.jsonl` | one line per query: user, query, prediction, checksum |
| `predictions/*.lamp.json` | the same in the format of LaMP's evaluator, for LaMP tasks |
| `metrics.json`, `metrics.md` | scores of the last evaluation, and the hashes of the predictions they are of |
| `evaluations.jsonl` | what each evaluation asked and found, pooled: one line per question and state of the shifts, the newest last; no ids |
| `report.html`, `figures/*` | what `perfit report` made; the page has users' texts where it was given the data |
| `erased.json` | who was erased, by keyed hashes; `train` and `evaluate` leave them out |
| `serving.sqlite` | what `perfit serve` keeps of users: histories, feedback, queued trainings, versions, and the key of receipts |
| `elsewhere.json` | frozen caches that trainings used, and pages written to other places: erasing a user goes there too |
| `.lock` | keeps a second training or evaluation out while one runs |
"""
"""The files of a run, as a table for people."""


def versions() -> dict[str, str]:
    """Versions of everything that decides the numbers."""
    packages = ("perfit", "torch", "transformers", "safetensors")
    return {"python": platform.python_version(), **{package: _version(package) for package in packages}}


@cache  # reading a package's metadata takes milliseconds, and every cell of a reproduction asks
def _version(package: str) -> str:
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return "not installed"


def context_of(manifest: Mapping[str, Any]) -> dict[str, str]:
    """What decides a run's numbers, part by part, as hashes of what its manifest says."""
    base, config, data = manifest.get("base"), manifest.get("config"), manifest.get("data")
    base = base if isinstance(base, Mapping) else {}
    config = config if isinstance(config, Mapping) else {}
    return {
        "base": digest_of(base.get("identity"), base.get("dtype"), base.get("device")),
        "task": digest_of(manifest.get("task")),
        "settings": digest_of({name: value for name, value in config.items() if name not in RESOURCES}),
        "data": digest_of(data.get("fingerprint") if isinstance(data, Mapping) else None),
        # A stage 1 that was given; runs that trained their own say nothing of it.
        **({"stage1_from": digest_of(manifest["stage1_from"])} if manifest.get("stage1_from") else {}),
    }


class RunDirectory:
    """Names and formats of the files of a run; every write is atomic.

    Args:
        path: The folder.
    """

    def __init__(self, path: str | Path):
        self.path = Path(path)
        self._folder = Folder(self.path, RUN)

    @property
    def manifest_path(self) -> Path:
        """``manifest.json``."""
        return self._folder.manifest_path

    @property
    def store_path(self) -> Path:
        """``personal.sqlite``."""
        return self.path / "personal.sqlite"

    @property
    def events_path(self) -> Path:
        """``events.jsonl``."""
        return self.path / "events.jsonl"

    @property
    def training_path(self) -> Path:
        """``training.jsonl``."""
        return self.path / "training.jsonl"

    def checkpoint_path(self, stage: int) -> Path:
        """State of an unfinished stage."""
        return self.path / "checkpoints" / f"stage{stage}.safetensors"

    def drop_checkpoint(self, stage: int) -> None:
        """Remove the state of a stage that is done, and what a kill in the middle of writing it left."""
        self.checkpoint_path(stage).unlink(missing_ok=True)
        sweep(self.path / "checkpoints")

    def exists(self) -> bool:
        """Whether the folder holds a run."""
        return self._folder.exists()

    def begun(self) -> bool:
        """Whether the folder holds anything that was trained."""
        kept = (self.checkpoint_path(1), self.checkpoint_path(2), self.store_path, self.training_path)
        return self.has_collective() or any(path.exists() for path in kept)

    def locked(self) -> AbstractContextManager[None]:
        """Keep other processes from training and evaluating in this run.

        Raises:
            StoreError: One does already, or the folder cannot be made.
        """
        return self._folder.locked()

    def create(self, manifest: Mapping[str, Any]) -> None:
        """Make the folder and write its manifest.

        Raises:
            StoreError: The folder cannot be made or written.
        """
        self._folder.make(f"# A perfit run in the making\n\n{FILES}")
        self._folder.write({"versions": versions(), **manifest, "context": context_of(manifest)})

    def use_settings(self, config: Mapping[str, Any]) -> None:
        """Keep the settings a run goes on with; those that decide its numbers are the same."""
        self._folder.write(self.manifest() | {"config": dict(config)})

    def manifest(self) -> dict[str, Any]:
        """The manifest.

        Raises:
            DamagedError: It is not as it was written, or its parts do not belong together.
            StoreError: There is none, or it is of another format, or the run leads elsewhere by a link.
        """
        for name in ("checkpoints", "predictions", "figures"):
            if (self.path / name).is_symlink():
                raise StoreError(
                    f"{self.path / name}: is a symbolic link, which a run is not written through; put the folder itself there"
                )
        manifest = self._folder.read()
        for part in ("base", "task", "config", "versions"):
            if not isinstance(manifest.get(part), dict):
                raise DamagedError(f"{self.manifest_path}: {part!r} is missing; {_MEND}")
        if not isinstance(manifest["base"].get("name"), str):
            raise DamagedError(f"{self.manifest_path}: the base has no name; {_MEND}")
        if manifest.get("context") != context_of(manifest):
            raise DamagedError(f"{self.manifest_path}: its parts are not of one run; {_MEND}")
        return manifest

    def context(self) -> str:
        """One hash over what decides this run's numbers."""
        return digest_of(self.manifest()["context"])

    def write_record(self, name: str, content: Mapping[str, Any]) -> None:
        """Write one JSON file with its checksum."""
        write_record(self.path / name, content)

    def read_record(self, name: str, mend: str = _MEND) -> dict[str, Any]:
        """Read one JSON file whose checksum holds.

        Raises:
            StoreError: It is missing or damaged; ``mend`` is the way out.
        """
        return self._folder.read_beside(name, mend=mend)

    def save_collective(self, content: bytes) -> None:
        """Write ``Collective.file``, and into the manifest which it is.

        The manifest first: whatever lies under the name then either is this very file, or is refused.
        """
        self._folder.write(self.manifest() | {"collective": hashlib.sha256(content).hexdigest()})
        write_atomically(self.path / "collective.safetensors", content)

    def has_collective(self) -> bool:
        """Whether stage 1 is done."""
        return (self.path / "collective.safetensors").is_file()

    def read_collective(self) -> bytes:
        """The file of both shared shifts as it is.

        Raises:
            StoreError: There is none, it cannot be read, or it is not the one that this run's stage 1 made.
        """
        path = self.path / "collective.safetensors"
        try:
            content = read_bounded(path)
        except FileNotFoundError:
            raise StoreError(f"{path}: not found; stage 1 of this run is not finished, train it again") from None
        except NotAsWrittenError as error:
            raise DamagedError(f"{path}: {error}; {_MEND}") from None
        except OSError as error:
            raise StoreError(f"{path}: cannot be read ({error.strerror})") from error
        if self.manifest().get("collective") != hashlib.sha256(content).hexdigest():
            raise DamagedError(f"{path}: is damaged, or of another run (its checksum differs); {_MEND}")
        return content

    def collective(self) -> Collective:
        """Both shared shifts.

        Raises:
            StoreError: The file is missing or damaged.
        """
        try:
            return Collective.of_file(self.read_collective())
        except (KeyError, ValueError, RuntimeError) as error:
            path = self.path / "collective.safetensors"
            raise DamagedError(f"{path}: is damaged; restore it or train again") from error
