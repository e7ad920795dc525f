"""One request at a time through the whole base, edited by its plain hooks: what every other engine is held to."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from perfit.backbone.model import Backbone
from perfit.backbone.taps import running
from perfit.edits.edit_plan import EditPlan, TwoStageShift
from perfit.edits.shift import blended
from perfit.serving.answer import Answer, choose
from perfit.serving.engine import Stats
from perfit.serving.loading import Loaded
from perfit.serving.version import ShiftVersion
from perfit.training.stages import bank_of


class Reference:
    """Answers one request after the other, a forward a step.

    Args:
        backbone: The base.
        layers: Edited layers.
    """

    name = "reference"

    def __init__(self, backbone: Backbone, layers: tuple[int, ...]):
        self.backbone, self.layers = backbone, layers
        self._answer: Answer | None = None
        self._shift: TwoStageShift | None = None
        self._cache: Any = None

    @property
    def capacity(self) -> None:
        """Tokens of prompt and answer that one request may have; the base alone decides."""
        return None

    def room(self) -> bool:
        """Whether another request may begin."""
        return self._answer is None

    def holds(self, version: ShiftVersion) -> bool:
        """Whether its shifts need not be loaded."""
        return False

    def begin(self, answer: Answer, loaded: Loaded | None) -> None:
        """Take a request in."""
        self._answer, self._cache, self._shift = answer, None, None
        if loaded is not None:
            own, strength = loaded.own, loaded.version.strength
            second = loaded.shared if own is None else own if strength == 1 else blended(loaded.shared, own, strength)
            device = self.backbone.device
            self._shift = TwoStageShift(self.layers, bank_of([loaded.first], device), bank_of([second], device))

    @torch.no_grad()
    def step(self) -> None:
        """One forward: the prompt, or the last token."""
        answer = self._answer
        if answer is None:
            return
        if self._cache is None:
            logits = self._forward(answer.request.prompt, answer)
        else:
            logits = self._forward(answer.tokens[-1:], None)
        choose(logits, [answer])
        if answer.finished:
            self._answer = self._shift = self._cache = None

    def end(self, answer: Answer) -> None:
        """Leave a request that is in flight."""
        if self._answer is answer:
            self._answer = self._shift = self._cache = None

    def forget(self, tenant: str, user: str) -> int:
        """Nothing of a user stays here once the requests are through."""
        return 0

    def reset(self) -> None:
        """Leave everything."""
        self._answer = self._shift = self._cache = None

    def stats(self) -> Stats:
        """It keeps no shifts."""
        return Stats()

    def _forward(self, tokens: tuple[int, ...] | list[int], answer: Answer | None) -> Tensor:
        ids = torch.tensor([list(tokens)], device=self.backbone.device)
        edits: Any = {}
        if answer is not None and self._shift is not None:
            plan = EditPlan.build([answer.edited], [(1, 1)], self.backbone.device)
            edits = self.backbone.edits(plan, self._shift)
        out = running(
            lambda: self.backbone.model(input_ids=ids, past_key_values=self._cache, use_cache=True),
            edits,
        )
        self._cache = out.past_key_values
        logits: Tensor = out.logits[:, -1].float()
        return logits
