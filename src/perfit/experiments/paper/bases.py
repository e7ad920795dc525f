"""The bases the paper names: where they are, and their shapes, so that counts need no weights."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from perfit.errors import ConfigError

if TYPE_CHECKING:
    from perfit.backbone.model import Backbone


@dataclass(frozen=True)
class PaperBase:
    """One base.

    Attributes:
        label: As the paper prints it.
        hub: Its id on the hub.
        kind: Its class of settings in transformers.
        shape: What decides its parameters.
    """

    label: str
    hub: str
    kind: str
    shape: Mapping[str, Any] = field(default_factory=dict)

    def on_meta(self, tokenizer: Any) -> Backbone:
        """The model without weights, to count on: it cannot run."""
        import torch
        import transformers

        from perfit.backbone.model import Backbone

        settings = getattr(transformers, self.kind)(**self.shape)
        with torch.device("meta"):
            return Backbone(transformers.AutoModelForCausalLM.from_config(settings), tokenizer, name=self.label)


def _llama(**shape: Any) -> dict[str, Any]:
    return {"vocab_size": 128_256, "max_position_embeddings": 8192, **shape}


PAPER_BASES: Mapping[str, PaperBase] = {
    "llama-2-7b": PaperBase(
        "Llama-2-7B",
        "meta-llama/Llama-2-7b-hf",
        "LlamaConfig",
        {
            "vocab_size": 32_000,
            "hidden_size": 4096,
            "intermediate_size": 11_008,
            "num_hidden_layers": 32,
            "num_attention_heads": 32,
            "num_key_value_heads": 32,
            "max_position_embeddings": 4096,
        },
    ),
    "llama-3-8b": PaperBase(
        "LLaMA3-8B",
        "meta-llama/Meta-Llama-3-8B",
        "LlamaConfig",
        _llama(
            hidden_size=4096,
            intermediate_size=14_336,
            num_hidden_layers=32,
            num_attention_heads=32,
            num_key_value_heads=8,
        ),
    ),
    "qwen2.5-7b": PaperBase(
        "Qwen2.5-7B",
        "Qwen/Qwen2.5-7B",
        "Qwen2Config",
        {
            "vocab_size": 152_064,
            "hidden_size": 3584,
            "intermediate_size": 18_944,
            "num_hidden_layers": 28,
            "num_attention_heads": 28,
            "num_key_value_heads": 4,
            "max_position_embeddings": 32_768,
        },
    ),
    "llama-3.2-3b": PaperBase(
        "LLaMA3-3B",
        "meta-llama/Llama-3.2-3B",
        "LlamaConfig",
        _llama(
            hidden_size=3072,
            intermediate_size=8192,
            num_hidden_layers=28,
            num_attention_heads=24,
            num_key_value_heads=8,
            tie_word_embeddings=True,
        ),
    ),
    "llama-3.2-1b": PaperBase(
        "LLaMA3-1B",
        "meta-llama/Llama-3.2-1B",
        "LlamaConfig",
        _llama(
            hidden_size=2048,
            intermediate_size=8192,
            num_hidden_layers=16,
            num_attention_heads=32,
            num_key_value_heads=8,
            tie_word_embeddings=True,
        ),
    ),
}


def paper_base(name: str) -> PaperBase:
    """A base by the registry's name.

    Raises:
        ConfigError: The paper names no such base.
    """
    if name not in PAPER_BASES:
        raise ConfigError(f"base: {name!r} is none of the paper's; choose from {', '.join(PAPER_BASES)}")
    return PAPER_BASES[name]
