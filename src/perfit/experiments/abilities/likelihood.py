"""How probable a continuation is after a context whose tokens are one owner's prompt: edited there, and nowhere after it."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import torch
from torch import Tensor

from perfit.edits.edit_plan import EditPlan
from perfit.inference.edited import Edited

Tokens = Sequence[int]
_BATCH_TOKENS = 4096


def continuations(edited: Edited, owner: str, pairs: Sequence[tuple[Tokens, Tokens]]) -> list[tuple[float, bool]]:
    """Log-probability of each continuation, and whether greedy decoding would have said it.

    The whole model runs at once, the plain way: every task of a harness asks of it what it may.

    Args:
        edited: The base and whose shifts there are.
        owner: A user, "collective" or "base".
        pairs: Context and continuation as tokens, each of one token at least.
    """
    found: list[tuple[float, bool]] = [(0.0, True)] * len(pairs)
    for places in _batches(pairs):
        logits = _logits(edited, owner, [pairs[place] for place in places])
        for row, place in enumerate(places):
            context, said = pairs[place]
            end = len(context) - 1
            log_probs = logits[row, end : end + len(said)].float().log_softmax(-1)
            tokens = torch.tensor(list(said), device=log_probs.device)
            total = float(log_probs.gather(1, tokens[:, None]).sum())
            found[place] = (total, bool((log_probs.argmax(-1) == tokens).all()))
    return found


def next_tokens(edited: Edited, owner: str, contexts: Sequence[Tokens]) -> Tensor:
    """Log-probabilities of the token after each context: [contexts, vocabulary], fp32, on the CPU."""
    rows = [torch.empty(0)] * len(contexts)
    pairs: list[tuple[Tokens, Tokens]] = [(context, ()) for context in contexts]
    for places in _batches(pairs):
        logits = _logits(edited, owner, [pairs[place] for place in places])
        for row, place in enumerate(places):
            rows[place] = logits[row, len(contexts[place]) - 1].float().log_softmax(-1).cpu()
    return torch.stack(rows)


def _batches(pairs: Sequence[tuple[Tokens, Tokens]]) -> Iterator[list[int]]:
    order = sorted(range(len(pairs)), key=lambda place: sum(map(len, pairs[place])))
    batch: list[int] = []
    for place in order:
        width = sum(map(len, pairs[place]))
        if batch and (len(batch) + 1) * width > _BATCH_TOKENS:
            yield batch
            batch = []
        batch.append(place)
    if batch:
        yield batch


def _logits(edited: Edited, owner: str, pairs: Sequence[tuple[Tokens, Tokens]]) -> Tensor:
    """[rows, t, vocabulary], padded on the right."""
    backbone = edited.backbone
    shift, slots = edited.owners.rows_of([owner] * len(pairs), backbone, edited.layers)
    width = max(sum(map(len, pair)) for pair in pairs)
    whole = [[*context, *said] for context, said in pairs]
    ids = torch.tensor([row + [0] * (width - len(row)) for row in whole], device=backbone.device)
    mask = torch.tensor([[1] * len(row) + [0] * (width - len(row)) for row in whole], device=backbone.device)
    lengths = [len(context) for context, _ in pairs]
    plan = EditPlan.for_prompts(edited.positions, lengths, slots, device=backbone.device)
    with torch.no_grad():
        return backbone.logits(ids, mask, plan, shift)
