"""YAML of strangers: read as PyYAML reads it, or refused quickly in one line."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from perfit.errors import ConfigError, DataError
from perfit.yaml_text import MAX_BYTES, parse_yaml, read_yaml

BOMB = "a: &a [x, x, x, x, x, x, x, x, x]\n" + "".join(
    f"{this}: &{this} [{', '.join(['*' + last] * 9)}]\n" for last, this in zip("abcdefgh", "bcdefghi", strict=True)
)


@pytest.mark.parametrize(
    "text", ["", "a: 1", "layers: [9, 10]", "[1, {b: 2}]", "a: |\n  two\n  lines\nb: 'c: d'", "1e-3", "a: !!str 5"]
)
def test_plain_values_are_those_of_the_safe_loader(text: str) -> None:
    import yaml

    assert parse_yaml(text, "x") == yaml.safe_load(text)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (BOMB, r"line 2 refers to another value \(\*name\)"),
        ("a: &a [*a]", "line 1 refers to another value"),
        ("[" * 100_000, "line 1 is nested more than 20 deep"),
        ("{a: " * 100_000, "line 1 is nested more than 20 deep"),
        ("".join(" " * depth + "a:\n" for depth in range(300)), "line 21 is nested"),
        ("[" + "x, " * 20_000 + "]", "holds more than 10000 values"),
        ("a: " + "9" * 200, "line 1 holds a number too long"),
        ("a: 1" + ":59" * 100, "line 1 holds a number too long"),
        ("a: 2001-99-99", "a number or date in it cannot be read"),
        ("a: 1\nb: 2\na: 3", "line 3 names 'a' a second time"),
        ("p:\n  a: 1\n  a: 2", "line 3 names 'a' a second time"),
        ("my own thoughts: 1\nmy own thoughts: 2", "line 2 names with an unusual name a second time"),
        ("a: !!python/object/apply:os.system [ls]", "line 1 has a tag"),
        ("a: !!bool maybe", "line 1 has a tag"),
        ("a: !!timestamp maybe", "line 1 has a tag"),
        ("a: \0", "control characters"),
        ("b: 1\na: [1", "is not YAML at line 2; quote values"),
        ("a: 1\n---\nb: 2", "is not YAML at line 2"),
    ],
)
def test_everything_else_is_one_line(text: str, expected: str) -> None:
    with pytest.raises(ConfigError, match=rf"^x: .*{expected}") as caught:
        parse_yaml(text, "x")
    assert len(str(caught.value).splitlines()) == 1
    assert len(str(caught.value)) < 200


def test_files(tmp_path: Path) -> None:
    path = tmp_path / "a.yaml"
    path.write_bytes(b"\xef\xbb\xbfa: caf\xc3\xa9")
    assert read_yaml(path) == {"a": "café"}
    path.write_bytes(b"a: caf\xe9")
    with pytest.raises(ConfigError, match=r"a\.yaml: is not YAML in UTF-8 \(byte 6\)"):
        read_yaml(path)
    path.write_text("#" * MAX_BYTES + "\n")
    with pytest.raises(ConfigError, match="has more than 262144 bytes"):
        read_yaml(path)
    os.mkfifo(tmp_path / "b.yaml")
    with pytest.raises(DataError, match="this is a pipe"):
        read_yaml(tmp_path / "b.yaml")
