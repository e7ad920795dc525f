"""Methods that need no model, and a bench for them: answers follow from user, query, seed and skill alone."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from types import SimpleNamespace
from typing import Any, cast

from small_base import LABELS, TASK, dataset

from perfit.backbone.fingerprint import BaseIdentity
from perfit.comparison.bench import Bench
from perfit.comparison.folder import ComparisonFolder
from perfit.comparison.plan import Selection, Trial
from perfit.config import PerFitConfig
from perfit.data.schema import User
from perfit.errors import ConfigError, DataError
from perfit.events import Finished, Stepped
from perfit.methods.method import Ask, Cost, Done, Setting, no_progress

NAMES = ("anna", "ben", "cleo", "dora", "../emil", "fritz")


def answer(folder: ComparisonFolder, trial: Trial, users: Sequence[User], predictions: Mapping[str, str]) -> None:
    """Put these answers in the place of a trial's own."""
    (folder.trial_folder(trial) / "predictions.jsonl").unlink()
    folder.answered(trial).append(
        [
            {"user": user.id, "query": query.id, "prediction": predictions[query.id]}
            for user in users
            for query in user.queries
        ]
    )


class Stub:
    """Answers with the label that a hash chooses; notes what it was asked to do in ``log.jsonl`` of its folder."""

    def __init__(self, name: str, setting: Setting, options: Mapping[str, Any]):
        self.name, self.label, self.setting = name, name.upper(), setting
        self.options = dict(options)

    def _log(self, what: str, whom: Sequence[str]) -> None:
        self.setting.folder.mkdir(parents=True, exist_ok=True)
        with open(self.setting.folder / "log.jsonl", "a") as file:
            file.write(json.dumps([what, list(whom)]) + "\n")
        if self.options.get("fails") == what:
            raise DataError(f"no {what} today")
        if self.options.get("breaks") == what:
            raise RuntimeError("a secret text of a user")

    def fit(self, others: Sequence[User]) -> None:
        self._log("fit", [user.id for user in others])
        self.setting.listener(Stepped(rows=1, learners=1, loss=1.0, seconds=0.0))

    def adapt(self, users: Sequence[User]) -> dict[str, str]:
        assert not any(user.queries for user in users)
        for user in users:
            done = self.setting.folder / hashlib.sha256(user.id.encode()).hexdigest()
            if not done.exists():
                self._log("adapt", [user.id])
                done.touch()
            self.setting.listener(Finished(learner=user.id, steps=1))
        return {user.id: "has no history" for user in users if not user.history}

    def predict(self, asks: Sequence[Ask], done: Done = no_progress) -> list[str]:
        assert all(ask.query.gold is None and not ask.user.queries for ask in asks)
        self._log("predict", [ask.query.id for ask in asks])
        answers = []
        for ask in asks:
            words = f"{self.name} {self.setting.seed} {ask.user.id} {ask.query.id} {len(asks)}"
            answers.append(f" {LABELS[hashlib.sha256(words.encode()).digest()[0] % 3]}\n")
            done(1)
        return answers

    def cost(self) -> Cost:
        return Cost(100, 10, 20) if self.name != "base" else Cost()


class Knowing(Stub):
    """Answers as a table says: to hold scores against values made by hand."""

    def predict(self, asks: Sequence[Ask], done: Done = no_progress) -> list[str]:
        return [self.options["answers"][ask.query.id] for ask in asks]


def make(name: str, setting: Setting, options: Mapping[str, Any]) -> Stub:
    """A stub by any name but "unmade"."""
    if name == "unmade":
        raise ConfigError("rank: 0 is not possible; give at least 1")
    return (Knowing if "answers" in options else Stub)(name, setting, options)


def bench(names: Sequence[str] = NAMES, queries: int = 2) -> Bench:
    """Users and a base that is only a name."""
    parameter = SimpleNamespace(numel=lambda: 100_000)
    backbone = SimpleNamespace(
        device=SimpleNamespace(type="cpu"),
        dtype="torch.float32",
        name="nothing",
        layers_path="layers",
        model=SimpleNamespace(parameters=lambda: [parameter], config=None),
    )
    identity = BaseIdentity("None", 8, 1, 16, "weights", "tokenizer", "config", "none", "tensors:x")
    data = dataset(names, history=3, queries=queries)
    return Bench(data, TASK, cast(Any, backbone), identity, PerFitConfig(), Selection())
