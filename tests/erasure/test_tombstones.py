"""Who was erased is known by a keyed hash, and damage is not taken for nobody."""

from __future__ import annotations

from pathlib import Path

import pytest
from small_base import person

from perfit.errors import StoreError
from perfit.tombstones import BEGUN, DONE, FILE, Tombstones


def test_it_knows_whom_it_was_told_of_and_nobody_can_read_who(tmp_path: Path) -> None:
    Tombstones(tmp_path).put("anna", BEGUN)
    Tombstones(tmp_path).put("ben", DONE)
    read = Tombstones(tmp_path)
    assert (read.state("anna"), read.state("ben"), read.state("cleo")) == (BEGUN, DONE, None)
    assert [user.id for user in read.living(map(person, ("anna", "cleo", "ben")))] == ["cleo"]
    assert b"anna" not in (tmp_path / FILE).read_bytes()
    read.lift("anna")
    assert "anna" not in Tombstones(tmp_path)
    assert "ben" in Tombstones(tmp_path)


def test_the_same_id_has_another_hash_elsewhere(tmp_path: Path) -> None:
    marks = []
    for name in ("a", "b"):
        (tmp_path / name).mkdir()
        Tombstones(tmp_path / name).put("anna", DONE)
        marks.append(Tombstones(tmp_path / name).marks([person("anna")]))
    assert len(marks[0]) == 1
    assert marks[0] != marks[1]


@pytest.mark.parametrize("content", ["", "[]", "{}", '{"format": 1, "key": "00", "users": {}}', "[" * 100_000])
def test_damage_is_one_line(tmp_path: Path, content: str) -> None:
    (tmp_path / FILE).write_text(content)
    with pytest.raises(StoreError, match=r"erased\.json") as caught:
        Tombstones(tmp_path)
    assert "\n" not in str(caught.value)


def test_no_changed_character_lets_anybody_back(tmp_path: Path) -> None:
    Tombstones(tmp_path).put("anna", DONE)
    text = (tmp_path / FILE).read_text()
    place = text.index('"users"') + 14
    (tmp_path / FILE).write_text(text[:place] + ("0" if text[place] != "0" else "1") + text[place + 1 :])
    with pytest.raises(StoreError, match="restore it, or erased users may come back"):
        Tombstones(tmp_path)
