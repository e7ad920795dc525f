"""Run only some layers of the base, on states computed before, over keys and values of tokens that came before."""

from __future__ import annotations

import copy
from contextlib import nullcontext
from dataclasses import dataclass, field
from typing import Any, cast

import torch
from torch import Tensor, nn

from perfit.backbone.model import Backbone
from perfit.backbone.prefix_attention import using_prefix_attention
from perfit.backbone.prefix_cache import KeysTakenError, PrefixCache


class _Skip(nn.Module):
    """Stands for a layer that does not run: hands on the states, or puts in (``given``) or takes out (``taken``) others."""

    def __init__(self, layer: nn.Module, as_tuple: bool):
        super().__init__()
        object.__setattr__(self, "_layer", layer)
        self.as_tuple = as_tuple
        self.given: Tensor | None = None
        self.taken: Tensor | None = None

    def __getattr__(self, name: str) -> Any:
        # A model's forward may ask a layer what kind it is (e.g. Gemma's attention_type).
        try:
            return super().__getattr__(name)
        except AttributeError:
            return getattr(object.__getattribute__(self, "_layer"), name)

    def forward(self, hidden_states: Tensor, *args: Any, **kwargs: Any) -> Any:
        self.taken = hidden_states
        out = hidden_states if self.given is None else self.given
        return (out,) if self.as_tuple else out


class _Echo(nn.Module):
    """Stands for the whole decoder in front of the head: its output is ``given``."""

    given: Tensor | None = None

    def forward(self, *args: Any, **kwargs: Any) -> Any:
        from transformers.modeling_outputs import BaseModelOutputWithPast

        class Output(BaseModelOutputWithPast):  # type: ignore[misc]
            def __getattr__(self, name: str) -> None:
                # Families ask for parts of their own (cross_attentions, router_logits) that a head does not need.
                if name.startswith("__"):
                    raise AttributeError(name)

        return Output(last_hidden_state=self.given)


def _with_module(root: nn.Module, path: str, replacement: nn.Module) -> nn.Module:
    """A copy of ``root`` that differs in one submodule; everything else, all weights included, is shared."""
    clone = copy.copy(root)
    clone._modules = dict(root._modules)
    head, _, rest = path.partition(".")
    child = root._modules[head]
    if rest:
        assert child is not None
        replacement = _with_module(child, rest, replacement)
    clone._modules[head] = replacement
    return clone


@dataclass
class Sections:
    """Partial runs of one base: layers start .. stop − 1, and the head alone.

    The base's own forward runs each time, with the layers outside the section standing still, so that masks, position
    embeddings and norms of every model family are the family's own.
    """

    backbone: Backbone
    _decoders: dict[tuple[int, int], tuple[nn.Module, list[nn.Module]]] = field(default_factory=dict)
    _tuples: list[bool] = field(init=False)
    _head: tuple[nn.Module, _Echo] | None = None

    def __post_init__(self) -> None:
        # Now, for sections may first run inside ``Backbone.editing``, whose plan does not fit this forward.
        self._tuples = self._layer_outputs()

    def _layer_outputs(self) -> list[bool]:
        """Which layers answer with a tuple, found by one forward of one token."""
        found: list[bool] = []
        hooks = [
            layer.register_forward_hook(lambda m, a, out: found.append(isinstance(out, tuple)))
            for layer in self.backbone.layers
        ]
        try:
            with torch.no_grad():
                self.backbone.model(input_ids=torch.zeros(1, 1, dtype=torch.long, device=self.backbone.device))
        finally:
            for hook in hooks:
                hook.remove()
        return found

    def _decoder(self, start: int, stop: int) -> tuple[nn.Module, list[nn.Module]]:
        if (start, stop) not in self._decoders:
            layers = self.backbone.layers
            kept: list[nn.Module] = [
                layer if start <= i < stop else _Skip(layer, self._tuples[i]) for i, layer in enumerate(layers)
            ]
            owner, _, name = self.backbone.layers_path.rpartition(".")
            decoder = _with_module(self.backbone.model.get_submodule(owner), name, nn.ModuleList(kept))
            self._decoders[start, stop] = decoder, kept
        return self._decoders[start, stop]

    def run(
        self,
        start: int,
        stop: int,
        *,
        tokens: Tensor | None = None,
        states: Tensor | None = None,
        attention_mask: Tensor,
        position_ids: Tensor,
        cache: PrefixCache | None = None,
        finish: bool = False,
    ) -> Tensor:
        """States [rows, t, d] after layer ``stop`` − 1.

        Args:
            start, stop: Layers that run; ``start == stop`` runs none.
            tokens: [rows, t] when ``start`` is 0.
            states: [rows, t, d] entering layer ``start`` otherwise.
            attention_mask: [rows, prefix + t]; 0 on padding.
            position_ids: [rows, t], the tokens' true positions.
            cache: What came before; also records new keys and values. Where its ``last`` layer ends the forward, the
                result has no tokens, [rows, 0, d].
            finish: Put the states through the base's final norm, as the head wants them.
        """
        decoder, kept = self._decoder(start, stop)
        if start > 0:
            assert states is not None
            cast(_Skip, kept[start - 1]).given = states
            inputs: dict[str, Any] = {"inputs_embeds": torch.zeros_like(states).detach()}
        else:
            assert tokens is not None
            inputs = {"input_ids": tokens}
        cache = cache if cache is not None else PrefixCache()
        last: list[Tensor] = []
        handle = None
        if stop == len(kept) and not finish:
            handle = kept[-1].register_forward_hook(
                lambda m, a, out: last.append(out[0] if isinstance(out, tuple) else out)
            )
        try:
            with using_prefix_attention(decoder.config) if cache.apart else nullcontext():
                out: Tensor = decoder(
                    **inputs,
                    attention_mask=attention_mask,
                    position_ids=position_ids,
                    past_key_values=cache,
                    use_cache=True,
                ).last_hidden_state
            if finish:
                return out
            taken: Tensor = last[0] if stop == len(kept) else cast(_Skip, kept[stop]).taken  # type: ignore[assignment]
            return taken
        except KeysTakenError:
            return torch.empty(*position_ids.shape[:1], 0, self.backbone.hidden_size)
        finally:
            if handle is not None:
                handle.remove()
            for layer in kept:
                if isinstance(layer, _Skip):
                    layer.given = layer.taken = None

    def head(self, states: Tensor) -> Tensor:
        """Logits [n, vocabulary] of states [n, d] after the final norm, with the family's own scaling or capping."""
        if self._head is None:
            echo = _Echo()
            owner, _, _ = self.backbone.layers_path.rpartition(".")
            self._head = _with_module(self.backbone.model, owner, echo), echo
        model, echo = self._head
        echo.given = states.unsqueeze(0)
        try:
            logits: Tensor = model(inputs_embeds=echo.given).logits.squeeze(0)
        finally:
            echo.given = None
        return logits
