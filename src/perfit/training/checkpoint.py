"""The state of a training loop as one file, so that a killed run goes on and ends with the same numbers."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch

from perfit.durable.tensors import read_tensors, write_tensors
from perfit.training.groups import Group
from perfit.training.learner import Learner, Progress
from perfit.training.loop import Loop


def save_loop(loop: Loop, path: Path, *, context: dict[str, Any]) -> None:
    """Save every bit that decides how the loop goes on: slots, moments, steps, and which learners are in it.

    Args:
        loop: Between two steps.
        path: The checkpoint file, replaced atomically.
        context: What the checkpoint belongs to; ``load_loop`` refuses another.
    """
    slots = torch.tensor([p.slot for p in loop.active], dtype=torch.long)
    tensors: dict[str, torch.Tensor] = {"slots": slots}
    for number, ((_, parameter), first, second) in enumerate(
        zip(loop.optimiser.parameters, loop.optimiser.first, loop.optimiser.second, strict=True)
    ):
        index = slots.to(parameter.device)
        for kind, tensor in (("value", parameter), ("first", first), ("second", second)):
            tensors[f"{number}.{kind}"] = tensor.detach().index_select(0, index)
    state = {
        "context": context,
        "taken": loop.taken,
        "free": loop.free,
        "groups": [[group.start, group.stop] for group in loop.groups],
        "active": [[p.learner.name, p.slot, p.step, p.losses, p.earlier, p.strength] for p in loop.active],
    }
    write_tensors(path, tensors, state)


def load_loop(loop: Loop, path: Path, learners: Sequence[Learner], *, context: dict[str, Any]) -> bool:
    """Bring a fresh loop to a saved state; False when there is no checkpoint of this context.

    Args:
        loop: Made with the same settings.
        path: The checkpoint file.
        learners: The same learners in the same order.
        context: As given to ``save_loop``.

    Raises:
        StoreError: The file is damaged.
    """
    kept = read_tensors(path, mend="delete it to start this stage again")
    if kept is None:
        return False
    state, tensors = kept.notes, kept.tensors
    if state.get("context") != context or "groups" not in state:
        return False
    by_name = {learner.name: learner for learner in learners}
    loop.taken, loop.free = state["taken"], state["free"]
    with torch.no_grad():
        for number, ((_, parameter), first, second) in enumerate(
            zip(loop.optimiser.parameters, loop.optimiser.first, loop.optimiser.second, strict=True)
        ):
            index = tensors["slots"].to(parameter.device)
            for kind, tensor in (("value", parameter), ("first", first), ("second", second)):
                tensor.index_copy_(0, index, tensors[f"{number}.{kind}"].to(tensor))
    waiting = {learner.name for learner in learners[loop.taken :]}
    for start, stop in state["groups"]:
        group = Group.of(learners, start, stop, loop.runner)
        loop.add(group)
        group.keep_only(waiting | {name for name, *_ in state["active"]})
    for name, slot, step, losses, *tried in state["active"]:
        progress = Progress(by_name[name], slot, step, losses, *tried)
        group = next(group for group in loop.groups if name in group.items)
        loop.join(progress, group)
    return True
