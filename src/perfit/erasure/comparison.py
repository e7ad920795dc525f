"""What a folder of ``perfit compare`` holds of a user."""

from __future__ import annotations

from contextlib import AbstractContextManager
from dataclasses import replace
from pathlib import Path

from perfit.comparison.folder import ComparisonFolder, TrialRecord
from perfit.comparison.own_values import FILE as OWN_VALUES
from perfit.comparison.plan import Trial, folder_of
from perfit.elsewhere import Elsewhere
from perfit.erasure.run import line_of, strangers
from perfit.erasure.stage1 import why_it_stays
from perfit.erasure.step import Step, Unreached, removal
from perfit.erasure.words import holds, lines_out, names, read_lines, unfinished
from perfit.methods.work import user_file
from perfit.tombstones import Tombstones

_KNOWN = (
    *(
        "README.md",
        "plan.json",
        "queries.jsonl",
        "table.*",
        OWN_VALUES,
        "report.html",
        "figures/*",
        "erased.json",
        "elsewhere.json",
    ),
    *("trials/*", "shared/*", "*.lock", "*/.lock"),
)
_AGAIN = "perfit report makes it again"


class ComparisonPlace:
    """A comparison.

    Args:
        path: Its folder.

    Raises:
        StoreError: The plan or the tombstones are damaged.
    """

    def __init__(self, path: Path):
        self.path = path
        self.folder = ComparisonFolder(path)
        self.plan = self.folder.plan()
        self.stones = Tombstones(path)

    def locked(self) -> AbstractContextManager[None]:
        """As a comparison does."""
        return self.folder.locked()

    def knows(self, user: str) -> bool:
        """Whether the user's queries are asked here."""
        return any(line_of(line, user) for line in read_lines(self.path / "queries.jsonl"))

    def steps(self, user: str) -> list[Step]:
        """What was derived goes first and the queries last, so that a kill leaves the sign that there is more."""
        steps = unfinished(self.path)
        steps += [removal(path) for path in sorted(self.path.glob(f"**/users/{user_file(user)}"))]
        asked = self.knows(user)
        if asked:
            pages = [self.path / "report.html", self.path / "figures", *Elsewhere(self.path).paths("page")]
            steps += [removal(path, _AGAIN) for path in pages if path.exists()]
            steps += [removal(path, _AGAIN) for path in sorted(self.path.glob("table.*"))]
            steps += [removal(path, "perfit compare --metric makes it again") for path in self.path.glob(OWN_VALUES)]
            steps += [
                removal(path, "training repeats what it had not finished")
                for path in sorted(self.path.glob("**/checkpoints/*"))
            ]
        methods = {folder_of(method): method for method in self.plan["methods"]}
        for path in sorted(self.path.glob("trials/*/seed-*")):
            trial = Trial(methods.get(path.parent.name, path.parent.name), int(path.name.removeprefix("seed-")))
            answers = path / "predictions.jsonl"
            if (step := lines_out(path / "events.jsonl", lambda event: names(event, user))) is not None:
                steps.append(step)
            if (step := lines_out(answers, lambda line: line_of(line, user), self.folder.of(trial))) is not None:
                steps.append(step)
            if (step := self._record_out(trial, user)) is not None:
                steps.append(step)
        if asked:
            queries = self.path / "queries.jsonl"
            if (step := lines_out(queries, lambda line: line_of(line, user), self.folder.of())) is not None:
                steps.append(step)
        return steps

    def unreached(self, user: str) -> list[Unreached]:
        """Stage 1 where it learnt from the user, and files that are not perfit's."""
        left = []
        if any(self.path.glob("shared/*/*/collective.safetensors")):
            why = why_it_stays(self.plan, "comparison")
            left.append(Unreached(str(self.path / "shared"), why))
        left += [
            Unreached(str(path), "not a file of the comparison, and has the id in it; remove it yourself")
            for path in strangers(self.path, _KNOWN)
            if holds(path, user)
        ]
        return left

    def _record_out(self, trial: Trial, user: str) -> Step | None:
        record = self.folder.record(trial)
        without = _without(record, user)
        if without == record:
            return None
        path = self.folder.trial_folder(trial) / "trial.json"
        return Step(path, "the user taken out", lambda: self.folder.save_record(trial, without))


def _without(record: TrialRecord, user: str) -> TrialRecord:
    failure = record.failure
    if failure is not None and names(failure, user):
        failure = {"error": "failed; what it said named an erased user", "where": []}
    problems = {who: what for who, what in record.problems.items() if who != user and not names(what, user)}
    return replace(record, problems=problems, failure=failure)
