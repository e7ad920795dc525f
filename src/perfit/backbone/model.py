"""A frozen Hugging Face causal LM whose layer outputs can be edited per row while it runs, trains or generates."""

from __future__ import annotations

import inspect
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn

from perfit.backbone.layers import find_layers
from perfit.errors import BaseModelError, ConfigError
from perfit.plan import EditPlan, TwoStageShift


class Backbone:
    """A frozen base model and its tokenizer.

    Args:
        model: Any decoder-only causal LM of transformers; it is set to eval mode and frozen, never changed otherwise.
        tokenizer: Its tokenizer.
        name: What the user called it, for messages and manifests.
        layers_path: Dotted path of the decoder layers, where structure does not tell.

    Raises:
        BaseModelError: The layers are not found, or the model keeps no keys and values.
    """

    def __init__(self, model: Any, tokenizer: Any, *, name: str = "", layers_path: str | None = None):
        if "past_key_values" not in inspect.signature(type(model).forward).parameters:
            raise BaseModelError(
                f"{name or type(model).__name__}: keeps no keys and values (past_key_values), so that edits could not be "
                "told from generated tokens; choose a base with attention in every layer"
            )
        self.model = model.eval().requires_grad_(False)
        self.tokenizer = tokenizer
        self.name = name
        self.layers_path = find_layers(model, layers_path)
        self.layers: nn.ModuleList = model.get_submodule(self.layers_path)
        self.kept: dict[str, Any] = {}  # what was found out about this base, and goes with it
        self._offset = 0

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

    @contextmanager
    def editing(self, plan: EditPlan, shift: TwoStageShift) -> Iterator[None]:
        """Edit the outputs of ``shift.layers`` in every forward inside this context.

        Positions count in the whole padded sequence: with a KV cache a forward goes on where the cache ends, so
        chunked prefill edits each prompt position once and generated tokens never. A batch k times as large as the
        plan (beams, several samples) is taken as each row repeated k times in place. With gradient checkpointing the
        backward pass must also run inside, for it runs the layers again.
        """
        self.check_layers(shift.layers)
        plans = {len(plan.slots): plan}

        def measure(module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
            cache = kwargs.get("past_key_values")
            self._offset = int(cache.get_seq_length()) if cache is not None else 0

        def edit(layer: int) -> Any:
            def hook(module: nn.Module, args: Any, output: Any) -> Any:
                hidden = output[0] if isinstance(output, tuple) else output
                rows = hidden.shape[0]
                if rows not in plans:
                    times, rest = divmod(rows, len(plan.slots))
                    if rest:
                        raise BaseModelError(f"a batch of {rows} rows does not fit a plan of {len(plan.slots)} rows")
                    plans[rows] = plan.repeated(times)
                edited = shift.edit(hidden, layer, plans[rows], self._offset)
                return (edited, *output[1:]) if isinstance(output, tuple) else edited

            return hook

        handles = [self.model.register_forward_pre_hook(measure, with_kwargs=True)]
        handles += [self.layers[layer].register_forward_hook(edit(layer)) for layer in shift.layers]
        try:
            yield
        finally:
            for handle in handles:
                handle.remove()
            self._offset = 0

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
        position_ids = (attention_mask.long().cumsum(-1) - 1).clamp(min=0)
        inputs = {"input_ids": input_ids, "attention_mask": attention_mask, "position_ids": position_ids, **kwargs}
        if plan is None or shift is None:
            untouched: Tensor = self.model(**inputs).logits
            return untouched
        with self.editing(plan, shift):
            edited: Tensor = self.model(**inputs).logits
            return edited
