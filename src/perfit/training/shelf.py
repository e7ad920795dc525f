"""Where frozen parts are kept: in memory, or in a memory-mapped file when a learner's do not fit."""

from __future__ import annotations

import contextlib
import os
import shutil
import tempfile
from dataclasses import replace
from pathlib import Path

import torch
from torch import Tensor

from perfit.errors import PerfitError
from perfit.private import private_opener
from perfit.training.frozen_pass import FrozenRow


class Shelf:
    """Copies tensors to a place of a size known beforehand.

    Args:
        size: Bytes that will be kept.
        memory: Bytes that may be kept in memory; a larger shelf is one temporary file (in ``TMPDIR``), mapped into
            memory, so that the system decides which pages stay. The file has no name any more once it is mapped and
            goes with the last tensor in it.
        path: A file of its own that stays, whatever the memory.

    Attributes:
        rows: The rows kept, each with its place in the file.

    Raises:
        PerfitError: The disk has not that much room.
    """

    def __init__(self, size: int, memory: float, path: Path | None = None):
        self.mapped: Tensor | None = None
        self.used = 0
        self.path = path
        self.rows: list[tuple[FrozenRow, int]] = []
        if path is not None:
            try:
                with open(path, "wb", opener=private_opener) as file:
                    _claim(file.fileno(), size)
            except OSError:
                path.unlink(missing_ok=True)
                raise
            self.mapped = torch.from_file(str(path), shared=True, size=size, dtype=torch.uint8)
        elif size > memory:
            folder = tempfile.gettempdir()
            free = shutil.disk_usage(folder).free
            if size > free:
                raise PerfitError(
                    f"memory_gib: the frozen parts need {size / 2**30:.1f} GiB, more than the budget, and {folder} has only "
                    f"{free / 2**30:.1f} GiB left; set TMPDIR to a larger disk, raise memory_gib, train stage 1 on less "
                    "(stage1_data), or choose engine plain"
                )
            handle, name = tempfile.mkstemp(prefix="perfit-", suffix=".frozen")
            try:
                _claim(handle, size)
                os.close(handle)
                self.mapped = torch.from_file(name, shared=True, size=size, dtype=torch.uint8)
            finally:
                with contextlib.suppress(OSError):
                    os.unlink(name)

    def keep(self, tensor: Tensor) -> Tensor:
        """A contiguous copy of a tensor; on the shelf's file it lives on the CPU."""
        if self.mapped is None:
            return tensor.clone()
        size = tensor.numel() * tensor.element_size()
        place = self.mapped[self.used : self.used + size].view(tensor.dtype).view(tensor.shape)
        place.copy_(tensor)
        self.used += size
        return place

    def keep_row(self, item: FrozenRow) -> FrozenRow:
        """A frozen row whose tensors lie on the shelf and keep nothing else alive."""
        place = self.used
        row = replace(
            item,
            states=self.keep(item.states),
            prefix=None if item.prefix is None else self.keep(item.prefix),
            before=None if item.before is None else self.keep(item.before),
        )
        self.rows.append((row, place))
        return row


def _claim(handle: int, size: int) -> None:
    """Claim a file's blocks now: a disk that fills up later would kill the process where it reads."""
    if hasattr(os, "posix_fallocate"):
        os.posix_fallocate(handle, 0, max(size, 1))
    else:
        os.truncate(handle, size)
