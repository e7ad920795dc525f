"""Stage 2 on real users' rows, timed by part: what the benchmarks of the training engine share."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from perfit import PerFit
from perfit.data import read_dataset
from perfit.events import Event, Prepared, Stepped
from perfit.training.examples import RowMaker
from perfit.training.rows import TokenRow
from perfit.training.stages import fresh_shifts, train_personal

Rows = dict[str, list[TokenRow]]


def rows_of(perfit: PerFit, data: Path, users: int | None, items: int | None) -> Rows:
    """The latest history rows of the first users."""
    maker = RowMaker(perfit.task, perfit.backbone.tokenizer, perfit.config)
    found = {user.id: maker.history_rows(user) for user in read_dataset(data).users[:users]}
    return {user: rows[-items:] if items else rows for user, rows in found.items()}


@dataclass
class Times:
    """Seconds of one stage: to the end of the first frozen pass, and all of it."""

    frozen: float
    whole: float
    steps: int

    @property
    def rate(self) -> float:
        """Item steps a second, everything included."""
        return self.steps / self.whole


def time_stage(perfit: PerFit, rows: Rows, **settings: Any) -> Times:
    """Train all users from shared shifts that did not train."""
    config = perfit.config.with_options(**settings)
    shared = fresh_shifts(config, perfit.backbone.hidden_size)
    began = time.perf_counter()
    seen: dict[str, float] = {}
    steps = 0

    def listen(event: Event) -> None:
        nonlocal steps
        if isinstance(event, Prepared):
            seen["frozen"] = time.perf_counter() - began
        if isinstance(event, Stepped):
            steps += event.rows

    done = list(train_personal(perfit.backbone, rows, shared, config, listener=listen))
    assert all(one.problem is None for one in done)
    return Times(seen.get("frozen", 0.0), time.perf_counter() - began, steps)


def peak_flops(dtype: torch.dtype, device: torch.device, size: int = 2048) -> float:
    """Measured matrix-product peak: the best of large square products, FLOP/s."""
    a, b = (torch.randn(size, size, device=device).to(dtype) for _ in "ab")
    best = float("inf")
    for _ in range(12):
        began = time.perf_counter()
        a @ b
        if device.type == "cuda":
            torch.cuda.synchronize(device)
        best = min(best, time.perf_counter() - began)
    return 2 * size**3 / best


def spread(rates: Sequence[float]) -> str:
    """Range of some rates."""
    return f"{min(rates):.1f} - {max(rates):.1f}" if len(rates) > 1 else "one round"
