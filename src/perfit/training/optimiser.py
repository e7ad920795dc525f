"""AdamW with a slot axis: each slot has its own clip, step count, rate and moments, as if it trained alone."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from perfit.edits.shift import ShiftBank, retract, tangent

_BETAS = (0.9, 0.999)
_EPS = 1e-8


class SlotAdamW:
    """Steps some slots of one or several banks that share their slot numbers.

    The update of each slot equals ``clip_grad_norm_`` over its own parameters followed by ``torch.optim.AdamW``, with
    decoupled decay on W and b only; R's update is projected to the tangent space of R Rᵀ = I and then retracted.

    Args:
        banks: Banks whose tensors get gradients; slot s of each belongs to one learner.
        weight_decay: Decay of W and b.
        clip: Largest gradient norm of one learner, over all its tensors in all banks.
    """

    def __init__(self, banks: Sequence[ShiftBank], *, weight_decay: float, clip: float):
        self.banks = list(banks)
        self.weight_decay, self.clip = weight_decay, clip
        self.parameters: list[tuple[str, Tensor]] = []
        for bank in self.banks:
            for name, tensor in bank.shift.tensors().items():
                self.parameters.append((name, tensor.requires_grad_(True)))
        self.first = [torch.zeros_like(p) for _, p in self.parameters]
        self.second = [torch.zeros_like(p) for _, p in self.parameters]

    def zero_grad(self) -> None:
        """Forget all gradients."""
        for _, parameter in self.parameters:
            parameter.grad = None

    def reset(self, slot: int) -> None:
        """Make a slot's moments those of a new learner."""
        for moment in (*self.first, *self.second):
            moment[slot] = 0

    @torch.no_grad()
    def gradient_norms(self, slots: Sequence[int]) -> Tensor:
        """Gradient norm of each slot over all its tensors, [len(slots)]."""
        index = torch.tensor(slots, device=self.parameters[0][1].device)
        squares = torch.zeros(len(slots), device=index.device)
        for _, parameter in self.parameters:
            if parameter.grad is not None:
                squares += parameter.grad.index_select(0, index).flatten(1).square().sum(1)
        return squares.sqrt()

    @torch.no_grad()
    def step(self, slots: Sequence[int], counts: Sequence[int], rates: Sequence[float]) -> None:
        """One update of some slots; all others keep every bit.

        Args:
            slots: The slots that step.
            counts: Each one's step number, from 1.
            rates: Each one's learning rate.
        """
        device = self.parameters[0][1].device
        index = torch.tensor(slots, device=device)
        scale = (self.clip / (self.gradient_norms(slots) + 1e-6)).clamp(max=1.0)
        rate = torch.tensor(rates, dtype=torch.float32, device=device)
        correct1 = torch.tensor([1 - _BETAS[0] ** n for n in counts], dtype=torch.float32, device=device)
        correct2 = torch.tensor([1 - _BETAS[1] ** n for n in counts], dtype=torch.float32, device=device)
        for (name, parameter), first, second in zip(self.parameters, self.first, self.second, strict=True):

            def over(values: Tensor, like: Tensor = parameter) -> Tensor:
                return values.view(-1, *([1] * (like.dim() - 1)))

            # No gradient at all is a gradient of zero: what a learner becomes must not depend on its company.
            grad = parameter.grad if parameter.grad is not None else torch.zeros_like(parameter)
            gradient = grad.index_select(0, index) * over(scale)
            m = first.index_select(0, index).lerp(gradient, 1 - _BETAS[0])
            v = second.index_select(0, index).mul(_BETAS[1]).add(gradient.square(), alpha=1 - _BETAS[1])
            value = parameter.index_select(0, index)
            if name != "R":
                value = value * (1 - over(rate) * self.weight_decay)
            move = over(-rate / correct1) * m / ((v / over(correct2)).sqrt() + _EPS)
            value = retract(value + tangent(value, move)) if name == "R" else value + move
            first.index_copy_(0, index, m)
            second.index_copy_(0, index, v)
            parameter.index_copy_(0, index, value)
