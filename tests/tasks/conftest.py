"""Three tiny real tokenizers, trained on a few sentences when asked for."""

from __future__ import annotations

from functools import cache
from types import SimpleNamespace

import pytest
from tokenizers import Tokenizer, decoders, models, normalizers, pre_tokenizers, processors, trainers
from transformers import PreTrainedTokenizerFast

SENTENCES = [
    "Which category does this article relate to? article: category:",
    "Generate a headline for the following article. headline:",
    "the cat sat on the mat and the dog ran to politics, science & technology",
    "naïve café, 日本語 and emoji 🙂",
]


def _wrap(tokenizer: Tokenizer, **options: object) -> PreTrainedTokenizerFast:
    return PreTrainedTokenizerFast(tokenizer_object=tokenizer, eos_token="</s>", pad_token="</s>", **options)


def _byte_level() -> Tokenizer:
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    trainer = trainers.BpeTrainer(
        vocab_size=400, special_tokens=["<s>", "</s>"], initial_alphabet=alphabet, show_progress=False
    )
    tokenizer.train_from_iterator(SENTENCES, trainer)
    return tokenizer


@cache
def byte_level() -> PreTrainedTokenizerFast:
    """GPT-2's kind: lossless, no special tokens of its own."""
    return _wrap(_byte_level())


@cache
def with_bos(append_eos: bool = False) -> PreTrainedTokenizerFast:
    """Byte level, but putting BOS in front and, if asked, EOS behind."""
    tokenizer = _byte_level()
    tokenizer.post_processor = processors.TemplateProcessing(
        single="<s> $A </s>" if append_eos else "<s> $A", special_tokens=[("<s>", 0), ("</s>", 1)]
    )
    return _wrap(tokenizer, bos_token="<s>")


@cache
def llama2_like() -> PreTrainedTokenizerFast:
    """Llama 2's kind: a blank of its own before every text, bytes for unknown characters, BOS."""
    tokenizer = Tokenizer(models.BPE(byte_fallback=True, fuse_unk=True, unk_token="<unk>"))
    tokenizer.normalizer = normalizers.Sequence([normalizers.Prepend("▁"), normalizers.Replace(" ", "▁")])
    tokenizer.decoder = decoders.Sequence(
        [
            decoders.Replace("▁", " "),
            decoders.ByteFallback(),
            decoders.Fuse(),
            decoders.Strip(content=" ", left=1),
        ]
    )
    specials = ["<unk>", "<s>", "</s>", *(f"<0x{byte:02X}>" for byte in range(256))]
    trainer = trainers.BpeTrainer(vocab_size=500, special_tokens=specials, show_progress=False)
    tokenizer.train_from_iterator([line.replace(" ", "▁") for line in SENTENCES[:3]], trainer)
    tokenizer.post_processor = processors.TemplateProcessing(single="<s> $A", special_tokens=[("<s>", 1)])
    return _wrap(tokenizer, bos_token="<s>", unk_token="<unk>")


@cache
def metaspace() -> PreTrainedTokenizerFast:
    """The newer SentencePiece kind: a blank in front only where the text has none."""
    tokenizer = Tokenizer(models.BPE(unk_token="<unk>"))
    tokenizer.pre_tokenizer = pre_tokenizers.Metaspace(prepend_scheme="first")
    tokenizer.decoder = decoders.Metaspace(prepend_scheme="first")
    trainer = trainers.BpeTrainer(vocab_size=300, special_tokens=["<unk>", "</s>"], show_progress=False)
    tokenizer.train_from_iterator(SENTENCES, trainer)
    return _wrap(tokenizer, unk_token="<unk>")


@pytest.fixture(scope="session")
def toy() -> SimpleNamespace:
    """The makers above; each trains its tokenizer once."""
    return SimpleNamespace(byte_level=byte_level, with_bos=with_bos, llama2_like=llama2_like, metaspace=metaspace)
