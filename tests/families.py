"""Ten model families in miniature, and the naive model that everything fast is held to: one row, no padding, loops."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import cache
from typing import Any

import torch
import transformers
from torch import Tensor

from perfit.backbone.model import Backbone
from perfit.edits.edit_plan import TwoStageShift
from perfit.edits.shift import Shift, ShiftBank

VOCABULARY, WIDTH, DEPTH = 97, 32, 4

_LLAMA_LIKE = {
    "vocab_size": VOCABULARY,
    "hidden_size": WIDTH,
    "intermediate_size": 48,
    "num_hidden_layers": DEPTH,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "max_position_embeddings": 128,
    "initializer_range": 0.12,
}
_PHI_LIKE = {name: value for name, value in _LLAMA_LIKE.items() if name != "num_key_value_heads"}
_MIXED = ["sliding_attention", "full_attention"] * 2

# Family -> config class, its settings, and where its layers are, written by hand.
FAMILIES: dict[str, tuple[str, dict[str, Any], str]] = {
    "llama": ("LlamaConfig", _LLAMA_LIKE, "model.layers"),
    "qwen2": ("Qwen2Config", _LLAMA_LIKE, "model.layers"),
    "qwen3": ("Qwen3Config", {**_LLAMA_LIKE, "head_dim": 8}, "model.layers"),
    "mistral": ("MistralConfig", {**_LLAMA_LIKE, "sliding_window": 6}, "model.layers"),
    "gemma2": ("Gemma2Config", {**_LLAMA_LIKE, "head_dim": 8, "sliding_window": 6}, "model.layers"),
    "gemma3": (
        "Gemma3TextConfig",
        {**_LLAMA_LIKE, "head_dim": 8, "sliding_window": 6, "layer_types": _MIXED},
        "model.layers",
    ),
    "gpt2": (
        "GPT2Config",
        {
            "vocab_size": VOCABULARY,
            "n_embd": WIDTH,
            "n_layer": DEPTH,
            "n_head": 4,
            "n_positions": 128,
            "resid_pdrop": 0.0,
            "embd_pdrop": 0.0,
            "attn_pdrop": 0.0,
            "initializer_range": 0.12,
        },
        "transformer.h",
    ),
    "neox": ("GPTNeoXConfig", _PHI_LIKE, "gpt_neox.layers"),
    "opt": (
        "OPTConfig",
        {
            "vocab_size": VOCABULARY,
            "hidden_size": WIDTH,
            "word_embed_proj_dim": WIDTH,
            "ffn_dim": 48,
            "num_hidden_layers": DEPTH,
            "num_attention_heads": 4,
            "max_position_embeddings": 128,
            "dropout": 0.0,
            "init_std": 0.12,
        },
        "model.decoder.layers",
    ),
    "phi": ("PhiConfig", _PHI_LIKE, "model.layers"),
}
NAMES = tuple(FAMILIES)


class NumberTokenizer:
    """Token 7 is the text "7"; the closing token is one that no base here ever says."""

    eos_token_id: int | None = VOCABULARY + 1
    pad_token_id: int | None = 0
    added_tokens_decoder: Mapping[int, Any] = {}

    def decode(self, tokens: Sequence[int], skip_special_tokens: bool = False) -> str:
        return " ".join(map(str, tokens))


@cache
def tiny(family: str, dtype: torch.dtype = torch.float32, attention: str | None = None) -> Backbone:
    """A random base; biases and norms are random too, for zeros and ones hide faults."""
    kind, values, _ = FAMILIES[family]
    config = getattr(transformers, kind)(**values, pad_token_id=0, bos_token_id=1, eos_token_id=None)
    with torch.random.fork_rng():
        torch.manual_seed(NAMES.index(family))
        model = transformers.AutoModelForCausalLM.from_config(config, attn_implementation=attention).float()
        with torch.no_grad():
            for parameter in model.parameters():
                parameter.add_(0.05 * torch.randn_like(parameter))
    return Backbone(model.to(dtype), NumberTokenizer(), name=family)


def random_bank(slots: int, layers: int, rank: int, seed: int, size: float = 0.3, width: int = WIDTH) -> ShiftBank:
    """Shifts that do something, in every slot but 0."""
    generator = torch.Generator().manual_seed(seed)
    bank = ShiftBank.empty(slots, layers, rank, width)
    for slot in range(1, slots + 1):
        Q = torch.linalg.qr(torch.randn(layers, width, rank, generator=generator)).Q.mT
        W = Q + size * torch.randn(layers, rank, width, generator=generator)
        bank.put(slot, Shift(Q, W, size * torch.randn(layers, rank, generator=generator)))
    return bank


def random_shift(layers: Sequence[int], seed: int = 0) -> TwoStageShift:
    """Both stages at some layers: collective slots 1, 2 and personal slots 1, 2, 3."""
    count = len(layers)
    return TwoStageShift(tuple(layers), random_bank(2, count, 4, seed), random_bank(3, count, 3, seed + 1))


def picked(rule: str, length: int) -> list[int]:
    """What a rule picks, said again by hand."""
    if rule == "all":
        return list(range(length))
    if rule[0] in "fl":
        chosen = set()
        for part in rule.split("+"):
            count = int(part[1:])
            chosen |= {i for i in range(length) if (i < count if part[0] == "f" else i >= length - count)}
        return sorted(chosen)
    return sorted(
        {i for i in range(length) if i in (wanted := {int(p) for p in rule.split(",")}) or i - length in wanted}
    )


def two_shifts(shift: TwoStageShift, layer: int, pair: tuple[int, int]) -> list[tuple[Tensor, Tensor, Tensor]]:
    """(R, W, b) of a row's owner at one layer: collective, then personal; none for the untouched base."""
    place = shift.layers.index(layer)
    banks = (shift.collective, shift.personal)
    return [
        (bank.shift.R[slot, place], bank.shift.W[slot, place], bank.shift.b[slot, place])
        for bank, slot in zip(banks, pair, strict=True)
        if slot
    ]


def dense(x: Tensor, stages: Sequence[tuple[Tensor, Tensor, Tensor]]) -> Tensor:
    """Eq. 2 of one vector, once per stage."""
    y = x.to(stages[0][0].dtype) if stages else x
    for R, W, b in stages:
        y = y + R.T @ (W @ y + b - R @ y)
    return y.to(x.dtype)


@contextmanager
def naive_editing(
    backbone: Backbone,
    shift: TwoStageShift,
    pair: tuple[int, int],
    where: Sequence[int],
    only_length: int | None = None,
) -> Iterator[None]:
    """Edit some absolute positions of rows that stand alone, vector by vector.

    Args:
        only_length: Edit only forwards of this many tokens: the prompt's, not those of single generated tokens.
    """

    def hook_for(layer: int) -> Callable[..., Any]:
        def hook(module: Any, args: Any, output: Any) -> Any:
            hidden = output[0] if isinstance(output, tuple) else output
            if only_length is not None and hidden.shape[1] != only_length:
                return output
            stages = two_shifts(shift, layer, pair)
            rows = [[dense(v, stages) if i in where else v for i, v in enumerate(row)] for row in hidden]
            edited = torch.stack([torch.stack(row) for row in rows])
            return (edited, *output[1:]) if isinstance(output, tuple) else edited

        return hook

    layers = backbone.model.get_submodule(FAMILIES[backbone.name][2])
    handles = [layers[layer].register_forward_hook(hook_for(layer)) for layer in shift.layers]
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()


def alone(
    backbone: Backbone, tokens: Sequence[int], shift: TwoStageShift, pair: tuple[int, int], where: Sequence[int]
) -> Tensor:
    """Logits [t, vocabulary] of one row that runs by itself without padding or cache."""
    with naive_editing(backbone, shift, pair, where):
        logits: Tensor = backbone.model(input_ids=torch.tensor([list(tokens)]), use_cache=False).logits[0]
    return logits


def greedy_alone(
    backbone: Backbone,
    prompt: Sequence[int],
    shift: TwoStageShift,
    pair: tuple[int, int],
    where: Sequence[int],
    new: int,
) -> list[int]:
    """Greedy tokens with the whole sequence run again for each, edited at prompt positions only."""
    tokens = list(prompt)
    with torch.no_grad():
        for _ in range(new):
            tokens.append(int(alone(backbone, tokens, shift, pair, where)[-1].argmax()))
    return tokens[len(prompt) :]


def parameters_of(shift: TwoStageShift) -> list[Tensor]:
    """All tensors of both banks."""
    return [*shift.collective.shift.tensors().values(), *shift.personal.shift.tensors().values()]


def gradients(loss: Tensor, shift: TwoStageShift) -> list[Tensor]:
    """Gradients of both banks' tensors, zeros where a bank has no part in the loss."""
    found = torch.autograd.grad(loss, parameters_of(shift), allow_unused=True)
    return [torch.zeros_like(p) if g is None else g for p, g in zip(parameters_of(shift), found, strict=True)]


def learnable(shift: TwoStageShift) -> TwoStageShift:
    """The same shift with all its tensors taking gradients."""
    for parameter in parameters_of(shift):
        parameter.requires_grad_(True)
    return shift


def padded_batch(prompts: Sequence[Sequence[int]], side: str) -> tuple[Tensor, Tensor, list[int]]:
    """Prompts padded with a token that would do harm if seen; mask; where each begins."""
    width = max(map(len, prompts))
    starts = [width - len(p) if side == "left" else 0 for p in prompts]
    ids = torch.full((len(prompts), width), 96)
    mask = torch.zeros(len(prompts), width, dtype=torch.long)
    for row, (prompt, start) in enumerate(zip(prompts, starts, strict=True)):
        ids[row, start : start + len(prompt)] = torch.tensor(list(prompt))
        mask[row, start : start + len(prompt)] = 1
    return ids, mask, starts
