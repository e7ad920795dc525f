"""A frozen Hugging Face causal LM whose layer outputs can be edited per row while it runs, trains or generates."""

from __future__ import annotations

import inspect
import weakref
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from perfit.after_fork import one_thread_after_fork
from perfit.backbone.layers import find_layers
from perfit.backbone.packed import keep_gradients
from perfit.backbone.padding import places
from perfit.backbone.taps import Changes, Side, Tap, running
from perfit.edits.edit_plan import EditPlan, TwoStageShift
from perfit.errors import BaseModelError, ConfigError


class Backbone:
    """A frozen base model and its tokenizer.

    Args:
        model: Any decoder-only causal LM of transformers; it is set to eval mode and frozen, never changed otherwise.
        tokenizer: Its tokenizer.
        name: What the user called it, for messages and manifests.
        layers_path: Dotted path of the decoder layers, where structure does not tell.

    Raises:
        BaseModelError: The layers are not found, the model keeps no keys and values, or ``keep_gradients`` refuses it.
    """

    def __init__(self, model: Any, tokenizer: Any, *, name: str = "", layers_path: str | None = None):
        if "past_key_values" not in inspect.signature(type(model).forward).parameters:
            raise BaseModelError(
                f"{name or type(model).__name__}: keeps no keys and values (past_key_values), so that edits could not be "
                "told from generated tokens; choose a base with attention in every layer"
            )
        one_thread_after_fork()
        keep_gradients(model, name or type(model).__name__)
        self.model = model.eval().requires_grad_(False)
        self.tokenizer = tokenizer
        self.name = name
        self.layers_path = find_layers(model, layers_path)
        self.layers: nn.ModuleList = model.get_submodule(self.layers_path)
        self.kept: dict[str, Any] = {}  # what was found out about this base, and goes with it
        head = model.get_output_embeddings()
        self._head = next((name for name, module in model.named_modules() if module is head), None)
        self._taps: dict[tuple[str, Side], Tap] = {}
        # Hooks hold nothing of this object: they go when it goes, though the model may stay.
        weakref.finalize(self, _remove, self._taps)

    @property
    def hidden_size(self) -> int:
        """Width d of the residual stream."""
        return int(self.model.config.get_text_config().hidden_size)

    @property
    def device(self) -> torch.device:
        """Where the embeddings live, and so the inputs."""
        device: torch.device = next(self.model.parameters()).device
        return device

    @property
    def dtype(self) -> torch.dtype:
        """The base's own floating-point type."""
        dtype: torch.dtype = next(self.model.parameters()).dtype
        return dtype

    def check_layers(self, layers: tuple[int, ...]) -> None:
        """Refuse layer indices that this base does not have.

        Raises:
            ConfigError: An index is outside 0 .. n − 1, or given twice.
        """
        count = len(self.layers)
        for layer in layers:
            if not 0 <= layer < count:
                raise ConfigError(f"layers: {layer} is not a layer of this base; choose from 0 to {count - 1}")
        if len(set(layers)) != len(layers) or not layers:
            raise ConfigError(f"layers: {list(layers)} must name at least one layer, each once")

    def tap(self, module: str, side: Side) -> Tap:
        """The place at one side of a module, by its dotted name in the model ("" is the model itself)."""
        key = (module, side)
        if key not in self._taps:
            # Of two threads that come here at once one tap stays unused, which does nothing.
            self._taps[key] = Tap(self.model.get_submodule(module), side)
        return self._taps[key]

    def output_of(self, layer: int) -> Tap:
        """The output of a decoder layer, by its zero-based index."""
        return self.tap(f"{self.layers_path}.{layer}", "output")

    def head_on(self, choose: Any = Tensor.contiguous) -> Changes:
        """Give the head only some of the final states [rows, t, d]; without ``choose`` all, laid out in one piece.

        A vocabulary of logits for each token is dear. And transformers slices the last position out of [rows, t, d];
        torch cannot fold such a slice, so it multiplies row by row and copies the whole vocabulary matrix for each: on
        a CPU that is more than half of a generation.
        """
        return {} if self._head is None else {self.tap(self._head, "input"): choose}

    def head_on_last(self, tokens: int = 1) -> Changes:
        """Give the head only the final states of the last tokens, so that logits are [rows, tokens, vocabulary]."""
        return self.head_on(lambda states: states[:, -tokens:].contiguous())

    def edits(self, plan: EditPlan, shift: TwoStageShift) -> Changes:
        """The edits of one batch as changes of the outputs of ``shift.layers``, for ``taps.running``.

        Positions count in the whole padded sequence: with a KV cache a forward goes on where the cache ends, so
        chunked prefill edits each prompt position once and generated tokens never. A batch k times as large as the
        plan (beams, several samples) is taken as each row repeated k times in place. With gradient checkpointing that
        runs whole layers again, the backward pass must be part of the call.
        """
        self.check_layers(shift.layers)
        plans = {len(plan.slots): plan}
        offset = 0

        def measure(kwargs: dict[str, Any]) -> None:
            nonlocal offset
            cache = kwargs.get("past_key_values")
            offset = int(cache.get_seq_length()) if cache is not None else 0

        def edit(layer: int, hidden: Tensor) -> Tensor:
            rows = hidden.shape[0]
            if rows not in plans:
                times, rest = divmod(rows, len(plan.slots))
                if rest:
                    raise BaseModelError(f"a batch of {rows} rows does not fit a plan of {len(plan.slots)} rows")
                plans[rows] = plan.repeated(times)
            return shift.edit(hidden, layer, plans[rows], offset)

        return {self.tap("", "start"): measure} | {
            self.output_of(layer): partial(edit, layer) for layer in shift.layers
        }

    def logits(
        self,
        input_ids: Tensor,
        attention_mask: Tensor,
        plan: EditPlan | None = None,
        shift: TwoStageShift | None = None,
        **kwargs: Any,
    ) -> Tensor:
        """Logits [rows, t, vocabulary] of the whole model run at once: the plain path all others are held to.

        Args:
            input_ids: [rows, t].
            attention_mask: [rows, t], 1 on tokens and 0 on padding; left padding moves positions as generate does.
            plan, shift: The edits; both or neither.
        """
        inputs = {
            "input_ids": input_ids,
            "attention_mask": attention_mask,
            "position_ids": places(attention_mask),
            **kwargs,
        }
        changes = {} if plan is None or shift is None else self.edits(plan, shift)
        logits: Tensor = running(lambda: self.model(**inputs).logits, changes)
        return logits


def _remove(taps: dict[tuple[str, Side], Tap]) -> None:
    for tap in taps.values():
        tap.handle.remove()
