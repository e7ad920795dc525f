"""What is asked on the command line passes the same checks as users' files."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from perfit.data.asked import checked_arguments, read_asked
from perfit.errors import DataError


def test_lines_are_read_as_those_of_users(tmp_path: Path) -> None:
    path = tmp_path / "in.jsonl"
    records = [{"user": 7, "input": "a\u2028b\x85c"}, {"user": 4.0, "input": "", "note": [1]}]
    lines = "\n\n".join(json.dumps(record, ensure_ascii=False) for record in records)
    path.write_bytes(b"\xef\xbb\xbf" + lines.encode())
    assert read_asked(path) == [("7", "a\u2028b\x85c"), ("4", "")]


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        ('{"user": null, "input": "Zanzibar"}', "line 1: the field 'user' is missing"),
        ('{"user": "a", "input": null}', "line 1: the field 'input' is missing"),
        ('{"user": "a", "input": ["Zanzibar"]}', "line 1: the field 'input' is a list, not text"),
        ('{"user": "a", "input": "Zanzibar \\ud83d"}', "the field 'input' has half a surrogate pair at character 9"),
        ('{"user": "a", "input": "x", "input": "Zanzibar"}', "'input' is named twice"),
        ('["Zanzibar"]', "line 1: expected an object, found a list"),
        ("", "holds no lines"),
    ],
)
def test_faults_are_one_line(tmp_path: Path, line: str, expected: str) -> None:
    path = tmp_path / "in.jsonl"
    path.write_text(line)
    with pytest.raises(DataError, match=r"in\.jsonl") as caught:
        read_asked(path)
    assert expected in str(caught.value)
    assert "Zanzibar" not in str(caught.value)


def test_arguments() -> None:
    assert checked_arguments(["\ufeffone", "two\u2028"], "text") == ["one", "two\u2028"]
    with pytest.raises(DataError, match="command line, text 2: it has half a surrogate pair at character 1;"):
        checked_arguments(["a", "b\udcff"], "text")
