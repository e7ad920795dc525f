"""Where frozen parts are kept: in memory, or in a memory-mapped file when a learner's do not fit."""

from __future__ import annotations

import contextlib
import os
import tempfile

import torch
from torch import Tensor


class Shelf:
    """Copies tensors to a place of a size known beforehand.

    Args:
        size: Bytes that will be kept.
        memory: Bytes that may be kept in memory; a larger shelf is one temporary file (in ``TMPDIR``), mapped into
            memory, so that the system decides which pages stay. The file has no name any more once it is mapped and
            goes with the last tensor in it.
    """

    def __init__(self, size: int, memory: float):
        self.mapped: Tensor | None = None
        self.used = 0
        if size > memory:
            handle, path = tempfile.mkstemp(prefix="perfit-", suffix=".frozen")
            try:
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
