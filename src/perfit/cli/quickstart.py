"""``perfit quickstart``: the whole thing on built-in defaults."""

from __future__ import annotations

import shlex
import time
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from perfit.backbone.packaged import DEFAULT_BASE
from perfit.cli.evaluate import show_evaluation
from perfit.cli.given import dtype_setting
from perfit.cli.options import BASE, JSON, VERBOSE, opens_a_base, words_again
from perfit.cli.show import Screen, as_json, no_loading_bars, say
from perfit.events import EventFile, tee
from perfit.how_to_open import USUAL, HowToOpen

if TYPE_CHECKING:
    from perfit.data.schema import Dataset
    from perfit.personalizer import PerFit

_READERS = 3


@opens_a_base
def quickstart(
    run: Annotated[Path, typer.Option("--run", help="Run directory to write.")] = Path("runs/quickstart"),
    base: BASE = DEFAULT_BASE,
    seed: Annotated[int, typer.Option(help="Seed of demo users and training.")] = 0,
    how: HowToOpen = USUAL,
    verbose: VERBOSE = False,
    json: JSON = False,
) -> None:
    """Make a real base model personal for demo users: both stages, scores, and three users' answers to one text."""
    screen = Screen(quiet=json, verbose=verbose)
    began = time.perf_counter()
    screen.say("loading libraries ...")
    from perfit.config import small_preset
    from perfit.data import demo_dataset
    from perfit.evaluation.evaluate import evaluate
    from perfit.extras import import_extra
    from perfit.opening import open_base
    from perfit.personalizer import PerFit
    from perfit.run import RunDirectory
    from perfit.tasks import get_task

    for module, package in (("sklearn.metrics", "scikit-learn"), ("rouge_score.rouge_scorer", "rouge_score")):
        import_extra(module, package)  # scores come last; what they need is missed at once
    no_loading_bars()
    opened = open_base(base, how)
    config = small_preset(len(opened.backbone.layers)).with_options(seed=seed, **dtype_setting(how))
    task = get_task("news_categorize")
    dataset = demo_dataset(seed=seed)
    perfit = PerFit(opened.backbone, task, config, opened.identity)
    try:
        perfit.fit(dataset, run=run, listener=tee([screen, EventFile(run / "events.jsonl")]))
    finally:
        screen.close()
    queries = sum(len(user.queries) for user in dataset.users)
    with screen.counting("answering", 2 * 3 * queries, "queries") as advance:
        result = evaluate(
            perfit,
            dataset.users,
            others=dataset.others,
            run=RunDirectory(run),
            done=lambda method, rows: advance(rows, method),
        )
    text, readers = _telling_text(perfit, dataset)
    seconds = time.perf_counter() - began
    if json:
        as_json(
            {
                "run": str(run),
                "seconds": round(seconds, 1),
                **result.as_dict(),
                "sample": {
                    "text": text,
                    "answers": [{"user": user, "answer": answer} for user, answer in readers.items()],
                },
            }
        )
        return
    show_evaluation(result)
    say()
    say(f"one text on which they differ, {len(readers)} users: {text}")
    width = max(map(len, readers))
    for user, answer in readers.items():
        say(f"  {user:<{width}}  {answer}")
    say()
    say(f"{seconds:.0f} s in all; run: {run}")
    words = ["--user", next(iter(readers)), "--run", str(run), *words_again(how)]
    say(f'next: perfit generate "{text}" {shlex.join(words)}')


def _telling_text(perfit: PerFit, dataset: Dataset) -> tuple[str, dict[str, str]]:
    """Of the first user's queries, the text on which all users differ most, and three of their answers to it."""
    users = [user.id for user in dataset.users]
    texts = [perfit.task.article(query) for query in dataset.users[0].queries]
    answers = perfit.generate([text for text in texts for _ in users], users * len(texts))
    by_text = [
        {user: answers[place * len(users) + n].strip() for n, user in enumerate(users)} for place in range(len(texts))
    ]
    best = max(range(len(texts)), key=lambda place: len(set(by_text[place].values())))
    chosen: dict[str, str] = {}
    for user, answer in by_text[best].items():
        if len(chosen) < _READERS and answer not in chosen.values():
            chosen[user] = answer
    for user, answer in by_text[best].items():
        if len(chosen) < _READERS:
            chosen.setdefault(user, answer)
    return texts[best], chosen
