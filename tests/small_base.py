"""A tiny base on disk with a real tokenizer, and a few users who file notes: what ``load_base`` and the CLI work on."""

from __future__ import annotations

import json
import random
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from perfit.config import PerFitConfig, StageConfig
from perfit.data import demo_dataset
from perfit.data.schema import Dataset, HistoryItem, Query, User
from perfit.tasks.custom import task_from_mapping

LABELS = ("work", "family", "travel")
TASK_RECORD: dict[str, Any] = {
    "name": "folders",
    "kind": "label",
    "prompt": "Which folder? note: {input} folder:",
    "input_field": "text",
    "answer_field": "folder",
    "labels": list(LABELS),
    "max_new_tokens": 6,
}
TASK = task_from_mapping(TASK_RECORD)
WORDS = [
    "river",
    "stone",
    "lamp",
    "boat",
    "paper",
    "garden",
    "winter",
    "song",
    "bread",
    "street",
    "letter",
    "window",
    "mountain",
    "clock",
    "market",
    "bridge",
]

STAGE = StageConfig(epochs=2, batch_size=4, learning_rate=2e-2)
CONFIG = PerFitConfig(
    layers=(0, 1),
    positions="l3",
    collective_rank=4,
    personal_rank=3,
    init="loreft",
    stage1=STAGE,
    stage2=STAGE,
    stage1_users="others",
    stage1_data="both",
    strength=1.0,
    held_out=0.0,
    strength_prior=0.0,
    chat_template=False,
    max_length=256,
    dtype="float32",
)


def write_base(folder: Path, *, seed: int = 0, width: int = 32) -> Path:
    """Save a random Llama of three layers with a byte-level BPE tokenizer."""
    import torch
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
    from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)  # type: ignore[assignment]
    tokenizer.decoder = decoders.ByteLevel()  # type: ignore[assignment]
    trainer = trainers.BpeTrainer(
        vocab_size=700,
        special_tokens=["<s>", "</s>"],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    texts = [query.input for user in demo_dataset(users=2, others=0).users for query in user.queries]
    notes = [item.fields["text"] for user in dataset().users for item in user.history]
    tokenizer.train_from_iterator([*texts, *notes, TASK.prompt, " ".join(LABELS)], trainer)
    PreTrainedTokenizerFast(tokenizer_object=tokenizer, bos_token="<s>", eos_token="</s>").save_pretrained(folder)
    config = LlamaConfig(
        vocab_size=tokenizer.get_vocab_size(),
        hidden_size=width,
        intermediate_size=48,
        num_hidden_layers=3,
        num_attention_heads=4,
        num_key_value_heads=2,
        max_position_embeddings=1024,
        initializer_range=0.2,
        bos_token_id=0,
        eos_token_id=1,
        pad_token_id=1,
    )
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        LlamaForCausalLM(config).float().save_pretrained(folder)
    return folder


def note(chance: random.Random) -> str:
    """Seven words: long enough for the leak audit to care, and practically never the same."""
    return " ".join(chance.choice(WORDS) for _ in range(7))


def person(name: str, history: int = 5, queries: int = 2) -> User:
    """A user whose notes depend on the name alone."""
    chance = random.Random(name)
    items = tuple(HistoryItem(str(n), {"text": note(chance), "folder": chance.choice(LABELS)}) for n in range(history))
    asked = tuple(Query(f"{name}/q{n}", note(chance), chance.choice(LABELS)) for n in range(queries))
    return User(name, items, asked)


def dataset(names: Sequence[str] = ("anna", "ben", "cleo"), others: int = 3, **sizes: int) -> Dataset:
    """Users by name, and a pool for stage 1."""
    pool = tuple(person(f"other-{n}", **sizes) for n in range(others))
    return Dataset(tuple(person(name, **sizes) for name in names), pool, task="folders", source="notes")


def write_task(path: Path) -> Path:
    """The task as a YAML file (JSON is YAML)."""
    path.write_text(json.dumps(TASK_RECORD), encoding="utf-8")
    return path
