"""Run only some layers of the base, on states computed before, over keys and values of tokens that came before."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, cast
from weakref import WeakKeyDictionary

import torch
from torch import Tensor, nn

from perfit.backbone.model import Backbone
from perfit.backbone.prefix_attention import with_prefix_attention
from perfit.backbone.prefix_cache import KeysTakenError, PrefixCache
from perfit.backbone.taps import Changes, looking, running, untouched
from perfit.backbone.twin import twin, with_module


class _Skip(nn.Module):
    """Stands for a layer that does not run: hands on the states, or ``given`` ones, and notes them in ``taken``."""

    def __init__(
        self, layer: nn.Module, as_tuple: bool, given: Tensor | None = None, taken: list[Tensor] | None = None
    ):
        super().__init__()
        object.__setattr__(self, "_layer", layer)
        self.as_tuple, self.given, self.taken = as_tuple, given, taken

    def __getattr__(self, name: str) -> Any:
        # A model's forward may ask a layer what kind it is (e.g. Gemma's attention_type).
        try:
            return super().__getattr__(name)
        except AttributeError:
            return getattr(object.__getattribute__(self, "_layer"), name)

    def forward(self, hidden_states: Tensor, *args: Any, **kwargs: Any) -> Any:
        if self.taken is not None:
            self.taken.append(hidden_states)
        out = hidden_states if self.given is None else self.given
        return (out,) if self.as_tuple else out


class _Echo(nn.Module):
    """Stands for the whole decoder in front of the head: its output is ``given``."""

    def __init__(self, given: Tensor):
        super().__init__()
        self.given = given

    def forward(self, *args: Any, **kwargs: Any) -> Any:
        from transformers.modeling_outputs import BaseModelOutputWithPast

        class Output(BaseModelOutputWithPast):  # type: ignore[misc]
            def __getattr__(self, name: str) -> None:
                # Families ask for parts of their own (cross_attentions, router_logits) that a head does not need.
                if name.startswith("__"):
                    raise AttributeError(name)

        return Output(last_hidden_state=self.given)


@dataclass(frozen=True)
class _Decoder:
    """A decoder, where its layers are, and which stand-ins they have."""

    module: nn.Module
    layers: list[nn.Module]
    skips: list[_Skip]


_TUPLES: WeakKeyDictionary[nn.Module, list[bool]] = WeakKeyDictionary()
"""Which layers of a base answer with a tuple: a matter of its code, asked anew by every training."""


@torch.no_grad()
def _layer_outputs(backbone: Backbone) -> list[bool]:
    """Which layers answer with a tuple, found by one forward of one token in a copy."""
    found: list[bool] = []
    copied = twin(backbone.model)
    for layer in copied.get_submodule(backbone.layers_path):
        layer.register_forward_hook(lambda m, a, out: found.append(isinstance(out, tuple)))
    copied(input_ids=torch.zeros(1, 1, dtype=torch.long, device=backbone.device))
    return found


@dataclass
class Sections:
    """Partial runs of one base: layers start .. stop − 1, and the head alone.

    The base's own forward runs each time, with the layers outside the section standing still, so that masks, position
    embeddings and norms of every model family are the family's own.
    """

    backbone: Backbone
    _tuples: list[bool] = field(init=False)
    _decoders: dict[bool, _Decoder] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if self.backbone.model not in _TUPLES:
            # Sections may be made while edits are in force whose plan does not fit this forward.
            _TUPLES[self.backbone.model] = untouched(lambda: _layer_outputs(self.backbone))
        self._tuples = _TUPLES[self.backbone.model]

    def _decoder(self, apart: bool) -> _Decoder:
        """The base's decoder, or the copy of it that attends through ``prefix_attention``."""
        if apart not in self._decoders:
            owner, _, name = self.backbone.layers_path.rpartition(".")
            decoder = self.backbone.model.get_submodule(owner)
            if apart:
                decoder = with_prefix_attention(decoder)
            layers = list(cast(nn.ModuleList, decoder.get_submodule(name)))
            skips = [_Skip(layer, as_tuple) for layer, as_tuple in zip(layers, self._tuples, strict=True)]
            self._decoders[apart] = _Decoder(decoder, layers, skips)
        return self._decoders[apart]

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
        cache = cache if cache is not None else PrefixCache()
        whole, depth = self._decoder(cache.apart), len(self.backbone.layers)
        # Made for this call: nothing of it is left in anything that another call uses.
        kept = [*whole.skips[:start], *whole.layers[start:stop], *whole.skips[stop:]]
        taken: list[Tensor] = []
        if start > 0:
            assert states is not None
            kept[start - 1] = _Skip(whole.layers[start - 1], self._tuples[start - 1], given=states)
            inputs: dict[str, Any] = {"inputs_embeds": torch.zeros_like(states).detach()}
        else:
            assert tokens is not None
            inputs = {"input_ids": tokens}
        look: Changes = {}
        if stop < depth:
            kept[stop] = _Skip(whole.layers[stop], self._tuples[stop], taken=taken)
        elif start < depth:
            look = {self.backbone.output_of(depth - 1): looking(taken.append)}
        elif not finish:
            assert states is not None
            return states
        decoder = with_module(whole.module, self.backbone.layers_path.rpartition(".")[2], nn.ModuleList(kept))
        try:
            out: Tensor = running(
                lambda: (
                    decoder(
                        **inputs,
                        attention_mask=attention_mask,
                        position_ids=position_ids,
                        past_key_values=cache,
                        use_cache=True,
                    ).last_hidden_state
                ),
                look,
            )
            return out if finish else taken[0]
        except KeysTakenError:
            return torch.empty(*position_ids.shape[:1], 0, self.backbone.hidden_size)

    def head(self, states: Tensor) -> Tensor:
        """Logits [n, vocabulary] of states [n, d] after the final norm, with the family's own scaling or capping."""
        owner, _, _ = self.backbone.layers_path.rpartition(".")
        given = states.unsqueeze(0)
        logits: Tensor = with_module(self.backbone.model, owner, _Echo(given))(inputs_embeds=given).logits.squeeze(0)
        return logits
