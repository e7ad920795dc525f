"""The folder of a comparison: its files, their formats, and what keeps another comparison out of it."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from contextlib import AbstractContextManager
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

from perfit.comparison.bench import Bench
from perfit.comparison.plan import Plan, Trial, folder_of
from perfit.config import RESOURCES
from perfit.data.schema import Query, User
from perfit.durable.files import finished_name
from perfit.durable.folder import Folder, Kind
from perfit.durable.identity import differing, digest_of
from perfit.durable.ledger import Ledger
from perfit.durable.lock import locked
from perfit.durable.records import read_record, read_records, write_record, write_records
from perfit.errors import DamagedError, StoreError
from perfit.methods.registry import method_of
from perfit.private import private_folder
from perfit.tombstones import Tombstones

_DECIDING = ("base", "task", "config", "data", "answers")
# What deciding parts only some plans have: the hash of a collective shift that was given, and how labels are chosen
# (folders of before, where every method chose greedily, say nothing).
_SOMETIMES = ("collective", "labels")
_AGAIN = "restore it or compare again"
_ANSWER_AGAIN = "delete it and the trial.json beside it, and compare again"
COMPARISON = Kind(
    holds="a comparison with other",
    manifest="plan.json",
    version=2,  # every file with a checksum
    busy="another comparison runs here",
    other="choose another --out",
    mend=_AGAIN,
    again="compare again in another folder",
    missing="not found; is {path} a folder of perfit compare?",
)
_BEGUN = (".lock", "README.md", "queries.jsonl", "plan.json")
"""What a kill may leave before the plan is written."""

_README = """# A perfit comparison

| file | what it holds |
|---|---|
| `README.md` | this table |
| `plan.json` | base, task, settings, what answers may be, data hash and counts, methods with options, seeds, versions |
| `queries.jsonl` | **users' texts**: one line per query: `user`, `query`, `text`, `gold`, and the length of the user's `history` |
| `trials/<method>/seed-<n>/predictions.jsonl` | **users' texts**: one line per query: `user`, `query`, `prediction` |
| `trials/<method>/seed-<n>/trial.json` | how far the trial is: seconds, parameters, bytes, peak memory, users without an adaptation, or why it failed |
| `trials/<method>/seed-<n>/events.jsonl` | what happened, one JSON object a line; no texts |
| `trials/<method>/seed-<n>/work/` | the method's own files |
| `shared/seed-<n>/` | stage 1 of methods that have it in common |
| `own_metrics.json` | what metrics of your own gave: a value per query |
| `table.json`, `table.csv`, `table.md`, `table.tex` | the table: scores, costs, significance |
| `report.html`, `figures/*` | what `perfit report` made: **users' texts** in the page unless told not to, none in the figures |
| `erased.json`, `elsewhere.json` | who was erased, by keyed hashes, and is left out; pages written to other places |
| `.lock` | keeps a second comparison out while one runs |

Repeat the command to go on after a stop, to try failed trials again, or with more methods or seeds.
Plan, queries, predictions and `trial.json` have checksums and name the comparison they are of.
"""


@dataclass
class TrialRecord:
    """How far a trial is: ``trial.json``.

    Attributes:
        status: "running", "done" or "failed".
        label: The method's name as the paper prints it.
        seconds: By "fit" (stage 1), "adapt" (stage 2) and "predict"; those before a kill are counted too.
        starts: How often it was begun; above 1, ``seconds`` hold repeated work.
        problems: Users without an adaptation, and why.
        cost: ``collective_parameters``, ``personal_parameters``, ``user_bytes``.
        peak_bytes: The most memory the process took.
        failure: ``error`` in one line, and ``where``: the frames it came through.
    """

    status: str = "running"
    label: str = ""
    seconds: dict[str, float] = field(default_factory=lambda: {"fit": 0.0, "adapt": 0.0, "predict": 0.0})
    starts: int = 0
    problems: dict[str, str] = field(default_factory=dict)
    cost: dict[str, int] = field(default_factory=dict)
    peak_bytes: int = 0
    failure: dict[str, Any] | None = None


class ComparisonFolder:
    """Names and formats of the files of a comparison; every write is atomic.

    Args:
        path: The folder.
    """

    def __init__(self, path: str | Path):
        self.path = Path(path)
        self._folder = Folder(self.path, COMPARISON)

    def exists(self) -> bool:
        """Whether a comparison lies here."""
        return self._folder.exists()

    def locked(self) -> AbstractContextManager[None]:
        """Keep other processes from comparing in this folder.

        Raises:
            StoreError: One does already, or the folder cannot be made.
        """
        return self._folder.locked()

    def stage1_lock(self, seed: int) -> AbstractContextManager[None]:
        """Lets one process at a time train stage 1 of a seed, so that methods with the same one train it once."""
        shared = self.path / "shared"
        private_folder(shared)
        return locked(shared / f".seed-{seed}.lock", wait=-1)

    def claim(self, bench: Bench, plan: Plan, reference_cost: Mapping[str, int] | None) -> None:
        """Make the folder this comparison's own, or see that it is, and add the plan's methods and seeds to it.

        Raises:
            StoreError: It holds a comparison of other data, base, task, settings, answers or options, or something else.
        """
        what = describe(bench, plan, reference_cost)
        if not self.exists():
            if any(finished_name(path.name) not in _BEGUN for path in self.path.iterdir()):
                raise StoreError(f"{self.path}: is not empty and holds no comparison; choose another --out")
            self._folder.make(_README)
            write_records(self.path / "queries.jsonl", _queries(bench), _id_of(what))
        else:
            there = self.plan()
            self._folder.check(there, what, (*_DECIDING, "collective"))
            self._folder.check(there, what, ("labels",), lambda part: "choice among labels (all greedy)")
            both = [method for method in plan.methods if method in there["methods"]]
            if changed := differing(there["methods"], what["methods"], both):
                raise StoreError(
                    f"{self.path}: holds {changed[0]} with other options ({there['methods'][changed[0]]}); "
                    "choose another --out"
                )
            what["methods"] = there["methods"] | what["methods"]
            what["seeds"] = sorted({*there["seeds"], *what["seeds"]})
            for name in ("against", "reference_cost"):
                what[name] = what[name] or there[name]
        self._folder.write(what)

    def living(self, bench: Bench) -> Bench:
        """The bench without users who were erased from this comparison.

        Raises:
            StoreError: One of them is among the other users that stage 1 learns from.
        """
        stones = Tombstones(self.path)
        if stones.marks(bench.data.others):
            raise StoreError(
                f"{self.path}: stage 1 would learn from a user who was erased here; give other users without them, and "
                "another --out"
            )
        return replace(bench, data=replace(bench.data, users=stones.living(bench.data.users)))

    def plan(self) -> dict[str, Any]:
        """What ``plan.json`` says.

        Raises:
            StoreError: There is none, it is damaged, or of another format.
        """
        path, plan = self._folder.manifest_path, self._folder.read()
        kinds = {
            "base": dict,
            "task": dict,
            "config": dict,
            "data": dict,
            "answers": str,
            "methods": dict,
            "seeds": list,
        }
        for part, kind in kinds.items():
            if not isinstance(plan.get(part), kind):
                raise DamagedError(f"{path}: {part!r} is missing or wrong; {_AGAIN}")
        for part in ("against", "reference_cost", "versions"):
            if part not in plan:
                raise DamagedError(f"{path}: {part!r} is missing; {_AGAIN}")
        return plan

    def of(self, trial: Trial | None = None) -> str:
        """What the queries, or a trial's predictions and record, belong to: their checksums are over it.

        Raises:
            StoreError: The plan is missing or damaged.
        """
        mine = _id_of(self.plan())
        return mine if trial is None else digest_of(mine, trial.method, trial.seed)

    def queries(self) -> list[User]:
        """The users with their queries, texts and golds, without histories; ``history_lengths`` has their number."""
        users: dict[str, list[Query]] = {}
        for record in self._asked():
            users.setdefault(record["user"], []).append(Query(record["query"], record["text"], record["gold"]))
        return [User(name, (), tuple(asked)) for name, asked in users.items()]

    def history_lengths(self) -> dict[str, int]:
        """History items by user."""
        return {record["user"]: record["history"] for record in self._asked()}

    def _asked(self) -> list[dict[str, Any]]:
        path = self.path / "queries.jsonl"
        return _complete(path, read_records(path, missing=f"not found; {_AGAIN}", mend=_AGAIN, of=self.of()), _QUERY)

    def trial_folder(self, trial: Trial) -> Path:
        """The folder of one trial."""
        return self.path / "trials" / trial.folder

    def trials(self, plan: Plan) -> list[Trial]:
        """The plan's trials; a method without chance keeps to the seed with which it has run here, finished if any is."""
        ran = {}
        for method in plan.methods:
            begun = sorted(
                int(path.parent.name.removeprefix("seed-"))
                for path in (self.path / "trials" / folder_of(method)).glob("seed-*/trial.json")
            )
            done = [seed for seed in begun if self.record(Trial(method, seed)).status == "done"]
            if begun:
                ran[method] = (done or begun)[0]
        return plan.trials(ran)

    def record(self, trial: Trial) -> TrialRecord:
        """How far a trial is; a new record where it has not begun.

        Raises:
            StoreError: ``trial.json`` is damaged.
        """
        path = self.trial_folder(trial) / "trial.json"
        if not path.exists():
            return TrialRecord()
        mend = "delete the trial's folder"
        content = read_record(path, missing="not found", mend=mend)
        if content.pop("of", None) != self.of(trial):
            raise DamagedError(f"{path}: is of another trial; {mend}")
        content.pop("users", None)  # of before; the predictions say who was answered
        try:
            record = TrialRecord(**content)
        except TypeError as error:
            raise DamagedError(f"{path}: a value is missing or wrong; {mend}") from error
        if any(type(value) is not _KINDS[name] for name, value in content.items() if name != "failure"):
            raise DamagedError(f"{path}: a value is of another type; {mend}")
        return record

    def save_record(self, trial: Trial, record: TrialRecord) -> None:
        """Write ``trial.json``."""
        write_record(self.trial_folder(trial) / "trial.json", {"of": self.of(trial), **asdict(record)})

    def predictions(self, trial: Trial) -> dict[str, str]:
        """Predictions by query id, as far as the trial is.

        Raises:
            StoreError: They are damaged, or of another trial.
        """
        path = self.trial_folder(trial) / "predictions.jsonl"
        if not path.exists():
            return {}
        found = read_records(path, missing="not found", mend=_ANSWER_AGAIN, of=self.of(trial))
        return {record["query"]: record["prediction"] for record in _complete(path, found, _PREDICTION)}

    def answered(self, trial: Trial) -> Ledger:
        """The trial's predictions to be added to, one record per query: ``user``, ``query``, ``prediction``.

        Raises:
            StoreError: They are damaged, or of another trial.
        """
        path = self.trial_folder(trial) / "predictions.jsonl"
        ledger = Ledger(path, mend=_ANSWER_AGAIN, of=self.of(trial))
        _complete(path, ledger.records, _PREDICTION)
        return ledger


_KINDS = {name: type(value) for name, value in vars(TrialRecord()).items()}
_QUERY = {"user": str, "query": str, "text": str, "gold": str, "history": int}
_PREDICTION = {"user": str, "query": str, "prediction": str}


def _complete(path: Path, lines: list[dict[str, Any]], kinds: Mapping[str, type]) -> list[dict[str, Any]]:
    if not all(type(line.get(name)) is kind for line in lines for name, kind in kinds.items()):
        raise DamagedError(f"{path}: a value is missing or wrong; {_AGAIN}")
    return lines


def identity_of(bench: Bench) -> str:
    """What decides every number of a comparison but method, options and seed: base, task, settings, data and part of it, answers."""
    return _id_of(describe(bench, Plan(("base",)), None))


def _id_of(plan: Mapping[str, Any]) -> str:
    """What stays of a plan while methods and seeds come to it."""
    return digest_of([plan[part] for part in _DECIDING] + [plan[part] for part in _SOMETIMES if part in plan])


def describe(bench: Bench, plan: Plan, reference_cost: Mapping[str, int] | None) -> dict[str, Any]:
    """What ``plan.json`` says: everything that decides the numbers, and no text of a user."""
    from perfit.belonging import Belonging
    from perfit.methods.collective_shift import by_content
    from perfit.run import versions

    belonging = Belonging(bench.backbone, bench.identity, bench.task, bench.config)
    manifest = belonging.manifest(bench.data)
    resources = {name: manifest["config"].pop(name) for name in RESOURCES}
    manifest["config"].pop("seed")
    content = {
        "base": manifest["base"] | {"parameters": bench.parameters()},
        "task": manifest["task"],
        "config": manifest["config"],
        "resources": resources,
        "answers": bench.answers,
        "data": manifest["data"] | {"selection": bench.selection.as_dict(), "left_out": dict(bench.left_out)},
        "methods": {method: by_content(plan.options_of(method)) | _chosen(method, bench) for method in plan.methods},
        "seeds": list(plan.seeds),
        "against": plan.against,
        "reference_cost": None if reference_cost is None else dict(reference_cost),
        "versions": versions(),
        **({} if (given := bench.given()) is None else {"collective": given}),
        **({} if bench.answers != "labels" else {"labels": "most probable"}),
    }
    plain: dict[str, Any] = json.loads(json.dumps(content))  # tuples are lists in the file it is compared with
    return plain


def _chosen(method: str, bench: Bench) -> dict[str, str]:
    """How labels are chosen by methods that chose greedily in folders of before."""
    exact = bench.answers == "labels" and method_of(method) in ("cos", "style-vector", "lofit")
    return {"labels": "most probable"} if exact else {}


def _queries(bench: Bench) -> Iterator[dict[str, Any]]:
    for user in bench.data.users:
        for query in user.queries:
            yield {
                "user": user.id,
                "query": query.id,
                "text": bench.task.article(query),
                "gold": query.gold,
                "history": len(user.history),
            }
