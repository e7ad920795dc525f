"""Where frozen parts are kept: in memory, or in a memory-mapped file when a learner's do not fit."""

from __future__ import annotations

import contextlib
import os
import shutil
import tempfile
from dataclasses import replace

import torch
from torch import Tensor

from perfit.errors import PerfitError
from perfit.training.frozen_pass import FrozenRow


class Shelf:
    """Copies tensors to a place of a size known beforehand.

    Args:
        size: Bytes that will be kept.
        memory: Bytes that may be kept in memory; a larger shelf is one temporary file (in ``TMPDIR``), mapped into
            memory, so that the system decides which pages stay. The file has no name any more once it is mapped and
            goes with the last tensor in it.

    Raises:
        PerfitError: The disk has not that much room.
    """

    def __init__(self, size: int, memory: float):
        self.mapped: Tensor | None = None
        self.used = 0
        if size > memory:
            folder = tempfile.gettempdir()
            free = shutil.disk_usage(folder).free
            if size > free:
                raise PerfitError(
                    f"memory_gib: the frozen parts need {size / 2**30:.1f} GiB, more than the budget, and {folder} has only "
                    f"{free / 2**30:.1f} GiB left; set TMPDIR to a larger disk, raise memory_gib, train stage 1 on less "
                    "(stage1_data), or choose engine plain"
                )
            handle, path = tempfile.mkstemp(prefix="perfit-", suffix=".frozen")
            try:
                # Blocks are claimed now: a disk that fills up later would kill the process where it reads.
                if hasattr(os, "posix_fallocate"):
                    os.posix_fallocate(handle, 0, size)
                else:
                    os.truncate(handle, size)
                os.close(handle)
                self.mapped = torch.from_file(path, shared=True, size=size, dtype=torch.uint8)
            finally:
                with contextlib.suppress(OSError):
                    os.unlink(path)

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
        kept = {
            name: self.keep(tensor)
            for name in ("states", "prefix", "before")
            if (tensor := getattr(item, name)) is not None
        }
        return replace(item, **kept)
