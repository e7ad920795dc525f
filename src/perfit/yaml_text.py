"""The one reader of YAML: tasks, settings and search spaces of a few lines, which may come from strangers.

PyYAML's safe loader runs no code, but 300 bytes of aliases stand for more than any memory holds once the value is
printed, deep nesting ends in a RecursionError, of a key that stands twice the first value is lost, and a number of a
million digits takes minutes. All these are refused, the aliases and the depth before anything is built.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import yaml

from perfit.data.opening import open_file
from perfit.data.saying import shown_name
from perfit.errors import ConfigError

MAX_BYTES = 256 * 1024
MAX_DEPTH = 20
MAX_VALUES = 10_000
MAX_NUMBER = 100
"""Longest number or date, in characters."""

_HINT = "quote values that hold ': ', '{' or '#'"


def read_yaml(path: str | Path, what: str | None = None, *, hint: str = _HINT) -> Any:
    """The value of a YAML file.

    Args:
        path: The file.
        what: How messages name it; None takes the path.
        hint: The way out where it is not YAML.

    Raises:
        ConfigError: It is too large or not UTF-8, and as for ``parse_yaml``.
        DataError: It is a pipe or the like.
        OSError: It cannot be opened.
    """
    what = str(path) if what is None else what
    with open_file(Path(path)) as stream:
        content = stream.read(MAX_BYTES + 1)
    if len(content) > MAX_BYTES:
        raise ConfigError(f"{what}: has more than {MAX_BYTES} bytes; this is no file of a few settings")
    try:
        text = content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise ConfigError(f"{what}: is not YAML in UTF-8 (byte {error.start}); save it as UTF-8") from None
    return parse_yaml(text, what, hint=hint)


def parse_yaml(text: str, what: str, *, hint: str = _HINT) -> Any:
    """The value of a YAML text.

    Args:
        text: The text.
        what: How messages name it.
        hint: The way out where it is not YAML.

    Raises:
        ConfigError: It is not YAML, holds an alias or a key twice, is nested too deeply, or a number or date in it cannot
            be read.
    """
    try:
        _check_events(text, what)
        return yaml.load(text, Loader=_Loader)
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        where = f" at line {mark.line + 1}" if mark is not None and "\n" in text else ""
        raise ConfigError(f"{what}: is not YAML{where}; {hint}") from None
    except yaml.YAMLError:
        raise ConfigError(f"{what}: is not YAML, for it holds control characters; write plain text") from None
    except _FaultError as error:
        raise ConfigError(f"{what}: {error}") from None
    except (ValueError, OverflowError):
        raise ConfigError(f"{what}: a number or date in it cannot be read; put it in quotes") from None


class _FaultError(Exception):
    """What is wrong with a value, and the way out."""


def _check_events(text: str, what: str) -> None:
    depth = values = 0
    for event in yaml.parse(text, Loader=yaml.SafeLoader):
        at = f"line {_line(event.start_mark)}"
        if isinstance(event, yaml.AliasEvent):
            raise ConfigError(f"{what}: {at} refers to another value (*name); write the value out")
        if isinstance(event, yaml.NodeEvent):
            values += 1
            tag = getattr(event, "tag", None)
            # Those that PyYAML reads fail in ways of their own, and settings need none.
            if tag not in (None, "!", "tag:yaml.org,2002:str"):
                raise ConfigError(f"{what}: {at} has a tag (!name); leave it out")
        depth += isinstance(event, yaml.CollectionStartEvent)
        depth -= isinstance(event, yaml.CollectionEndEvent)
        if depth > MAX_DEPTH:
            raise ConfigError(f"{what}: {at} is nested more than {MAX_DEPTH} deep; this is no file of settings")
        if values > MAX_VALUES:
            raise ConfigError(f"{what}: holds more than {MAX_VALUES} values; this is no file of settings")


def _line(mark: Any) -> int:
    return int(mark.line) + 1


class _Loader(yaml.SafeLoader):
    """The safe loader, which also refuses a key that stands twice and endless numbers."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        seen = set()
        for key, _ in node.value:
            if isinstance(key, yaml.ScalarNode):
                if (key.tag, key.value) in seen:
                    line = _line(key.start_mark)
                    raise _FaultError(f"line {line} names {shown_name(key.value)} a second time; keep one of the two")
                seen.add((key.tag, key.value))
        return super().construct_mapping(node, deep=deep)

    def construct_scalar(self, node: yaml.ScalarNode | yaml.MappingNode) -> Any:
        if node.tag != "tag:yaml.org,2002:str" and isinstance(node, yaml.ScalarNode) and len(node.value) > MAX_NUMBER:
            raise _FaultError(f"line {_line(node.start_mark)} holds a number too long to be one; put it in quotes")
        return super().construct_scalar(node)
