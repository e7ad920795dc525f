"""A child forked off a process whose torch used several threads would wait for threads that it does not have: it uses one."""

from __future__ import annotations

import os
import sys
from functools import cache


def _one_thread() -> None:
    torch = sys.modules.get("torch")  # who lists a store's users has not loaded it
    if torch is not None and torch.get_num_threads() > 1:
        torch.set_num_threads(1)


@cache
def one_thread_after_fork() -> None:
    """Let torch use one thread in children that are forked off this process from here on."""
    if hasattr(os, "register_at_fork"):
        os.register_at_fork(after_in_child=_one_thread)
