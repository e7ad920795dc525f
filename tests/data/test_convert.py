"""From LaMP's own files to users."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from perfit.data import convert_lamp, read_dataset, write_oppu
from perfit.errors import ConfigError, DataError


def item(n: int, **changes: Any) -> dict[str, Any]:
    return {"id": f"i{n}", "text": f"text {n}", "title": f"title {n}", "date": f"2020-01-{n:02d}"} | changes


def question(n: int, items: list[dict[str, Any]], user: str | None = None) -> dict[str, Any]:
    return {"id": str(n), "input": f"question {n}", "profile": items} | ({} if user is None else {"user_id": user})


def write(folder: Path, questions: list[dict[str, Any]], split: str = "train", task: str = "LaMP_4") -> Path:
    (folder / f"{split}_questions.json").write_text(json.dumps(questions))
    golds = [{"id": q["id"], "output": f"answer {q['id']}"} for q in questions]
    (folder / f"{split}_outputs.json").write_text(json.dumps({"task": task, "golds": golds}))
    return folder


def test_questions_of_one_user_are_joined_and_the_most_active_are_tested(tmp_path: Path) -> None:
    many, some, few = [item(n) for n in range(1, 6)], [item(n) for n in range(11, 14)], [item(21)]
    write(tmp_path, [question(0, few, "c"), question(1, many, "a"), question(2, some, "b"), question(3, many, "a")])
    data = convert_lamp(tmp_path, n_test=1)
    assert [u.id for u in data.users] == ["a"]
    assert [u.id for u in data.others] == ["c", "b"]
    assert [(q.id, q.input, q.gold) for q in data.users[0].queries] == [
        ("1", "question 1", "answer 1"),
        ("3", "question 3", "answer 3"),
    ]
    assert data.task == "news_headline"
    assert data.notes[0] == "converted 4 questions of 3 users from train_questions.json"
    assert data.notes[2] == "test users: the 1 with the longest history (at least 5 items); stage 1: the 2 others"


def test_a_later_profile_does_not_leak_an_earlier_answer(tmp_path: Path) -> None:
    early, late = [item(1), item(2)], [item(1), item(2), item(3, text="question 0", title="answer 0")]
    write(tmp_path, [question(0, early, "a"), question(1, [item(9)], "b")])
    write(tmp_path, [question(2, late, "a"), question(3, [item(9)], "b")], split="dev")
    data = read_dataset(tmp_path)
    assert [i.id for i in data.users[0].history] == ["i1", "i2"]
    assert [q.id for q in data.users[0].queries] == ["0", "2"]
    assert data.notes[3].endswith("; 1 items known to some of them only were left out")


def test_the_order_of_the_questions_does_not_matter_for_that(tmp_path: Path) -> None:
    early, late = [item(1), item(2)], [item(1), item(2), item(3, text="question 0", title="answer 0")]
    write(tmp_path, [question(2, late, "a"), question(0, early, "a"), question(1, [item(9)], "b")])
    assert [i.id for i in read_dataset(tmp_path).users[0].history] == ["i1", "i2"]


def test_histories_are_put_in_order_of_time_where_all_items_are_dated(tmp_path: Path) -> None:
    mixed = [item(3), item(1), item(2)]
    undated = [item(7), {"id": "i6", "text": "x"}, item(5)]
    years = [item(1, id="y1", date=2011), item(2, id="y2", date=1999)]
    write(tmp_path, [question(0, mixed, "a"), question(1, undated, "b"), question(2, years, "c")])
    data = convert_lamp(tmp_path, n_test=2)
    assert [[i.id for i in u.history] for u in data.users + data.others] == [
        ["i1", "i2", "i3"],
        ["i7", "i6", "i5"],
        ["y2", "y1"],
    ]
    assert data.notes[4].startswith("2 of 3 histories were sorted by date")


def test_without_user_ids_equal_profiles_are_one_user(tmp_path: Path) -> None:
    one, other = [item(1), item(2)], [item(3)]
    write(tmp_path, [question(0, one), question(1, other), question(2, one[::-1])])
    data = convert_lamp(tmp_path, n_test=1)
    assert [q.id for q in data.users[0].queries] == ["0", "2"]
    assert data.users[0].id.startswith("profile-")
    assert data.notes[1] == "0 questions were grouped by user_id, 3 by the hash of their profile's ids"


@pytest.mark.parametrize(("fields", "task"), [({"tag": "x"}, "movie_tagging"), ({"category": "x"}, "news_categorize")])
def test_lamp_2_is_told_apart_by_its_fields(tmp_path: Path, fields: dict[str, str], task: str) -> None:
    write(tmp_path, [question(n, [item(n + 1, **fields)], str(n)) for n in range(2)], task="LaMP_2")
    assert read_dataset(tmp_path).task == task


def test_number_of_test_users(tmp_path: Path) -> None:
    write(tmp_path, [question(n, [item(1, id=f"i{n}")], f"u{n}") for n in range(250)])
    assert len(convert_lamp(tmp_path).users) == 100
    assert len(convert_lamp(tmp_path, n_test=7).users) == 7
    for impossible in (0, -1, 250):
        with pytest.raises(ConfigError, match=f"n_test={impossible} is impossible with 250 users; take 1 to 249"):
            convert_lamp(tmp_path, n_test=impossible)
    write(tmp_path, [question(n, [item(1, id=f"i{n}")], f"u{n}") for n in range(5)])
    assert len(convert_lamp(tmp_path).users) == 2, "half, when there are fewer than 200"


def test_public_test_questions_without_answers_are_left_out(tmp_path: Path) -> None:
    write(tmp_path, [question(0, [item(1)], "a"), question(1, [item(2)], "b")])
    (tmp_path / "test_questions.json").write_text(json.dumps([question(5, [item(1)], "a")]))
    assert sum(len(u.queries) for u in read_dataset(tmp_path).users) == 1
    with pytest.raises(DataError, match=r"test_questions\.json: the answers are missing"):
        read_dataset(tmp_path / "test_questions.json")


def test_faults(tmp_path: Path) -> None:
    def fault(questions: list[Any], expected: str) -> None:
        (tmp_path / "train_questions.json").write_text(json.dumps(questions))
        with pytest.raises(DataError, match=expected):
            read_dataset(tmp_path)

    write(tmp_path, [question(0, []), question(1, [])])
    fault([], "expected a list of questions")
    fault([question(7, [])], r"\[0\]: the outputs file has no answer for this question")
    fault([question(0, []), question(0, [])], r"\[1\]: the question id was used before")
    fault([{"id": "0", "input": "x"}], r"\[0\]: the field 'profile' is missing")
    fault([question(0, [{"id": "1"}])], r"\[0\]\.profile\[0\]: the item has no text field")
    fault([question(0, [item(1), item(1)])], "an item id comes twice")
    with pytest.raises(ConfigError, match="does not go with LaMP's own files"):
        read_dataset(tmp_path, others=tmp_path / "x.json")
    (tmp_path / "train_outputs.json").unlink()
    with pytest.raises(DataError, match="neither OPPU nor LaMP"):
        read_dataset(tmp_path)
    with pytest.raises(DataError, match=r"no \*_questions\.json with its"):
        convert_lamp(tmp_path)


def test_a_converted_data_set_is_written_and_read_again(tmp_path: Path) -> None:
    (tmp_path / "raw").mkdir()
    data = convert_lamp(write(tmp_path / "raw", [question(n, [item(n + 1)], f"u{n}") for n in range(6)]), n_test=2)
    write_oppu(data, tmp_path / "oppu")
    again = read_dataset(tmp_path / "oppu")
    assert again.fingerprint() == data.fingerprint()
    assert again.task == data.task
