"""What was given on the command line, as the library takes it."""

from __future__ import annotations

import re
from pathlib import Path
from typing import TYPE_CHECKING, Any

from perfit.errors import ConfigError

if TYPE_CHECKING:
    from perfit.config import PerFitConfig
    from perfit.data.schema import Dataset, User
    from perfit.data.timeline import Dates
    from perfit.how_to_open import HowToOpen
    from perfit.tasks.task import Task

_UNITS = {"": 1.0, "gib": 1.0, "mib": 2.0**-10, "gb": 1e9 / 2**30, "mb": 1e6 / 2**30}


def parse_memory(text: str | None) -> dict[str, Any]:
    """The setting for a size such as "8GiB", "500 MB" or "6" (GiB).

    Raises:
        ConfigError: It is no size.
    """
    if text is None:
        return {}
    found = re.fullmatch(r"\s*(\d+(?:\.\d+)?)\s*([a-z]*)\s*", text.lower())
    if found is None or found[2] not in _UNITS:
        raise ConfigError(f"--memory: {text!r} is no size; write it like 8GiB, 8GB or 500MB")
    return {"memory_gib": float(found[1]) * _UNITS[found[2]]}


def parse_settings(config: Path | None, pairs: list[str]) -> dict[str, Any]:
    """Settings of a YAML file and of ``name=value`` pairs; pairs win.

    Raises:
        ConfigError: The file is no mapping, or a pair has no "=".
    """
    from perfit.yaml_text import parse_yaml, read_yaml

    settings: dict[str, Any] = {}
    if config is not None:
        loaded = read_yaml(config, hint="write lines such as 'layers: [9, 10]'")
        if not isinstance(loaded, dict):
            raise ConfigError(f"{config}: must be a mapping of settings, such as 'layers: [9, 10]'")
        for name, value in loaded.items():
            if isinstance(value, dict):
                settings |= {f"{name}.{inner}": v for inner, v in value.items()}
            else:
                settings[str(name)] = value
    for pair in pairs:
        name, found, text = pair.partition("=")
        if not found:
            raise ConfigError(f"--set {pair}: write name=value, such as --set stage2.epochs=2")
        settings[name.strip()] = parse_yaml(text, f"--set {pair}", hint="lists are written [9, 10]")
    return {name: _value(name, value) for name, value in settings.items()}


def _value(name: str, value: Any) -> Any:
    """What YAML made of a value, mended: it reads 1e-3 and inf as texts, and the position -1 as a number."""
    if isinstance(value, list):
        return tuple(value)
    if name == "layers" and isinstance(value, int) and not isinstance(value, bool):
        return (value,)  # one layer
    if name == "positions" and isinstance(value, int) and not isinstance(value, bool):
        return str(value)
    if isinstance(value, str) and name != "positions":
        try:
            return float(value)
        except ValueError:
            return value
    return value


def dtype_setting(how: HowToOpen) -> dict[str, Any]:
    """``--dtype`` as the setting that it is, where something is trained."""
    return {} if how.dtype is None else {"dtype": how.dtype}


def form_of_dates(dates: str) -> Dates:
    """The form of dates named on the command line.

    Raises:
        ConfigError: There is no such form.
    """
    if dates not in ("iso", "us"):
        raise ConfigError(f"--dates: {dates!r} is unknown; choose iso or us")
    return "us" if dates == "us" else "iso"


def load_data(path: Path, others: Path | None, task: str | None, users: int | None, dates: str = "iso") -> Dataset:
    """Read data, name its task, and keep the first users if so asked."""
    from dataclasses import replace

    from perfit.data import read_dataset

    dataset = read_dataset(path, others=others, dates=form_of_dates(dates))
    named = task or dataset.task
    if named is None:
        raise ConfigError(f"--task: {path} does not say which task it is; name one, or give a YAML file of your own")
    return replace(dataset, users=first_users(dataset.users, users), task=named)


def with_pool(dataset: Dataset, count: int | None, seed: int | None) -> Dataset:
    """Only so many of the other users: the first, or with a seed a random draw of its own.

    Raises:
        ConfigError: A number is impossible, or there is a seed and nothing to draw.
    """
    from dataclasses import replace

    from perfit.comparison.plan import Selection
    from perfit.data.pool import some_of

    chosen = Selection(pool=count, pool_seed=seed)
    return replace(dataset, others=some_of(dataset.others, chosen.pool, chosen.pool_seed))


def first_users(users: tuple[User, ...], count: int | None) -> tuple[User, ...]:
    """The first so many users, or all.

    Raises:
        ConfigError: ``count`` is below 1.
    """
    if count is not None and count < 1:
        raise ConfigError(f"--users: {count} is not possible; give at least 1")
    return users[:count]


def make_config(
    preset: str, task: Task, settings: dict[str, Any], layers: int, hidden_size: int | None = None
) -> PerFitConfig:
    """The preset with the settings on top, for a base of so many layers and this width."""
    from perfit.config import paper_preset, small_preset

    if preset not in ("small", "paper"):
        raise ConfigError(f"--preset: {preset!r} is unknown; choose small or paper")
    if preset == "paper":
        start = paper_preset(task.name)
    else:
        start = small_preset(layers, task.kind, hidden_size=hidden_size, chat=task.chat)
    return start.with_options(**settings)
