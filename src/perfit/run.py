"""A run directory: everything one training made, documented by itself."""

from __future__ import annotations

import json
import platform
from collections.abc import Mapping
from importlib import metadata
from pathlib import Path
from typing import Any

from safetensors import SafetensorError
from safetensors.torch import load, save

from perfit.errors import StoreError
from perfit.shift import Shift, from_stored, to_stored
from perfit.training.checkpoint import write_atomically

FORMAT = 1
_STAGES = ("first", "second")

_README = """# A perfit run

| file | what it holds |
|---|---|
| `manifest.json` | base (name, architecture, weights fingerprint, tokenizer hash), task, settings, data hash, versions |
| `collective.safetensors` | both shared shifts of stage 1: `first.R/D/b`, `second.R/D/b`; D = W − R; [layers, r, d], fp32 |
| `personal.sqlite` | the users' own second shifts: one safetensors payload per user, with checksum |
| `training.json` | per user: steps, mean loss per epoch; users that were skipped, and why; seconds per phase |
| `events.jsonl` | what happened during training, one JSON object a line: `stage`, `prepare`, `step`, `finished`, `skipped` |
| `checkpoints/` | state of an unfinished stage; gone when the stage is done |
| `predictions/*.jsonl` | one line per query: user, query, prediction |
| `metrics.json`, `metrics.md` | scores of the last evaluation |

Load it with `PerFit.from_pretrained("<this folder>")` or `perfit generate --run <this folder>`.
"""


def versions() -> dict[str, str]:
    """Versions of everything that decides the numbers."""
    found = {"python": platform.python_version()}
    for package in ("perfit", "torch", "transformers", "safetensors"):
        try:
            found[package] = metadata.version(package)
        except metadata.PackageNotFoundError:
            found[package] = "not installed"
    return found


class RunDirectory:
    """Names and formats of the files of a run; every write is atomic.

    Args:
        path: The folder.
    """

    def __init__(self, path: str | Path):
        self.path = Path(path)

    @property
    def manifest_path(self) -> Path:
        """``manifest.json``."""
        return self.path / "manifest.json"

    @property
    def store_path(self) -> Path:
        """``personal.sqlite``."""
        return self.path / "personal.sqlite"

    @property
    def events_path(self) -> Path:
        """``events.jsonl``."""
        return self.path / "events.jsonl"

    def checkpoint_path(self, stage: int) -> Path:
        """State of an unfinished stage."""
        return self.path / "checkpoints" / f"stage{stage}.safetensors"

    def exists(self) -> bool:
        """Whether the folder holds a run."""
        return self.manifest_path.is_file()

    def create(self, manifest: Mapping[str, Any]) -> None:
        """Make the folder and write its manifest.

        Raises:
            StoreError: The folder cannot be made or written.
        """
        try:
            (self.path / "checkpoints").mkdir(parents=True, exist_ok=True)
            (self.path / "predictions").mkdir(exist_ok=True)
            write_atomically(self.path / "README.md", _README.encode())
        except OSError as error:
            raise StoreError(
                f"{self.path}: cannot write a run here ({error.strerror}); choose another --run"
            ) from error
        self.write_json("manifest.json", {"format": FORMAT, "versions": versions(), **manifest})

    def manifest(self) -> dict[str, Any]:
        """The manifest.

        Raises:
            StoreError: There is none, it is damaged, or of a newer format.
        """
        manifest = self.read_json("manifest.json")
        if manifest.get("format") != FORMAT:
            raise StoreError(
                f"{self.manifest_path}: format {manifest.get('format')!r} is not {FORMAT}; use the perfit that wrote it"
            )
        return manifest

    def write_json(self, name: str, content: Any) -> None:
        """Write one JSON file."""
        write_atomically(self.path / name, (json.dumps(content, indent=2, ensure_ascii=False) + "\n").encode())

    def read_json(self, name: str) -> dict[str, Any]:
        """Read one JSON file.

        Raises:
            StoreError: It is missing or damaged.
        """
        path = self.path / name
        try:
            content = json.loads(path.read_text(encoding="utf-8"))
        except FileNotFoundError:
            raise StoreError(f"{path}: not found; is {self.path} a run of perfit train?") from None
        except (ValueError, OSError) as error:
            raise StoreError(f"{path}: cannot be read as JSON; restore it or train again") from error
        if not isinstance(content, dict):
            raise StoreError(f"{path}: is not a JSON object; restore it or train again")
        return content

    def save_collective(self, shifts: tuple[Shift, Shift]) -> None:
        """Write both shared shifts, in fp32: stage 2 starts from them."""
        tensors = {
            f"{stage}.{name}": tensor
            for stage, shift in zip(_STAGES, shifts, strict=True)
            for name, tensor in to_stored(shift).items()
        }
        write_atomically(self.path / "collective.safetensors", save(tensors))

    def has_collective(self) -> bool:
        """Whether stage 1 is done."""
        return (self.path / "collective.safetensors").is_file()

    def load_collective(self, *, device: Any = "cpu") -> tuple[Shift, Shift]:
        """Both shared shifts.

        Raises:
            StoreError: The file is missing or damaged.
        """
        path = self.path / "collective.safetensors"
        try:
            tensors = load(path.read_bytes())
            first, second = (
                from_stored({name: tensors[f"{stage}.{name}"] for name in ("R", "D", "b")}, device=device)
                for stage in _STAGES
            )
        except FileNotFoundError:
            raise StoreError(f"{path}: not found; stage 1 of this run is not finished, train it again") from None
        except (SafetensorError, KeyError, OSError) as error:
            raise StoreError(f"{path}: is damaged; restore it or train again") from error
        return first, second
