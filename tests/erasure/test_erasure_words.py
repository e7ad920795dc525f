"""Whether a value or a file names a user: the whole id, in every spelling that perfit writes, and nobody else's."""

from __future__ import annotations

import gzip
import html
import json
from pathlib import Path

import pytest

from perfit.erasure.words import holds, names
from perfit.shown import shown

USER = 'zoë "z" <4>\n&'


def test_a_value_names_the_whole_id() -> None:
    assert names({"learner": "ann"}, "ann")
    assert names({"ann": 3}, "ann")
    assert names([0, {"text": ["user 'ann': skipped"]}], "ann")
    assert not names({"text": "anna, joann and ann_b", "n": 3}, "ann")
    assert names({"text": f"user {shown(USER)!r} was skipped"}, USER.replace('"', "")) is False
    assert names({"text": f"user {shown(USER)} was skipped"}, USER)


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("a.json", json.dumps({"user": USER})),
        ("a.json", json.dumps({"user": USER}, ensure_ascii=False)),
        ("a.safetensors", json.dumps({"__metadata__": {"user": json.dumps({"id": USER})}})),
        ("a.safetensors", json.dumps({"more": json.dumps({"id": USER}, ensure_ascii=False)}, ensure_ascii=False)),
        ("a.html", f"<td>{html.escape(USER)}</td>"),
        ("a.html", f"<td>{html.escape(shown(USER))}</td>"),
        ("a.md", f"| {shown(USER)} |"),
        ("a.md", f"| {USER} |"),
    ],
)
def test_a_file_holds_an_id_however_it_is_spelled(tmp_path: Path, name: str, text: str) -> None:
    path = tmp_path / name
    path.write_text(f"before {text} after", encoding="utf-8")
    assert holds(path, USER)
    assert not holds(path, f"{USER}!")
    path.write_text("before and after", encoding="utf-8")
    assert not holds(path, USER)
    path.write_text("", encoding="utf-8")
    assert not holds(path, USER)


def test_a_packed_file_is_looked_into(tmp_path: Path) -> None:
    path = tmp_path / "a.json.gz"
    path.write_bytes(gzip.compress(json.dumps({"user": "ann"}).encode()))
    assert holds(path, "ann")
    assert not holds(path, "ben")
