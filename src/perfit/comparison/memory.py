"""The most memory a part of a process took."""

from __future__ import annotations

import contextlib
from pathlib import Path

from perfit.process_memory import process_bytes

_CLEAR = Path("/proc/self/clear_refs")


class PeakMemory:
    """Measures from its making on; the base and everything else that is loaded counts.

    On Linux the kernel's own peak of this process is reset first. Elsewhere it cannot be, and the value is the peak of
    the whole process so far. On CUDA devices the peak of torch's allocator is added.
    """

    def __init__(self, device: str = "cpu"):
        self.device = device
        with contextlib.suppress(OSError):
            _CLEAR.write_text("5")  # resets VmHWM, see proc(5)
        if device.startswith("cuda"):
            import torch

            torch.cuda.reset_peak_memory_stats(device)

    def bytes(self) -> int:
        """Peak so far, in bytes."""
        peak = process_bytes("VmHWM")
        if self.device.startswith("cuda"):
            import torch

            peak += torch.cuda.max_memory_allocated(self.device)
        return peak
