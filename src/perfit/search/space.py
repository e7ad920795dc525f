"""What a search may choose from: Table 8 of the paper, or a file of one's own."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from perfit.config import PerFitConfig
from perfit.errors import ConfigError

EPOCHS = "epochs"
_PAPER_DEPTH = 32  # of Llama-2-7B, in which Table 8 counts
_PLAIN = (int, float, str)
_HOW = "write a list of values, or a range such as {low: 1e-4, high: 3e-3, log: true}"


@dataclass(frozen=True)
class Choice:
    """One of some values."""

    values: tuple[Any, ...]

    def suggest(self, name: str, trial: Any) -> Any:
        """The value an Optuna trial takes; lists go by their JSON, for Optuna stores single values alone."""
        by_text = {json.dumps(value): value for value in self.values}
        return by_text[trial.suggest_categorical(name, list(by_text))]

    def record(self) -> Any:
        """Plain values."""
        return [list(value) if isinstance(value, tuple) else value for value in self.values]


@dataclass(frozen=True)
class Range:
    """A number between two, both included."""

    low: float
    high: float
    log: bool = False

    def suggest(self, name: str, trial: Any) -> Any:
        """The value an Optuna trial takes; a whole number between whole numbers."""
        if isinstance(self.low, int) and isinstance(self.high, int):
            return trial.suggest_int(name, self.low, self.high, log=self.log)
        return trial.suggest_float(name, self.low, self.high, log=self.log)

    def record(self) -> Any:
        """Plain values."""
        return {"low": self.low, "high": self.high, "log": self.log}


Space = Mapping[str, Choice | Range]


def table_8(depth: int, width: int) -> Space:
    """The paper's space (Table 8) for a base of so many layers and so wide a residual stream.

    The paper counts in a base of 32 layers; elsewhere its sets of layers begin at the same share of the depth and are as
    many. A base too shallow or narrow for the larger sets and ranks has the smaller ones. "epochs" sets both stages.
    """
    first = 14 * depth // _PAPER_DEPTH
    sets = [(first + 1,), (first, first + 1), tuple(range(first, first + 3)), tuple(range(first, first + 5))]
    sets = [layers for layers in sets if layers[-1] < depth] or [(first,)]
    ranks = Choice(tuple(rank for rank in (4, 8, 16, 32, 64) if rank <= width) or (width,))
    return {
        "collective_rank": ranks,
        "personal_rank": ranks,
        "layers": Choice(tuple(sets)),
        "positions": Choice(("f7+l7", "f5+l5", "l7", "l5")),
        EPOCHS: Choice((2, 4, 6)),
    }


def read_space(path: Path) -> Space:
    """A space from a YAML file: a setting per line, with a list of values or a range.

    Raises:
        ConfigError: The file is no such mapping.
    """
    from perfit.yaml_text import read_yaml

    loaded = read_yaml(path, hint=_HOW)
    if not isinstance(loaded, dict) or not loaded:
        raise ConfigError(f"{path}: must be a mapping of settings, such as 'personal_rank: [4, 8]'")
    return {str(name): _entry(str(name), entry) for name, entry in loaded.items()}


def _entry(name: str, entry: Any) -> Choice | Range:
    if isinstance(entry, list) and entry:
        values = tuple(_plain(name, value) for value in entry)
        if not all(
            isinstance(part, _PLAIN) for value in values for part in (value if isinstance(value, tuple) else (value,))
        ):
            raise ConfigError(f"{name}: {entry!r} is no choice; {_HOW}")
        if len({json.dumps(value) for value in values}) != len(values):
            raise ConfigError(f"{name}: {entry!r} names a value twice; name each once")
        return Choice(values)
    if isinstance(entry, dict) and {"low", "high"} <= set(entry) <= {"low", "high", "log"}:
        low, high, log = _plain(name, entry["low"]), _plain(name, entry["high"]), entry.get("log", False)
        numbers = all(isinstance(v, int | float) and not isinstance(v, bool) and math.isfinite(v) for v in (low, high))
        if numbers and isinstance(log, bool) and low <= high and (low > 0 or not log):
            return Range(low, high, log)
    raise ConfigError(f"{name}: {entry!r} is no choice; {_HOW}")


def _plain(name: str, value: Any) -> Any:
    """What YAML made of a value, mended: it reads 1e-3 as a text and the position -1 as a number."""
    if isinstance(value, list):
        return tuple(value)
    if name == "positions":
        return str(value)
    if isinstance(value, str):
        try:
            return float(value)
        except ValueError:
            return value
    return value


def without(space: Space, fixed: Sequence[str]) -> Space:
    """The space without settings that are fixed; fixing either stage's epochs fixes both."""
    gone = {*fixed, *(EPOCHS for name in fixed if name in ("stage1.epochs", "stage2.epochs"))}
    return {name: entry for name, entry in space.items() if name not in gone}


def settings_of(chosen: Mapping[str, Any]) -> dict[str, Any]:
    """Names and values as ``PerFitConfig.with_options`` takes them."""
    settings = {name: value for name, value in chosen.items() if name != EPOCHS}
    if EPOCHS in chosen:
        settings |= {"stage1.epochs": chosen[EPOCHS], "stage2.epochs": chosen[EPOCHS]}
    return settings


def check_space(space: Space, config: PerFitConfig) -> None:
    """Refuse a space before anything trains.

    Raises:
        ConfigError: It is empty, or names a setting or value that cannot be.
    """
    if not space:
        raise ConfigError("space: nothing is left to search; leave a setting out of --set, or give another --space")
    if "dtype" in space:
        raise ConfigError("dtype: one base serves all trials; give it with --set")
    for name in ("stage1.epochs", "stage2.epochs"):
        if EPOCHS in space and name in space:
            raise ConfigError(f"{name}: is set by epochs too; leave out one of them")
    for name, entry in space.items():
        for value in entry.values if isinstance(entry, Choice) else (entry.low, entry.high):
            config.with_options(**settings_of({name: value}))
