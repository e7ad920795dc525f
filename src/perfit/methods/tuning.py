"""A plain training loop over rows for parameters that live inside the base: LoRA's matrices, heads' scales and biases.

PerFit's own loop trains many users in one step; this one trains one learner, on the same schedule and order of rows.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from perfit.backbone.model import Backbone
from perfit.backbone.padding import padded
from perfit.backbone.taps import NOTHING, Changes, running
from perfit.config import StageConfig
from perfit.durable.tensors import read_tensors, write_tensors
from perfit.errors import DamagedError
from perfit.events import Listener, Stepped
from perfit.methods.work import AdaptationError
from perfit.training.rows import TokenRow, label_places, row_loss
from perfit.training.schedule import epoch_batches, learning_rate, stable_random, steps_per_epoch, total_steps

_CHECKPOINT_SECONDS = 20.0


def answer_loss(backbone: Backbone, rows: Sequence[TokenRow], changes: Changes = NOTHING) -> Tensor:
    """Negative log-likelihood summed over each row's answer tokens, [rows], fp32; logits only where there is a label.

    Args:
        backbone: The base.
        rows: The rows, padded on the right.
        changes: What a method does to the base's states in this forward.
    """
    device = backbone.device
    ids, mask = padded([row.input_ids for row in rows], device)
    starts = [len(row.prompt_ids) - 1 for row in rows]
    places, columns, labels = label_places(starts, [row.answer_ids for row in rows], device)
    labelled = backbone.head_on(lambda states: states[places, columns].unsqueeze(0))
    logits = running(lambda: backbone.logits(ids, mask, use_cache=False), changes, labelled)
    return row_loss(logits[0], labels, places, len(rows))


def chunks(rows: Sequence[TokenRow], step_tokens: int) -> Iterator[list[TokenRow]]:
    """Rows of like length together, at most ``step_tokens`` tokens with padding, at least one row."""
    ordered = sorted(rows, key=lambda row: -len(row.input_ids))
    begin = 0
    while begin < len(ordered):
        count = max(step_tokens // len(ordered[begin].input_ids), 1)
        yield ordered[begin : begin + count]
        begin += count


@dataclass(frozen=True)
class Tuning:
    """How parameters inside the base are trained (paper, D.4 and D.5.1).

    Attributes:
        backbone: The base, or the copy of it that holds the parameters.
        stage: Epochs, batch size, rate, decay, warm-up, clip.
        seed: Seed of row orders and dropout.
        step_tokens: Most tokens of one forward; a step adds up as many as its batch needs.
        listener: Hears ``Stepped``.
    """

    backbone: Backbone
    stage: StageConfig
    seed: int
    step_tokens: int
    listener: Listener

    def run(
        self,
        parameters: Mapping[str, Tensor],
        rows: Sequence[TokenRow],
        learner: str,
        *,
        changes: Callable[[], Changes] = lambda: NOTHING,
        loss: Callable[[Sequence[TokenRow]], Tensor] | None = None,
        penalty: Callable[[], Tensor] | None = None,
        reseed: Callable[[int], None] = lambda seed: None,
        checkpoint: Path | None = None,
        context: str = "",
    ) -> dict[str, Any]:
        """Train ``parameters`` in place on all epochs of the rows.

        Args:
            parameters: Leaf tensors by name.
            rows: One learner's rows.
            learner: Decides, with the seed, the order of rows and the dropout.
            changes: What the parameters do in a forward, made for each; nothing where they stand inside the base.
            loss: Each row's loss, [rows], where the base's own forward with ``changes`` is not what computes it.
            reseed: Told what dropout draws from, before each step: seed, learner and step alone.
            penalty: Added to each step's loss, which is a mean over answer tokens.
            checkpoint: Where the state lies while training is under way; removed at the end.
            context: What a checkpoint must belong to.

        Returns:
            ``steps`` and ``losses``: the mean per answer token of each epoch.

        Raises:
            AdaptationError: The loss or a gradient is not finite.
            StoreError: The checkpoint is damaged.
        """
        stage, state = self.stage, _State(parameters, self.stage)
        of = loss if loss is not None else lambda chunk: answer_loss(self.backbone, chunk, changes())
        if checkpoint is not None:
            state.load(checkpoint, context)
        lengths = [len(row.prompt_ids) + len(row.answer_ids) for row in rows]
        per_epoch, total = steps_per_epoch(len(rows), stage.batch_size), total_steps(len(rows), stage)
        saved, batches, shown = time.monotonic(), [], -1
        while state.step < total:
            began = time.perf_counter()
            epoch, place = divmod(state.step, per_epoch)
            if epoch != shown:
                batches, shown = epoch_batches(lengths, stage, seed=self.seed, learner=learner, epoch=epoch), epoch
            while len(state.losses) <= epoch:
                state.losses.append([0.0, 0.0])
            batch = [rows[i] for i in batches[place]]
            tokens = sum(len(row.answer_ids) for row in batch)
            for group in state.optimiser.param_groups:
                group["lr"] = learning_rate(state.step, total, stage)
            reseed(stable_random(self.seed, learner, "dropout", state.step).getrandbits(62))
            nll = self._backward(batch, tokens, of, penalty)
            norm = float(torch.nn.utils.clip_grad_norm_(state.parameters.values(), stage.clip))
            if not (math.isfinite(nll) and math.isfinite(norm)):
                raise AdaptationError(f"its loss or gradient is not finite at step {state.step}")
            state.optimiser.step()
            state.optimiser.zero_grad()
            state.losses[epoch][0] += nll
            state.losses[epoch][1] += tokens
            state.step += 1
            seconds = time.perf_counter() - began
            self.listener(Stepped(rows=len(batch), learners=1, loss=nll / tokens, seconds=seconds))
            if checkpoint is not None and time.monotonic() - saved > _CHECKPOINT_SECONDS:
                state.save(checkpoint, context)
                saved = time.monotonic()
        return {"steps": state.step, "losses": [nll / tokens for nll, tokens in state.losses]}

    def _backward(
        self,
        batch: Sequence[TokenRow],
        tokens: int,
        of: Callable[[Sequence[TokenRow]], Tensor],
        penalty: Callable[[], Tensor] | None,
    ) -> float:
        total = 0.0
        for chunk in chunks(batch, self.step_tokens):
            loss = of(chunk).sum()
            (loss / tokens).backward()  # type: ignore[no-untyped-call]
            total += float(loss.detach())
        if penalty is not None:
            penalty().backward()  # type: ignore[no-untyped-call]
        return total


@dataclass
class _State:
    """Everything that decides how training goes on."""

    parameters: Mapping[str, Tensor]
    stage: StageConfig
    step: int = 0
    losses: list[list[float]] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.optimiser = torch.optim.AdamW(
            list(self.parameters.values()), lr=self.stage.learning_rate, weight_decay=self.stage.weight_decay
        )

    def save(self, path: Path, context: str) -> None:
        tensors = {}
        for name, parameter in self.parameters.items():
            moments = self.optimiser.state[parameter]
            for kind, tensor in (
                ("value", parameter),
                ("first", moments["exp_avg"]),
                ("second", moments["exp_avg_sq"]),
            ):
                tensors[f"{kind}.{name}"] = tensor
        write_tensors(path, tensors, {"context": context, "step": self.step, "losses": self.losses})

    def load(self, path: Path, context: str) -> None:
        mend = "delete it to train this anew"
        kept = read_tensors(path, mend=mend)
        if kept is None or kept.notes.get("context") != context:
            return
        try:
            step, losses = kept.notes["step"], kept.notes["losses"]
            with torch.no_grad():
                for name, parameter in self.parameters.items():
                    parameter.copy_(kept.tensors[f"value.{name}"])
                    self.optimiser.state[parameter] = {
                        "step": torch.tensor(float(step)),
                        "exp_avg": kept.tensors[f"first.{name}"].to(parameter),
                        "exp_avg_sq": kept.tensors[f"second.{name}"].to(parameter),
                    }
        except (KeyError, ValueError, TypeError, RuntimeError) as error:
            raise DamagedError(f"{path}: lacks what a checkpoint holds; {mend}") from error
        self.step, self.losses = step, losses
