"""A learner's own order of rows and its own learning rate: functions of (seed, learner, step) and nothing else."""

from __future__ import annotations

import hashlib
import random
from collections.abc import Sequence

from perfit.config import StageConfig

_MEGABATCH = 50


def steps_per_epoch(rows: int, batch_size: int) -> int:
    """Optimiser steps in one pass over a learner's rows."""
    return -(-rows // batch_size)


def total_steps(rows: int, config: StageConfig) -> int:
    """Optimiser steps of one learner."""
    return steps_per_epoch(rows, config.batch_size) * config.epochs


def learning_rate(step: int, total: int, config: StageConfig) -> float:
    """Rate of step 0 .. total − 1: a linear rise over the warm-up, then a linear fall that would reach 0 at ``total``.

    The rise counts from 1, so that no step is spent at rate 0: a user with ten steps cannot spare one.
    """
    warm = int(total * config.warmup)
    if step < warm:
        return config.learning_rate * (step + 1) / (warm + 1)
    return config.learning_rate * (total - step) / max(total - warm, 1)


def stable_random(seed: int, *names: object) -> random.Random:
    """A random source that depends on the names alone, not on the order in which anyone asks."""
    text = "\x00".join([str(seed), *map(str, names)])
    return random.Random(int.from_bytes(hashlib.sha256(text.encode()).digest()[:8], "big"))


def epoch_batches(
    lengths: Sequence[int], config: StageConfig, *, seed: int, learner: str, epoch: int
) -> list[list[int]]:
    """Row indices of each step of one epoch, each row once.

    With ``group_by_length`` rows are sorted by length inside random groups of 50 batches, and the batches then
    shuffled, so that a batch holds rows of like length and no length comes first.
    """
    rng = stable_random(seed, learner, epoch)
    order = list(range(len(lengths)))
    rng.shuffle(order)
    size = config.batch_size
    if config.group_by_length:
        span = size * _MEGABATCH
        order = [
            index
            for begin in range(0, len(order), span)
            for index in sorted(order[begin : begin + span], key=lambda i: -lengths[i])
        ]
    batches = [order[begin : begin + size] for begin in range(0, len(order), size)]
    if config.group_by_length:
        rng.shuffle(batches)
    return batches
