"""Whether keys and values of frozen tokens are kept in memory, in a file, or computed again at each step."""

from __future__ import annotations

import shutil
import tempfile
from dataclasses import dataclass
from pathlib import Path

from perfit.training.frozen_pass import FrozenPass
from perfit.training.summary import RowSummary

_READ = 4e8  # bytes a second from a disk that the system does not hold in memory: a plain SSD


@dataclass(frozen=True)
class Keeping:
    """The choice, and why.

    Attributes:
        keep_prefix: Keep keys and values; False computes them again.
        text: The cost model's numbers for printing.
        cached: Whether a frozen cache, where there is one, has room for them.
    """

    keep_prefix: bool
    text: str
    cached: bool = True


def choose_keeping(
    frozen: FrozenPass,
    rows: RowSummary,
    memory: float,
    rate: float,
    free: int | None = None,
    cache: Path | None = None,
    there: bool = False,
) -> Keeping:
    """The cheapest way that fits, for the learner with most tokens; smaller ones wait for room in memory.

    Args:
        frozen: The frozen pass.
        rows: All rows.
        memory: Bytes for frozen parts.
        rate: Matrix products of this device, FLOP/s.
        free: Bytes free on the disk of ``TMPDIR``; looked up when not given.
        cache: The folder of the frozen cache, if there is one; it is used where its disk has room.
        there: Whether that holds them already.
    """
    if not frozen.suffix_only or not len(frozen.above):
        return Keeping(True, "frozen parts: states below the first edit")
    count, tokens = rows.heaviest
    own = max(tokens - count * (len(frozen.shared) + (frozen.positions.suffix_reach or 0)), 0)
    kept = own * frozen.prefix_numbers() * frozen.backbone.dtype.itemsize
    size = f"frozen parts: {kept / 2**30:.2f} GiB of keys and values for the largest learner"
    if kept <= memory:
        return Keeping(True, f"{size}, kept in memory")
    if cache is not None and (there or kept <= shutil.disk_usage(cache).free // 2):
        return Keeping(True, f"{size}, kept in {cache}")
    weights = sum(p.numel() for n in frozen.above for p in frozen.backbone.layers[n].parameters())
    again, read = own * 2 * weights / rate, kept / _READ
    free = shutil.disk_usage(tempfile.gettempdir()).free if free is None else free
    if kept > 0.9 * free:
        text = f"{size}: memory and disk have no room, computed again at each step, {again:.0f} s an epoch"
        return Keeping(False, text, cached=False)
    if again < read:
        text = f"{size}: computed again at each step, {again:.0f} s an epoch; reading takes {read:.0f} s"
        return Keeping(False, text, cached=False)
    text = f"{size}: in a file, {read:.0f} s of reading an epoch; computing again takes {again:.0f} s"
    return Keeping(True, text, cached=False)
