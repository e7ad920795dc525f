"""Tiny bases for the smoke scale: random weights, a tokenizer trained on made-up text, seconds to make, nothing to fetch.

They say nothing about the method. They show that every table's machinery runs from end to end.
"""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Any

WIDTH, DEPTH = 64, 4
_VOCABULARY = 1500
_ENDS_SOON = 8.0


def tokenizer_of(texts: Iterable[str]) -> Any:
    """A byte-level tokenizer trained on these texts; equal texts give equal tokenizers."""
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
    from transformers import PreTrainedTokenizerFast

    core = Tokenizer(models.BPE())
    core.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    core.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=_VOCABULARY,
        special_tokens=["<s>", "</s>"],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    core.train_from_iterator(list(texts), trainer)
    return PreTrainedTokenizerFast(tokenizer_object=core, bos_token="<s>", eos_token="</s>")


def write_base(folder: Path, name: str, texts: Iterable[str]) -> Path:
    """Save the tiny counterpart of one of the paper's bases: its family, its grouping of heads, weights by its name.

    Args:
        folder: Where; made when missing.
        name: As in ``PAPER_BASES``.
        texts: What its tokenizer learns from.
    """
    import torch
    import transformers

    from perfit.experiments.paper.bases import paper_base

    paper = paper_base(name)
    tokenizer = tokenizer_of(texts)
    grouped = paper.shape["num_key_value_heads"] < paper.shape["num_attention_heads"]
    settings = getattr(transformers, paper.kind)(
        vocab_size=len(tokenizer) + 8,  # a family's own tokenizer may add tokens of its own
        hidden_size=WIDTH,
        intermediate_size=96,
        num_hidden_layers=DEPTH,
        num_attention_heads=4,
        num_key_value_heads=2 if grouped else 4,
        max_position_embeddings=2048,
        initializer_range=0.15,
        tie_word_embeddings=bool(paper.shape.get("tie_word_embeddings", False)),
        bos_token_id=0,
        eos_token_id=1,
        pad_token_id=1,
    )
    tokenizer.save_pretrained(folder)
    with torch.random.fork_rng():
        torch.manual_seed(sum(map(ord, name)))
        model = transformers.AutoModelForCausalLM.from_config(settings).float()
        with torch.no_grad():  # or answers of free text would run on to their limit, which is most of the time
            model.get_output_embeddings().weight[settings.eos_token_id] *= _ENDS_SOON
        model.save_pretrained(folder)
    return folder
