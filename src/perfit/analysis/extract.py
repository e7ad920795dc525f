"""δ-vectors from a base and users: streamed, batch by batch, and resumed where a stop left them."""

from __future__ import annotations

import shutil
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from perfit.analysis.deltas import DELTAS, DeltaVectors
from perfit.analysis.prompts import LOSSES, PromptMaker
from perfit.analysis.recipe import Recipe
from perfit.backbone.fingerprint import BaseIdentity, base_identity
from perfit.backbone.model import Backbone
from perfit.data.schema import User
from perfit.durable.folder import Folder
from perfit.durable.identity import digest_of
from perfit.durable.tensors import read_tensors, write_tensors
from perfit.errors import ConfigError, DamagedError
from perfit.events import Listener, Warned, nobody
from perfit.inference.last_states import last_states
from perfit.private import private_folder
from perfit.run import versions
from perfit.tasks.task import Task

_CHUNK = 64  # queries at least between two savings
_SAMPLE = 8


@dataclass(frozen=True, slots=True)
class Cost:
    """What an extraction takes, extrapolated from a few users' prompts and one timed forward.

    Attributes:
        prompts: How many; fewer where users with a single past item have no "half".
        tokens: Of all prompts together.
        seconds: On this machine as busy as it is now.
    """

    prompts: int
    tokens: int
    seconds: float


def able(users: Sequence[User]) -> list[User]:
    """Users with at least one query and one past item; others have no δ-vector."""
    return [user for user in users if user.queries and user.history]


def estimate(backbone: Backbone, task: Task, users: Sequence[User], recipe: Recipe, batch_tokens: int) -> Cost:
    """The cost of ``extract`` with the same arguments."""
    asked = [len(user.queries[: recipe.queries]) for user in users]
    maker = PromptMaker(task, backbone.tokenizer, users, recipe)
    step = max(1, len(users) // _SAMPLE)
    sample = [prompt.tokens for place in range(0, len(users), step) for prompt in maker.of(place)]
    prompts = sum(asked) * len(recipe.kinds)
    tokens = sum(map(len, sample)) / len(sample) * prompts
    middle = sorted(sample, key=len)[len(sample) // 2]
    some = [middle] * max(1, min(batch_tokens, 2048) // len(middle))
    for _ in range(2):  # the first forward also warms up
        began = time.perf_counter()
        list(last_states(backbone, some, recipe.layers, batch_tokens))
        seconds = time.perf_counter() - began
    return Cost(prompts, round(tokens), seconds * tokens / sum(map(len, some)))


def extract(
    backbone: Backbone,
    task: Task,
    users: Sequence[User],
    recipe: Recipe,
    *,
    group: str = "test",
    folder: Path | None = None,
    batch_tokens: int = 4096,
    identity: BaseIdentity | None = None,
    done: Callable[[int, bool], None] = lambda prompts, before: None,
    listener: Listener = nobody,
) -> DeltaVectors:
    """Measure users' δ-vectors: every layer in one forward, sums on the fly, so that memory grows with users alone.

    Args:
        backbone: The untouched base.
        task: Brings prompts and retrieval.
        users: Users with queries and a history, as ``able`` keeps them.
        recipe: How.
        group: What to call these users.
        folder: Where to save. What a stopped extraction with equal arguments left there is taken up, and a finished
            one is loaded.
        batch_tokens: Most tokens of a forward, padding included.
        identity: What the base is, where it is known; computed when not given.
        done: Called with a number of prompts and whether they were done before the stop.
        listener: Hears a warning that says how many damaged parts of a stopped extraction are measured again.

    Raises:
        ConfigError: There are no users.
        StoreError: The folder holds δ-vectors made otherwise.
        DataError: A record lacks what the task needs.
    """
    if not users:
        raise ConfigError("users: none has both a query and a history; δ-vectors need both")
    backbone.check_layers(recipe.layers)
    identity = identity if identity is not None else base_identity(backbone.model, backbone.tokenizer)
    stamp = _stamp([identity.digest, str(backbone.dtype), repr(task), group, recipe.as_dict()], users)
    if folder is not None and (folder / "recipe.json").exists():
        found = DeltaVectors.load(folder)
        Folder(folder, DELTAS).check(found.notes, {"stamp": stamp}, ["stamp"], lambda part: "users or settings")
        done(int(found.counts.sum()), True)
        return found
    maker = PromptMaker(task, backbone.tokenizer, users, recipe)
    parts = None if folder is None else folder / "parts"
    taken: list[dict[str, Tensor]] = []
    damaged = 0
    for number, places in enumerate(chunks_of(users, recipe)):
        path = None if parts is None else parts / f"{stamp}-{number:04d}.safetensors"
        try:
            part = None if path is None else _read_part(path)
        except DamagedError:
            part, damaged = None, damaged + 1
        before = part is not None
        if part is None:
            part = _measure(backbone, maker, places, recipe, batch_tokens, lambda rows: done(rows, False))
            if path is not None:
                private_folder(path.parent)
                write_tensors(path, part, {"part": path.name})
        if before:
            done(int(part["counts"].sum()), True)
        taken.append(part)
    if damaged:
        listener(
            Warned(
                f"{damaged} damaged {'part' if damaged == 1 else 'parts'} of what was measured before: measured again"
            )
        )
    notes = {
        "base": {
            "name": backbone.name,
            "dtype": str(backbone.dtype).removeprefix("torch."),
            "n_layers": len(backbone.layers),
            "identity": identity.as_dict(),
        },
        "versions": versions(),
        "shortened": dict(zip(LOSSES, torch.stack([part["losses"] for part in taken]).sum(0).tolist(), strict=True)),
        "stamp": stamp,
    }
    names = tuple(user.id for user in users)
    means, counts = (torch.cat([part[name] for part in taken]) for name in ("means", "counts"))
    found = DeltaVectors(task.name, group, names, recipe, means, counts, notes)
    if folder is not None:
        found.save(folder)
        shutil.rmtree(folder / "parts", ignore_errors=True)
    return found


def chunks_of(users: Sequence[User], recipe: Recipe) -> list[list[int]]:
    """Places of users in groups that are measured, batched and saved together."""
    chunks: list[list[int]] = [[]]
    queries = 0
    for place, user in enumerate(users):
        if queries >= _CHUNK:
            chunks.append([])
            queries = 0
        chunks[-1].append(place)
        queries += len(user.queries[: recipe.queries])
    return chunks


def _measure(
    backbone: Backbone,
    maker: PromptMaker,
    places: Sequence[int],
    recipe: Recipe,
    batch_tokens: int,
    done: Callable[[int], None],
) -> dict[str, Tensor]:
    """Means [users, kinds, 2, layers, d], counts [users, kinds, 2] and losses of a few users."""
    before = [maker.counts[name] for name in LOSSES]
    owned = [(number, prompt) for number, place in enumerate(places) for prompt in maker.of(place)]
    kinds = len(recipe.kinds)
    cells = torch.tensor([(number * kinds + prompt.kind) * 2 + prompt.half for number, prompt in owned])
    shape = (len(places), kinds, 2)
    sums = torch.zeros(len(places) * kinds * 2, len(recipe.layers), backbone.hidden_size)
    for rows, states in last_states(backbone, [prompt.tokens for _, prompt in owned], recipe.layers, batch_tokens):
        sums.index_add_(0, cells[rows], states)
        done(len(rows))
    counts = torch.bincount(cells, minlength=len(sums))
    means = sums / counts.view(-1, 1, 1)  # 0 / 0 is NaN: a user with a single query has no odd ones
    losses = torch.tensor([maker.counts[name] for name in LOSSES]) - torch.tensor(before)
    return {"means": means.view(*shape, *sums.shape[1:]), "counts": counts.view(shape), "losses": losses}


def _stamp(record: list[Any], users: Sequence[User]) -> str:
    """Names one extraction, so that parts of another, or of edited texts, are never taken for its own."""
    texts = [
        [
            user.id,
            [[item.id, dict(item.fields)] for item in user.history],
            [[query.id, query.input] for query in user.queries],
        ]
        for user in users
    ]
    return digest_of(record, texts)[:16]


def _read_part(path: Path) -> dict[str, Tensor] | None:
    kept = read_tensors(path, mend="it is measured again")
    if kept is None:
        return None
    if kept.notes.get("part") != path.name or not kept.tensors.keys() >= {"means", "counts", "losses"}:
        raise DamagedError(f"{path}: is another part")
    return kept.tensors
