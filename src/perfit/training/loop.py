"""The one training loop of both stages: many learners step together, each exactly as it would alone.

Stage 1 is one learner whose slot holds both shared shifts; stage 2 is one learner per user whose slot holds the
personal shift. Everything with a memory (order of rows, rate, moments, clip) belongs to the learner.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from typing import Any

import torch

from perfit.config import StageConfig
from perfit.edits.edit_plan import TwoStageShift
from perfit.edits.shift import ShiftBank
from perfit.events import Finished, Listener, Prepared, Skipped, Stepped, nobody
from perfit.training.chunks import Limits, Piece, chunks
from perfit.training.evidence import Evidence, strengths_bank
from perfit.training.groups import Group
from perfit.training.lead import Lead
from perfit.training.learner import Learner, Progress, Trained
from perfit.training.memory import MemoryBudget, held_bytes
from perfit.training.optimiser import SlotAdamW
from perfit.training.rows import Runner, Slots
from perfit.training.schedule import epoch_batches, learning_rate, steps_per_epoch, total_steps


class Loop:
    """Trains learners in the order given, as many at once as slots and memory allow.

    Args:
        runner: How a step runs.
        shift: Both banks; rows of a learner in slot s use ``slots_of(s)``.
        trained: The banks that learn; the others are constants.
        slots_of: (collective slot, personal slot) of a learner's rows, from its slot.
        config: The stage's settings.
        seed: Seed of the row orders.
        step_tokens: Most tokens of one forward.
        memory: What one forward and all prepared rows may take; at least one learner trains whatever its size.
        evidence: How each learner's strength is found, in a trial before its training; None: not at all.
        listener: Hears ``Prepared``, ``Stepped``, ``Finished`` and ``Skipped``.
    """

    def __init__(
        self,
        runner: Runner,
        shift: TwoStageShift,
        trained: Sequence[ShiftBank],
        slots_of: Callable[[int], Slots],
        config: StageConfig,
        *,
        seed: int,
        step_tokens: int,
        memory: MemoryBudget | None = None,
        evidence: Evidence | None = None,
        listener: Listener = nobody,
    ):
        self.runner, self.shift, self.trained, self.slots_of = runner, shift, list(trained), slots_of
        self.config, self.seed, self.step_tokens, self.listener = config, seed, step_tokens, listener
        self.evidence, self.trial = evidence, replace(config, epochs=1)
        self.memory = memory.frozen if memory is not None else math.inf
        self.step_memory = memory.step if memory is not None else math.inf
        self.peak = 0
        self.optimiser = SlotAdamW(self.trained, weight_decay=config.weight_decay, clip=config.clip)
        self.active: list[Progress] = []
        self.free = list(range(self.trained[0].slots - 1, 0, -1))
        self.taken = 0
        self.groups: list[Group] = []
        self._waiting: Group | None = None

    def rows_done(self, learners: Sequence[Learner]) -> int:
        """Rows that all steps so far have run, of learners under way and of those that are through."""
        under_way = {p.learner.name: p for p in self.active}
        done = 0
        for learner in learners[: self.taken]:
            progress = under_way.get(learner.name)
            tried = self.evidence.earlier(len(learner.rows)) if self.evidence is not None else 0
            if progress is None:
                done += tried + len(learner.rows) * self.config.epochs
            elif progress.rows:
                done += 0 if progress.earlier else tried
                epoch, step = divmod(progress.step, steps_per_epoch(len(progress.rows), self.config.batch_size))
                # Batches are shuffled: the one that is not full may be among the first.
                done += epoch * len(progress.rows) + sum(map(len, self._batches(progress, epoch)[:step]))
        return done

    def run(self, learners: Sequence[Learner], after_step: Callable[[], None] = lambda: None) -> Iterator[Trained]:
        """Train all learners; each comes out as it finishes.

        Args:
            learners: All of them, the same sequence when a run is resumed.
            after_step: Called when the state is complete and could be saved.
        """
        while self.active or self.taken < len(learners):
            yield from self._admit(learners)
            if self.active:
                yield from self._step()
            after_step()

    def _admit(self, learners: Sequence[Learner]) -> Iterator[Trained]:
        while self.free and self.taken < len(learners):
            group = self._group(learners)
            if group is None:
                return
            learner = learners[self.taken]
            self.taken += 1
            if not group.rows[learner.name]:
                self._forget(learner.name)
                yield self._skip(learner, "has nothing to train on (empty history)")
                continue
            progress = Progress(learner, self.free.pop())
            for bank, start in zip(self.trained, learner.start, strict=True):
                bank.put(progress.slot, start)
            self.optimiser.reset(progress.slot)
            if self.evidence is not None:
                progress.earlier = self.evidence.earlier(len(group.rows[learner.name]))
                progress.strength = None if progress.earlier else self.evidence.without_trial()
            self.join(progress, group)

    def _group(self, learners: Sequence[Learner]) -> Group | None:
        """The group of the next learner, prepared; None while there is no memory for it."""
        if self.groups and self.taken < self.groups[-1].stop:
            return self.groups[-1]
        if self._waiting is None:
            self._waiting = Group.next(learners, self.taken, self.runner, self.memory)
        if self.active and sum(group.held for group in self.groups) + self._waiting.held > self.memory:
            return None
        group, self._waiting = self._waiting, None
        self.add(group)
        return group

    def add(self, group: Group) -> None:
        """Prepare a group and hold it until all its learners are through."""
        group.prepare(self.runner, lambda rows: self.listener(Prepared(rows)))
        if any(group.rows.values()):
            self._look()
        self.groups.append(group)

    def join(self, progress: Progress, group: Group) -> None:
        """Let a learner of a prepared group train."""
        name = progress.learner.name
        count = progress.earlier or None
        progress.rows, progress.items = group.rows[name][:count], group.items[name][:count]
        self.active.append(progress)

    def _look(self) -> None:
        self.peak = max(self.peak, held_bytes(self.shift.personal.shift.R.device))

    def _forget(self, name: str) -> None:
        for group in self.groups:
            group.leave(name)
        self.groups = [group for group in self.groups if group.rows]

    def _skip(self, learner: Learner, problem: str) -> Trained:
        self.listener(Skipped(learner.name, problem))
        return Trained(learner.name, (), (), 0, problem)

    def _next_batch(self, progress: Progress) -> list[int]:
        rows = progress.rows
        epoch, step = divmod(progress.step, steps_per_epoch(len(rows), self.config.batch_size))
        if step == 0 or not progress.batches:
            progress.batches = self._batches(progress, epoch)
            while len(progress.losses) <= epoch:
                progress.losses.append([0.0, 0.0])
        return progress.batches[step]

    def _config(self, progress: Progress) -> StageConfig:
        return self.trial if progress.earlier else self.config

    def _batches(self, progress: Progress, epoch: int) -> list[list[int]]:
        lengths = [len(row.prompt_ids) + len(row.answer_ids) for row in progress.rows]
        return epoch_batches(
            lengths, self._config(progress), seed=self.seed, learner=progress.learner.name, epoch=epoch
        )

    def _step(self) -> Iterator[Trained]:
        began = time.perf_counter()
        batches = [self._next_batch(progress) for progress in self.active]
        weights, work = [], []
        for number, (progress, batch) in enumerate(zip(self.active, batches, strict=True)):
            tokens = sum(len(progress.rows[i].answer_ids) for i in batch)
            weights.append(tokens)
            work += [(number, progress.items[i]) for i in batch]
        sums = [0.0] * len(self.active)
        self.optimiser.zero_grad()
        slots = [self.slots_of(progress.slot) for progress in self.active]
        for chunk, lead in self._forwards(work, slots, self.shift):
            owners = [number for number, _ in chunk]
            loss = self.runner.answer_loss(
                [item for _, item in chunk], [slots[number] for number in owners], self.shift, lead
            )
            self._look()
            share = torch.tensor([1.0 / weights[number] for number in owners], device=loss.device)
            if loss.requires_grad:  # not when no row of the chunk has an edited token
                (loss * share).sum().backward()  # type: ignore[no-untyped-call]
            for number, value in zip(owners, loss.tolist(), strict=True):
                sums[number] += value
        norms = self.optimiser.gradient_norms([p.slot for p in self.active]).tolist()
        well = [math.isfinite(total) and math.isfinite(norm) for total, norm in zip(sums, norms, strict=True)]
        going = [p for p, ok in zip(self.active, well, strict=True) if ok]
        if going:
            self.optimiser.step(
                [p.slot for p in going],
                [p.step + 1 for p in going],
                [learning_rate(p.step, total_steps(len(p.rows), self._config(p)), self._config(p)) for p in going],
            )
        for progress, total, tokens in zip(self.active, sums, weights, strict=True):
            epoch = progress.step // steps_per_epoch(len(progress.rows), self.config.batch_size)
            progress.losses[epoch][0] += total
            progress.losses[epoch][1] += tokens
            progress.step += 1
        self.listener(
            Stepped(
                rows=len(work),
                learners=len(self.active),
                loss=sum(sums) / sum(weights),
                seconds=time.perf_counter() - began,
            )
        )
        yield from self._leave(well)

    def _forwards(
        self, work: Sequence[tuple[int, Any]], slots: Sequence[Slots], shift: TwoStageShift
    ) -> Iterator[tuple[list[tuple[int, Any]], Lead | None]]:
        """The rows of each forward, and the lead they go on from; what the caller does with them ends with backward."""
        tokens = {number: self.runner.lead(item) for number, item in work if self.runner.lead(item)}
        for chunk in self._chunks([(n, item) for n, item in work if not self.runner.lead(item)], self.step_memory):
            yield chunk, None
        if not tokens:
            return
        # A lead's graph is held while its owners' rows run: at most half of what a step may take.
        each = self.runner.lead_bytes()
        most = max(min(self.step_tokens // max(tokens.values()), int(min(self.step_memory, 2**62) / 2 / each)), 1)
        owners = list(tokens)
        for begin in range(0, len(owners), most):
            together = dict.fromkeys(owners[begin : begin + most])
            lead = self.runner.run_lead([slots[number] for number in together], shift)
            led = [(n, item) for n, item in work if n in together and self.runner.lead(item)]
            for chunk in self._chunks(led, self.step_memory - each * len(together)):
                yield chunk, lead
            lead.backward()

    def _chunks(self, work: Sequence[tuple[int, Any]], memory: float) -> Iterator[list[tuple[int, Any]]]:
        how = self.runner
        pieces = [Piece(number, how.width(item), how.step_bytes(item)) for number, item in work]
        for chunk in chunks(pieces, Limits(self.step_tokens, memory)):
            yield [work[i] for i in chunk]

    def _leave(self, well: Sequence[bool]) -> Iterator[Trained]:
        staying: list[Progress] = []
        leaving: list[tuple[Progress, bool]] = []
        for progress, ok in zip(self.active, well, strict=True):
            done = progress.step >= total_steps(len(progress.rows), self._config(progress))
            if progress.earlier and (done or not ok):
                self._judge(progress, ok)
                staying.append(progress)
            elif done or not ok:
                leaving.append((progress, ok))
            else:
                staying.append(progress)
        self.active = staying
        for progress, ok in leaving:
            self.free.append(progress.slot)
            name = progress.learner.name
            self._forget(name)
            if not ok:
                yield self._skip(progress.learner, f"its loss or gradient is not finite at step {progress.step}")
                continue
            shifts = tuple(bank.get(progress.slot) for bank in self.trained)
            if not all(torch.isfinite(t).all() for shift in shifts for t in shift.tensors().values()):
                yield self._skip(progress.learner, f"its shift is not finite after step {progress.step}")
                continue
            losses = tuple(total / max(tokens, 1) for total, tokens in progress.losses)
            self.listener(Finished(learner=name, steps=progress.step, losses=losses))
            yield Trained(name, shifts, losses, progress.step, strength=progress.strength)

    def _judge(self, progress: Progress, well: bool) -> None:
        """End a trial: the strength that its held-out rows speak for, and everything as before its first step.

        A trial that did not end well speaks for nothing; the training itself may go well.
        """
        assert self.evidence is not None
        name = progress.learner.name
        group = next(group for group in self.groups if name in group.items)
        held = group.items[name][progress.earlier :]
        own, first = self.trained[0].get(progress.slot), self.slots_of(progress.slot)[0]
        progress.strength = 0.0
        if well and all(torch.isfinite(tensor).all() for tensor in own.tensors().values()):
            bank = strengths_bank(progress.learner.start[0], own, self.evidence)
            progress.strength = self.evidence.choose(self._held_out_losses(held, first, bank))
        self.trained[0].put(progress.slot, progress.learner.start[0])
        self.optimiser.reset(progress.slot)
        progress.earlier, progress.step, progress.losses, progress.batches = 0, 0, [], []
        progress.rows, progress.items = group.rows[name], group.items[name]

    def _held_out_losses(self, items: Sequence[Any], first: int, bank: ShiftBank) -> list[float]:
        """Loss of all items together with each shift of a bank."""
        slots = [(first, slot) for slot in range(1, bank.slots)]
        shift = TwoStageShift(self.shift.layers, self.shift.collective, bank)
        work = [(number, item) for number in range(len(slots)) for item in items]
        sums = [0.0] * len(slots)
        with torch.no_grad():
            for chunk, lead in self._forwards(work, slots, shift):
                losses = self.runner.answer_loss(
                    [item for _, item in chunk], [slots[number] for number, _ in chunk], shift, lead
                )
                self._look()
                for (number, _), value in zip(chunk, losses.tolist(), strict=True):
                    sums[number] += value
        return sums
