"""Shifts that a number decides, all different, and the bytes of files that SQLite has open."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import torch

IDENTITY = {"hidden_size": 32}
SPEC = {"rank": 4, "layers": 2}


def numbered(n: int) -> dict[str, torch.Tensor]:
    """Shift number ``n``: R, D [2, 4, 32] and b [2, 4], R orthonormal, in values that bf16 keeps exactly."""
    base = torch.arange(2 * 4 * 32, dtype=torch.float32).reshape(2, 4, 32) / 256
    rows = (torch.arange(8).reshape(2, 4) * 3 + n) % 32
    signs = torch.tensor([1.0 if n >> bit & 1 else -1.0 for bit in range(4)])
    return {"R": torch.eye(32)[rows] * signs[:, None], "D": -base - n % 89, "b": base[:, :, 0] + n % 83}


def bytes_beside(path: Path) -> bytes:
    """A file read by another process: reading it here would drop this process's locks on it."""
    code = "import sys; sys.stdout.buffer.write(open(sys.argv[1], 'rb').read())"
    return subprocess.run([sys.executable, "-Sc", code, str(path)], capture_output=True, check=True).stdout
