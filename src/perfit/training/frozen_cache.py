"""Frozen parts on disk, found again by base, layer and text: later runs and search trials need no frozen pass.

A folder holds one subfolder per kind (base, precision, first edited layer, positions' reach, shared prefix) with

- ``about.json``: the kind, in full;
- ``<name>.frozen``: tensors back to back, mapped into memory when read;
- ``rows.sqlite``: the hash of a row, and of where its frozen part begins, -> file, offset, shapes and a CRC-32 of shapes and bytes.

The files hold hidden states of users' texts: treat the folder as you treat the texts. It may be deleted at any time.
"""

from __future__ import annotations

import hashlib
import json
import math
import os
import re
import secrets
import shutil
import sqlite3
import zlib
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from perfit.durable.files import finished_name, write_atomically
from perfit.durable.lock import BusyError, locked
from perfit.durable.records import parse_object, read_bounded
from perfit.errors import ConfigError
from perfit.private import private_file, private_folder
from perfit.training.frozen_pass import FrozenPass, FrozenRow, edited_within
from perfit.training.rows import TokenRow
from perfit.training.shelf import Shelf

_VERSION = 3  # the checksum is over the shapes too
_PARTS = ("states", "prefix", "before")
# What a model's config says beside what its forward does.
_INDIFFERENT = ("_name_or_path", "architectures", "dtype", "torch_dtype", "transformers_version", "use_cache")
_FILES = ("about.json", "rows.sqlite", "rows.sqlite-journal", "write.lock")
_TABLE = "create table if not exists rows (digest blob primary key, file text, place integer, shapes text, crc integer)"


@dataclass(frozen=True)
class FrozenHome:
    """Where frozen parts may be kept between runs, and of which base they are.

    Attributes:
        folder: The cache folder; made when needed.
        base: What tells the base from others, fingerprint of the weights included.

    Raises:
        ConfigError: A file is in the folder's place.
    """

    folder: Path
    base: Mapping[str, Any]

    def __post_init__(self) -> None:
        if self.folder.exists() and not self.folder.is_dir():
            raise ConfigError(f"frozen_cache: {self.folder} is not a folder; give one, it is made when needed")

    def kind(self, frozen: FrozenPass) -> dict[str, Any]:
        """Everything that decides the frozen parts beside the rows' own tokens."""
        return {
            "version": _VERSION,
            "base": dict(self.base),
            "config": _config_hash(frozen.backbone.model.config.get_text_config().to_dict()),
            "dtype": str(frozen.backbone.dtype),
            "device": frozen.backbone.device.type,
            "layer": frozen.first,
            "reach": frozen.positions.suffix_reach,
            "edits": list(frozen.shared_edits),
            "keep_prefix": frozen.keep_prefix,
            "shared": list(frozen.shared),
        }

    def known_prefix(self, frozen: FrozenPass) -> tuple[int, ...]:
        """The longest shared prefix that this cache has parts for and that these prompts begin with too.

        The common prefix of a few rows is often a word longer than the task's own; with it, nothing would be found.
        """
        mine = self.kind(frozen)
        best: tuple[int, ...] = ()
        for path in self.folder.glob("*/about.json"):
            try:
                about = parse_object(read_bounded(path))
                shared = tuple(about["shared"])
                own = mine | {"shared": about["shared"], "edits": list(edited_within(frozen.positions, len(shared)))}
            except (OSError, ValueError, KeyError, TypeError):
                continue
            if own == about and frozen.shared[: len(shared)] == shared and len(shared) > len(best):
                best = shared
        return best


class FrozenCache:
    """The subfolder of one kind.

    Args:
        home: The cache folder and the base.
        frozen: The frozen pass whose results are kept.

    Attributes:
        damaged: Entries and folders found damaged or foreign and left out, to be computed again.

    Raises:
        ConfigError: The folder cannot be made or written.
    """

    def __init__(self, home: FrozenHome, frozen: FrozenPass):
        self.frozen = frozen
        about = json.dumps(home.kind(frozen), sort_keys=True)
        self.path = home.folder / hashlib.sha256(about.encode()).hexdigest()[:16]
        self.damaged = 0
        self._maps: dict[str, Tensor] = {}
        self.index: sqlite3.Connection | None = None
        try:
            private_folder(home.folder)
            # Beside the folder: another process must not take one in the making for a damaged one.
            with locked(self.path.with_suffix(".lock"), "another process has been opening it for a minute", wait=60):
                self._claim(about)
        except (BusyError, OSError) as error:
            why = getattr(error, "strerror", None) or error
            raise ConfigError(
                f"frozen_cache: {home.folder} cannot be used ({why}); give another folder, or none"
            ) from error

    def _claim(self, about: str) -> None:
        """Make the subfolder this kind's own, and open its index."""
        described = self.path / "about.json"
        if self.path.exists() and (not described.is_file() or described.read_text() != about):
            self._rebuild()
        private_folder(self.path)
        if not described.exists():
            write_atomically(described, about.encode())
        try:
            self.index = self._open()
        except sqlite3.OperationalError:
            # Locked, or on a full disk: not damaged. This training goes without.
            return
        except sqlite3.DatabaseError:
            self._rebuild()
            self._claim(about)

    def _open(self) -> sqlite3.Connection:
        private_file(self.path / "rows.sqlite")
        index = sqlite3.connect(self.path / "rows.sqlite", timeout=30)
        index.execute(_TABLE)
        if index.execute("pragma quick_check(1)").fetchone() != ("ok",):
            raise sqlite3.DatabaseError("damaged")
        return index

    def _rebuild(self) -> None:
        self.damaged += 1
        shutil.rmtree(self.path)

    def close(self) -> None:
        """Let go of the index; tensors handed out stay valid."""
        if self.index is not None:
            self.index.close()

    def take(self, row: TokenRow) -> FrozenRow | None:
        """A row's frozen part, mapped from its file, or None when it is not there or damaged."""
        digest = self._digest(row)
        found = None
        if self.index is not None:
            with suppress(sqlite3.Error):  # the disk, or damage since the index was opened
                ask = "select file, place, shapes, crc from rows where digest = ?"
                found = self.index.execute(ask, (digest,)).fetchone()
        if self.index is None or found is None:
            return None
        file, place, shapes, crc = found
        try:
            tensors, content = self._read(file, place, parse_object(shapes.encode()))
            if zlib.crc32(content.numpy().data, zlib.crc32(shapes.encode())) != crc:
                raise ValueError("checksum")
        except (OSError, RuntimeError, ValueError, KeyError, TypeError, AttributeError):
            self.damaged += 1
            with suppress(sqlite3.Error), self.index:
                self.index.execute("delete from rows where digest = ?", (digest,))
            return None
        return FrozenRow(row=row, start=self.frozen.start_of(row), shared=self.frozen.shared_of(row), **tensors)

    def _read(self, file: str, place: int, shapes: Mapping[str, Sequence[int]]) -> tuple[dict[str, Tensor], Tensor]:
        if file not in self._maps:
            path = self.path / file
            self._maps[file] = torch.from_file(str(path), size=path.stat().st_size, dtype=torch.uint8)
        whole, dtype, end = self._maps[file], self.frozen.backbone.dtype, place
        tensors = {}
        for name, shape in shapes.items():
            size = math.prod(shape) * dtype.itemsize
            tensors[name] = whole[end : end + size].view(dtype).view(*shape)
            end += size
        return tensors, whole[place:end]

    @contextmanager
    def shelf(self, size: int) -> Iterator[Shelf | None]:
        """A shelf on a new file of this cache; None when the disk has no room or another process writes."""
        with ExitStack() as held:
            try:
                shelf = self._new_shelf(held, size)
            except (BusyError, OSError, sqlite3.Error):
                shelf = None
            yield shelf
            if shelf is not None:
                with suppress(OSError, sqlite3.Error):  # what is not in the index is computed again
                    self._add(shelf)

    def _new_shelf(self, held: ExitStack, size: int) -> Shelf | None:
        if self.index is None or size > shutil.disk_usage(self.path).free // 2:
            return None
        held.enter_context(locked(self.path / "write.lock"))
        self._sweep(self.index)
        # A name of its own: another process may still have a file mapped that is gone.
        return Shelf(size, 0, self.path / f"{secrets.token_hex(8)}.frozen")

    def _sweep(self, index: sqlite3.Connection) -> None:
        """Remove files that a killed process left without entries."""
        known = {file for (file,) in index.execute("select distinct file from rows")}
        for path in self.path.glob("*.frozen"):
            if path.name not in known and path.name not in self._maps:
                path.unlink()

    def _add(self, shelf: Shelf) -> None:
        """Put a filled shelf into the index, once its bytes are on the disk."""
        assert shelf.path is not None
        assert self.index is not None
        with open(shelf.path, "rb") as file:
            os.fsync(file.fileno())
        entries = []
        for item, place in shelf.rows:
            tensors = {name: t for name in _PARTS if (t := getattr(item, name)) is not None}
            shapes = json.dumps({name: list(t.shape) for name, t in tensors.items()})
            crc = zlib.crc32(shapes.encode())
            for tensor in tensors.values():
                crc = zlib.crc32(tensor.flatten().view(torch.uint8).numpy().data, crc)
            entries.append((self._digest(item.row), shelf.path.name, place, shapes, crc))
        with self.index:
            self.index.executemany("insert or replace into rows values (?, ?, ?, ?, ?)", entries)

    def _digest(self, row: TokenRow) -> bytes:
        # A rule's last tokens may reach into the shared ones: the same row then begins elsewhere.
        where = f"{self.frozen.start_of(row)} {self.frozen.shared_of(row)}"
        text = f"{list(row.prompt_ids)} {list(row.answer_ids[:-1])} {where}"
        return hashlib.sha256(text.encode()).digest()


def kinds_in(folder: Path) -> list[Path]:
    """The subfolders of a cache; none where there is no cache."""
    if not folder.is_dir():
        return []
    made = [path for path in sorted(folder.iterdir()) if path.is_dir() and re.fullmatch("[0-9a-f]{16}", path.name)]
    return [
        path
        for path in made
        if all(finished_name(one.name) in _FILES or one.suffix == ".frozen" for one in path.iterdir())
    ]


@contextmanager
def locked_kinds(folder: Path) -> Iterator[None]:
    """Keep trainings from adding to any subfolder of a cache, so that it can be removed.

    Raises:
        StoreError: One does just now.
    """
    busy = f"{folder}: a training writes here; wait for it, then repeat the command"
    with ExitStack() as held:
        for kind in kinds_in(folder):
            held.enter_context(locked(kind.with_suffix(".lock"), busy))
            held.enter_context(locked(kind / "write.lock", busy))
        yield


def _config_hash(config: Mapping[str, Any]) -> str:
    """Of what decides a forward beside the weights: rotary embeddings, eps, windows, scalings."""
    kept = {name: value for name, value in config.items() if name not in _INDIFFERENT}
    return hashlib.sha256(json.dumps(kept, sort_keys=True, default=str).encode()).hexdigest()
