"""What every rival is given and what it gives back: the same token rows in, an adapter per user out, one line of JSON.

Standard library and torch alone: rivals run in environments that know nothing of perfit.
"""

from __future__ import annotations

import json
import resource
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

IGNORED = -100
PAD_MULTIPLE = 8  # as OPPU pads


@dataclass
class Stage:
    """One rival's whole stage.

    Attributes:
        base: Folder of the base model.
        rows: File of users' rows, {user: [[prompt ids, answer ids], ...]}; reading it is part of the stage.
        out: Empty folder for adapters.
        dtype: Of the base: "float32", "bfloat16", or "auto" where the rival chooses by itself.
        epochs, batch_size, positions, layers, rank: What is trained.
        seconds_of: Seconds per user, where users train one after another.
        losses: Mean training losses, one per user.
    """

    base: str
    rows: str
    out: str
    dtype: str
    epochs: int
    batch_size: int
    positions: str
    layers: list[int]
    rank: int
    threads: int
    began: float = 0.0
    items: int = 0

    def __post_init__(self) -> None:
        self.seconds_of: list[tuple[int, float]] = []
        self.losses: list[float] = []

    @classmethod
    def given(cls) -> Stage:
        """The stage that the command line's file describes."""
        stage = cls(**json.loads(Path(sys.argv[1]).read_text(encoding="utf-8")))
        torch.set_num_threads(stage.threads)
        torch.manual_seed(0)
        return stage

    @property
    def torch_dtype(self) -> torch.dtype:
        """The base's dtype as torch names it."""
        dtype: torch.dtype = getattr(torch, self.dtype)
        return dtype

    def begin(self) -> dict[str, list[tuple[list[int], list[int]]]]:
        """Start the clock and read the rows."""
        self.began = time.perf_counter()
        users: dict[str, list[tuple[list[int], list[int]]]] = json.loads(Path(self.rows).read_text(encoding="utf-8"))
        self.items = sum(map(len, users.values()))
        return users

    @contextmanager
    def user(self, items: int) -> Iterator[None]:
        """Time one user."""
        began = time.perf_counter()
        yield
        self.seconds_of.append((items, time.perf_counter() - began))

    def end(self) -> None:
        """Stop the clock and print the result."""
        seconds = time.perf_counter() - self.began
        steps = self.items * self.epochs
        print(
            json.dumps(
                {
                    "rate": steps / seconds,
                    "seconds": seconds,
                    "item_steps": steps,
                    "user_rates": [items * self.epochs / s for items, s in self.seconds_of],
                    "loss": sum(self.losses) / max(len(self.losses), 1),
                    "bytes": sum(f.stat().st_size for f in Path(self.out).rglob("*") if f.is_file()),
                    "peak_gib": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20,
                }
            )
        )


def base_model(stage: Stage) -> Any:
    """The base as Hugging Face users load it for training."""
    from transformers import AutoModelForCausalLM

    model = AutoModelForCausalLM.from_pretrained(stage.base, dtype=stage.torch_dtype)
    model.config.use_cache = False
    return model


def examples(rows: Sequence[tuple[list[int], list[int]]]) -> list[dict[str, Any]]:
    """Rows as the Trainer takes them: the loss is on the answer alone."""
    return [
        {"input_ids": prompt + answer, "labels": [IGNORED] * len(prompt) + answer, "prompt_length": len(prompt)}
        for prompt, answer in rows
    ]


def collate(batch: Sequence[dict[str, Any]]) -> dict[str, torch.Tensor]:
    """Pad to the batch's longest row, on the right."""
    width = -(-max(len(row["input_ids"]) for row in batch) // PAD_MULTIPLE) * PAD_MULTIPLE

    def padded(name: str, value: int) -> torch.Tensor:
        return torch.tensor([row[name] + [value] * (width - len(row[name])) for row in batch])

    mask = torch.tensor([[1] * len(row["input_ids"]) + [0] * (width - len(row["input_ids"])) for row in batch])
    return {"input_ids": padded("input_ids", 0), "attention_mask": mask, "labels": padded("labels", IGNORED)}


def training_arguments(stage: Stage, learning_rate: float) -> Any:
    """The Hugging Face Trainer's settings: OPPU's, without logging and checkpoints, which cost time alone."""
    from transformers import TrainingArguments

    return TrainingArguments(
        output_dir=stage.out,
        per_device_train_batch_size=stage.batch_size,
        num_train_epochs=stage.epochs,
        learning_rate=learning_rate,
        weight_decay=1e-2,
        lr_scheduler_type="linear",
        warmup_steps=0.1,
        max_grad_norm=0.3,
        train_sampling_strategy="group_by_length",
        remove_unused_columns=False,
        logging_strategy="no",
        save_strategy="no",
        report_to="none",
        disable_tqdm=True,
        dataloader_pin_memory=False,
        use_cpu=not torch.cuda.is_available(),
    )
