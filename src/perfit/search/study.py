"""A resumable search: Optuna proposes settings, trials score them, everything lies in one folder."""

from __future__ import annotations

import json
import math
import sqlite3
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from functools import partial
from hashlib import sha256
from pathlib import Path
from typing import Any

from perfit.config import PerFitConfig
from perfit.durable.files import write_atomically
from perfit.durable.folder import Folder, Kind
from perfit.durable.records import NotAsWrittenError, opened, sealed
from perfit.errors import ConfigError, DamagedError, MissingExtraError, PerfitError
from perfit.events import Listener, nobody
from perfit.private import private_file
from perfit.search.space import Space, check_space, settings_of
from perfit.search.trial import SCORES, Material, run_trial

SAMPLERS = ("random", "tpe")
DATABASE, RECORD, BEST = "study.sqlite", "search.json", "best.yaml"
SEARCH = Kind(
    holds="a search with another",
    manifest=RECORD,
    version=2,  # with checksums
    busy="another process searches here",
    other="choose another folder",
    mend="restore it, or choose another folder",
    again="search again in another folder",
    missing="not found; is {path} a folder of perfit search?",
)
_NAME = "perfit"
_SETTINGS, _FOUND = "settings", "found"
_MEND = "restore it or remove the folder"
_STATES = {"COMPLETE": "complete", "PRUNED": "pruned", "FAIL": "failed"}


@dataclass(frozen=True)
class SearchPlan:
    """How a search goes about it.

    Attributes:
        trials: In all, those of earlier commands included.
        space: What is searched.
        config: Every other setting.
        sampler: "random" (the paper's) or "tpe".
        prune: End trials early whose first scores are worse than the median of the others'.
        seed: Of the proposals; a trial's own seed is the config's.
        context: What else decides the numbers (base, task, data), as one text.
    """

    trials: int
    space: Space
    config: PerFitConfig
    sampler: str = "random"
    prune: bool = False
    seed: int = 0
    context: str = ""

    def __post_init__(self) -> None:
        if self.trials < 1:
            raise ConfigError(f"trials: {self.trials!r} is not possible; give at least 1")
        if self.sampler not in SAMPLERS:
            raise ConfigError(f"sampler: {self.sampler!r} is not possible; choose from {', '.join(SAMPLERS)}")
        check_space(self.space, self.config)

    def record(self, score: str) -> dict[str, Any]:
        """What ``search.json`` says; a folder of another record is another search."""
        return {
            "score": score,
            "sampler": self.sampler,
            "prune": self.prune,
            "seed": self.seed,
            "space": {name: entry.record() for name, entry in self.space.items()},
            "config": self.config.deciding(),
            "context": sha256(self.context.encode()).hexdigest(),
        }


@dataclass(frozen=True)
class TrialRow:
    """One trial of a search.

    Attributes:
        number: As in the study, from 0.
        state: "complete", "pruned" or "failed".
        settings: What the trial chose.
        score: Held-out score; of a pruned trial the last one it came to, None where there is none.
        collective: The shared shifts' score, where it came so far.
        problem: Why a failed trial failed.
    """

    number: int
    state: str
    settings: Mapping[str, Any]
    score: float | None
    collective: float | None = None
    seconds: float = 0.0
    skipped: int = 0
    problem: str | None = None


@dataclass(frozen=True)
class SearchResult:
    """All trials of a search, and the best."""

    score: str
    higher_is_better: bool
    trials: list[TrialRow] = field(default_factory=list)

    def ranked(self) -> list[TrialRow]:
        """Finished trials, best first; of equals the earlier."""
        done = [row for row in self.trials if row.state == "complete" and row.score is not None]
        sign = -1 if self.higher_is_better else 1
        return sorted(done, key=lambda row: (sign * (row.score or 0.0), row.number))

    @property
    def best(self) -> TrialRow | None:
        """The best trial, once there is one."""
        return next(iter(self.ranked()), None)


def check_extra() -> Any:
    """Optuna, or an error that names the extra.

    Raises:
        MissingExtraError: It is not installed.
    """
    try:
        import optuna
    except ImportError as error:
        raise MissingExtraError("search", "optuna") from error
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    return optuna


def search(
    material: Material,
    plan: SearchPlan,
    folder: Path,
    *,
    done: Callable[[TrialRow], None] = lambda row: None,
    listener: Listener = nobody,
) -> SearchResult:
    """Run trials until there are ``plan.trials``; the same call goes on where an earlier one stopped.

    What trial n proposes depends on the seed, n and the trials before it alone, so that a stopped search comes to the
    same trials. Settings that were tried already are not trained again. ``best.yaml`` and the study are written after
    each trial.

    Args:
        material: What trials share.
        plan: How to search.
        folder: Where the study lies.
        done: Called with each trial, those of earlier calls first.
        listener: Hears what happens in the trial that runs.

    Raises:
        StoreError: The folder holds another search, or another process searches in it.
        PerfitError: All trials failed.
    """
    optuna = check_extra()
    if material.score not in SCORES:
        raise ConfigError(f"score: {material.score!r} is not possible; choose from {', '.join(SCORES)}")
    with Folder(folder, SEARCH).locked():
        _claim(folder, plan.record(material.score))
        study = _open(optuna, folder, plan, material.higher_is_better)
        result = _go_on(optuna, study, material, plan, folder, done, listener)
    if result.best is None:
        first = next((row.problem for row in result.trials if row.problem), "all were pruned")
        raise PerfitError(f"no trial of {len(result.trials)} finished ({first}); give another --space or more --trials")
    return result


def _claim(folder: Path, record: Mapping[str, Any]) -> None:
    """Make the folder this search's own, or see that it is."""
    own = Folder(folder, SEARCH)
    if own.manifest_path.exists():
        own.check(own.read(), record, list(record), lambda part: "base, task or data" if part == "context" else part)
    else:
        own.write(record)


def _open(optuna: Any, folder: Path, plan: SearchPlan, higher_is_better: bool) -> Any:
    pruner = optuna.pruners.MedianPruner(n_startup_trials=4) if plan.prune else optuna.pruners.NopPruner()
    path = (folder / DATABASE).resolve()
    try:
        private_file(path)
        study = optuna.create_study(
            # Opened by its path: in an address, "?" and "%" mean something.
            storage=optuna.storages.RDBStorage(
                f"sqlite:///{DATABASE}", engine_kwargs={"creator": partial(sqlite3.connect, path)}
            ),
            study_name=_NAME,
            load_if_exists=True,
            direction="maximize" if higher_is_better else "minimize",
            pruner=pruner,
        )
    except Exception as error:  # SQLAlchemy's many
        raise DamagedError(f"{folder / DATABASE}: cannot be opened as a study; {_MEND}") from error
    # Nobody else is here: what still runs was stopped, and is proposed again.
    for trial in _trials(study, folder):
        if trial.state == optuna.trial.TrialState.RUNNING:
            study.tell(trial.number, state=optuna.trial.TrialState.FAIL)
    return study


def _trials(study: Any, folder: Path) -> list[Any]:
    try:
        return list(study.get_trials(deepcopy=False))
    except Exception as error:  # SQLAlchemy's, sqlite's, and those of what is read from there
        raise DamagedError(f"{folder / DATABASE}: cannot be read as a study; {_MEND}") from error


def _go_on(
    optuna: Any,
    study: Any,
    material: Material,
    plan: SearchPlan,
    folder: Path,
    done: Callable[[TrialRow], None],
    listener: Listener,
) -> SearchResult:
    try:
        rows = [row for trial in _trials(study, folder) if (row := _row(trial)) is not None]
    except NotAsWrittenError as error:
        raise DamagedError(f"{folder / DATABASE}: {error}; {_MEND}") from None
    for row in rows:
        done(row)
    while len(rows) < plan.trials:
        study.sampler = _sampler(optuna, plan, len(rows))
        trial = study.ask()
        chosen = {name: entry.suggest(name, trial) for name, entry in plan.space.items()}
        trial.set_user_attr(_SETTINGS, chosen)
        earlier = next((row for row in rows if _same(row.settings, chosen) and row.state != "pruned"), None)
        rows.append(_run(optuna, study, trial, material, plan, earlier, listener))
        _write_best(folder, plan, _result(material, rows))
        done(rows[-1])
    return _result(material, rows)


def _result(material: Material, rows: Sequence[TrialRow]) -> SearchResult:
    name = material.task.primary_metric if material.score == "metric" else material.score
    return SearchResult(name, material.higher_is_better, list(rows))


def _sampler(optuna: Any, plan: SearchPlan, number: int) -> Any:
    # A seed per trial: a sampler that goes on from a seed would propose the first trials again after a stop.
    seed = int.from_bytes(sha256(f"{plan.seed} {number}".encode()).digest()[:4], "big")
    if plan.sampler == "tpe":
        return optuna.samplers.TPESampler(seed=seed)
    return optuna.samplers.RandomSampler(seed=seed)


def _same(settings: Mapping[str, Any], chosen: Mapping[str, Any]) -> bool:
    return json.dumps(settings, sort_keys=True) == json.dumps(chosen, sort_keys=True)


def _run(
    optuna: Any,
    study: Any,
    trial: Any,
    material: Material,
    plan: SearchPlan,
    earlier: TrialRow | None,
    listener: Listener,
) -> TrialRow:
    began = time.perf_counter()
    states = optuna.trial.TrialState
    found: dict[str, Any] = {"number": trial.number, "settings": trial.user_attrs[_SETTINGS], "score": None}

    def report(step: int, score: float) -> None:
        _check_finite(score)
        trial.report(score, step)
        found["score"] = score
        if step == 0:
            found["collective"] = score
        if plan.prune and trial.should_prune():
            raise optuna.TrialPruned

    try:
        if earlier is None:
            config = plan.config.with_options(**settings_of(trial.user_attrs[_SETTINGS]))
            result = run_trial(material, config, report=report, listener=listener)
            found |= {"collective": result.collective, "skipped": result.skipped}
            _check_finite(result.score)
            told: dict[str, Any] = {"values": result.score}
        elif earlier.score is None:
            raise PerfitError(earlier.problem or "failed before")
        else:
            found |= {"collective": earlier.collective, "skipped": earlier.skipped, "as": earlier.number}
            told = {"values": earlier.score}
        found |= {"state": "complete", "score": told["values"]}
    except optuna.TrialPruned:
        found["state"], told = "pruned", {"state": states.PRUNED}
    except PerfitError as error:
        found |= {"state": "failed", "score": None, "problem": str(error)}
        told = {"state": states.FAIL}
    trial.set_user_attr(_FOUND, sealed(found | {"seconds": round(time.perf_counter() - began, 3)}))
    row = _row(study.tell(trial, **told))
    assert row is not None
    return row


def _check_finite(score: float) -> None:
    # Shifts may be finite, and yet so large that what follows them in the base is not.
    if not math.isfinite(score):
        raise PerfitError("its score on held-out history is not finite; a smaller learning rate may help")


def _row(trial: Any) -> TrialRow | None:
    """A trial of the study; None for one that was stopped and so proposed again.

    Raises:
        NotAsWrittenError: What it came to has changed since.
    """
    record = trial.user_attrs.get(_FOUND)
    if record is None:
        return None
    if not isinstance(record, dict):
        raise NotAsWrittenError(f"trial {trial.number} is not as it was written")
    try:
        found = opened(record)
        state = found["state"]
        if state != "failed" and trial.state.name == "FAIL":  # stopped before it was told
            return None
        if found["number"] != trial.number or state != _STATES.get(trial.state.name):
            raise NotAsWrittenError("is told as another")
        return TrialRow(
            number=trial.number,
            state=state,
            settings=found["settings"],
            score=found["score"],
            collective=found.get("collective"),
            seconds=found["seconds"],
            skipped=found.get("skipped", 0),
            problem=found.get("problem"),
        )
    except NotAsWrittenError as error:
        raise NotAsWrittenError(f"trial {trial.number} {error}") from None
    except KeyError:
        raise NotAsWrittenError(f"trial {trial.number} lacks a value") from None


def _write_best(folder: Path, plan: SearchPlan, result: SearchResult) -> None:
    """All settings of the best trial, as ``perfit train --config`` reads them."""
    import yaml

    best = result.best
    if best is None:
        with suppress(FileNotFoundError):
            (folder / BEST).unlink()
        return
    config = plan.config.with_options(**settings_of(best.settings)).as_dict()
    head = f"# trial {best.number} of {len(result.trials)}: {result.score} {best.score:.4f} on held-out history\n"
    write_atomically(folder / BEST, (head + yaml.safe_dump(config, sort_keys=False)).encode())
