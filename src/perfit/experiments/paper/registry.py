"""The registry: every table and figure by name, read from its YAML file and checked."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import fields
from functools import cache
from pathlib import Path
from typing import Any, TypeVar

from perfit.errors import ConfigError
from perfit.experiments.paper.entry import Claim, Entry, Numbers, Parameters, Row
from perfit.yaml_text import read_yaml

FOLDER = Path(__file__).parent / "entries"
_LISTS: Mapping[str, type] = {"rows": Row, "numbers": Numbers, "parameters": Parameters, "claims": Claim}
Part = TypeVar("Part")


@cache
def entries() -> Mapping[str, Entry]:
    """All entries in the paper's order: tables, then figures, by number.

    Raises:
        ConfigError: A file is not what an entry is.
    """
    return {path.stem: read_entry(path) for path in sorted(FOLDER.glob("*.yaml"), key=_order)}


def entry_of(name: str) -> Entry:
    """One entry.

    Raises:
        ConfigError: There is none of this name.
    """
    found = entries().get(name)
    if found is None:
        raise ConfigError(f"{name!r} is no table or figure here; choose from {', '.join(entries())}, list or all")
    return found


def read_entry(path: Path) -> Entry:
    """An entry from its file; its name is the file's.

    Raises:
        ConfigError: A field is unknown, missing or impossible; the message names file, field and value.
    """
    loaded = read_yaml(path)
    if not isinstance(loaded, dict):
        raise ConfigError(f"{path.name}: must be a mapping such as 'title: Ablation'")
    try:
        values: dict[str, Any] = {"name": path.stem, **loaded}
        for name, kind in _LISTS.items():
            given = values.get(name, [])
            if not isinstance(given, list):
                raise ConfigError(f"{name}: {given!r} is not possible; give a list")
            values[name] = tuple(_made(kind, one, name) for one in given)
        return _made(Entry, values, "the file")
    except ConfigError as error:
        raise ConfigError(f"{path.name}: {error}") from None


def _made(kind: type[Part], values: Any, where: str) -> Part:
    known = [one.name for one in fields(kind)]  # type: ignore[arg-type]
    if not isinstance(values, dict):
        raise ConfigError(f"{where}: {values!r} is not possible; give a mapping of {', '.join(known)}")
    for name in values:
        if name not in known:
            raise ConfigError(f"{where}: {name!r} is unknown; known are {', '.join(known)}")
    try:
        return kind(**values)
    except TypeError:
        raise ConfigError(f"{where}: a field is missing, or of another type; known are {', '.join(known)}") from None


def _order(path: Path) -> tuple[bool, int]:
    number = re.search(r"\d+", path.stem)
    return path.stem.startswith("figure"), int(number[0]) if number else 0
