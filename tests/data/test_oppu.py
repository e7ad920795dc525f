"""The OPPU folder format."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from perfit.data import demo_dataset, read_dataset, write_oppu
from perfit.errors import DataError

Write = Callable[..., Path]


def user(name: str = "u1", items: int = 2, **changes: Any) -> dict[str, Any]:
    """A valid record."""
    history = [
        {"id": f"i{n}", "text": f"t{n}", "category": "travel", "date": f"2020-01-0{n + 1}"} for n in range(items)
    ]
    return {
        "user_id": name,
        "profile": history,
        "query": [{"id": f"{name}-q", "input": "x", "gold": "sports"}],
    } | changes


@pytest.mark.parametrize("packed", [False, True])
@pytest.mark.parametrize("stem", ["user_top_100_history", "user_more_100_history"])
def test_reads_a_folder_plain_or_packed_under_both_names(oppu_folder: Write, stem: str, packed: bool) -> None:
    data = read_dataset(oppu_folder([user("a"), user("b", items=0)], [user("c")], stem=stem, packed=packed))
    assert [u.id for u in data.users] == ["a", "b"]
    assert [u.id for u in data.others] == ["c"]
    assert data.users[0].history[0].fields["category"] == "travel"
    assert data.users[0].history[0].date == "2020-01-01"
    assert data.users[0].queries[0].gold == "sports"
    assert data.users[1].history == (), "an empty history is kept; training reports the user"


def test_stage_1_users_are_optional_and_a_file_can_be_read_alone(oppu_folder: Write) -> None:
    folder = oppu_folder([user("a")], [user("c")])
    alone = read_dataset(folder / "user_top_100_history.json")
    assert alone.others == ()
    both = read_dataset(folder / "user_top_100_history.json", others=folder / "user_others.json")
    assert both.fingerprint() == read_dataset(folder).fingerprint()


def test_given_others_take_the_place_of_the_folders(oppu_folder: Write) -> None:
    folder = oppu_folder([user("a")], [user("c")])
    another = oppu_folder([user("d"), user("e")], name="another")
    data = read_dataset(folder, others=another / "user_top_100_history.json")
    assert [u.id for u in data.others] == ["d", "e"]
    assert data.notes == ("stage-1 users from user_top_100_history.json, in place of 1 that came with the test users",)


@pytest.mark.parametrize(
    ("lamp_id", "task"),
    [
        ("LaMP_2M", "movie_tagging"),
        ("LaMP_8", "movie_tagging"),
        ("LaMP_2N", "news_categorize"),
        ("LaMP_2", "news_categorize"),
        ("LaMP_3", "product_rating"),
        ("LaMP_4", "news_headline"),
        ("LaMP_5", "scholarly_title"),
        ("LaMP_7", "tweet_paraphrase"),
        ("LaMP_6", None),
        ("my_task", "my_task"),
    ],
)
def test_task_comes_from_the_gold_file(oppu_folder: Write, lamp_id: str, task: str | None) -> None:
    label = {"task": lamp_id, "golds": [{"id": "a-q", "output": "sports"}]}
    assert read_dataset(oppu_folder([user("a")], label=label)).task == task


def test_folder_name_wins_over_the_gold_file_and_the_argument_over_both(oppu_folder: Write) -> None:
    label = {"task": "LaMP_2", "golds": [{"id": "a-q", "output": "sports"}]}
    folder = oppu_folder([user("a")], label=label, name="movie_tagging")
    assert read_dataset(folder).task == "movie_tagging"
    assert read_dataset(folder, task="mine").task == "mine"


def test_answers_come_from_the_gold_file(oppu_folder: Write) -> None:
    bare = user("a", query=[{"id": 7, "input": "x"}, {"id": 8, "input": "y"}])
    label = {"task": "LaMP_3", "golds": [{"id": "7", "output": 4}, {"id": "99", "output": "1"}]}
    data = read_dataset(oppu_folder([bare], label=label))
    assert [q.gold for q in data.users[0].queries] == ["4", None]
    assert data.notes == ("user_top_100_history_label.json: 1 answers belong to no query and are left out",)


def test_numbers_become_text(oppu_folder: Write) -> None:
    items = [{"id": 1, "text": "t", "score": 4, "date": 2009}, {"id": 2, "text": "t", "score": 4.0, "date": 1.5}]
    history = read_dataset(oppu_folder([user(5, profile=items)])).users[0].history  # type: ignore[arg-type]
    assert [(i.id, i.fields["score"], i.date) for i in history] == [("1", "4", "2009"), ("2", "4", "1.5")]


def test_null_is_absent(oppu_folder: Write) -> None:
    item = {"id": "1", "text": "t", "category": None, "date": None}
    read = read_dataset(oppu_folder([user("a", profile=[item])])).users[0].history[0]
    assert dict(read.fields) == {"text": "t"}
    assert read.date is None


def test_contradicting_and_foreign_gold_files_are_refused(oppu_folder: Write) -> None:
    wrong = {"task": "LaMP_2N", "golds": [{"id": "a-q", "output": "travel"}]}
    with pytest.raises(DataError, match=r"query at \[0\]\.query\[0\].*differ"):
        read_dataset(oppu_folder([user("a")], label=wrong, name="one"))
    foreign = {"task": "LaMP_2N", "golds": [{"id": "zzz", "output": "travel"}]}
    with pytest.raises(DataError, match="none of its answers"):
        read_dataset(oppu_folder([user("a")], label=foreign, name="two"))
    twice = {"task": "LaMP_2N", "golds": [{"id": "a-q", "output": "sports"}] * 2}
    with pytest.raises(DataError, match=r"golds\[1\].*used before"):
        read_dataset(oppu_folder([user("a")], label=twice, name="three"))


def test_missing_and_doubtful_files_are_refused(oppu_folder: Write, tmp_path: Path) -> None:
    folder = oppu_folder([user("a")])
    (folder / "user_top_100_history.json").rename(folder / "user_others.json")
    with pytest.raises(DataError, match="found neither"):
        read_dataset(folder)
    (folder / "user_top_100_history.json").write_text("[]")
    (folder / "user_more_100_history.json").write_text("[]")
    with pytest.raises(DataError, match="found both"):
        read_dataset(folder)


def test_writes_completely_or_not_at_all(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    data = demo_dataset(users=2, others=2, history=3, queries=2)
    write_oppu(data, tmp_path / "out")
    again = read_dataset(tmp_path / "out")
    assert again.fingerprint() == data.fingerprint()
    assert again.task == "news_categorize"
    with pytest.raises(DataError, match="not an empty folder"):
        write_oppu(data, tmp_path / "out")

    (tmp_path / "empty").mkdir()
    write_oppu(data, tmp_path / "empty")
    assert sorted(p.name for p in (tmp_path / "empty").iterdir()) == sorted(
        p.name for p in (tmp_path / "out").iterdir()
    )

    calls = iter([None, OSError("disk full")])

    def fail(*_: object) -> None:
        if error := next(calls):
            raise error

    monkeypatch.setattr("perfit.data.oppu.write_text_atomically", fail)
    with pytest.raises(OSError, match="disk full"):
        write_oppu(data, tmp_path / "broken")
    assert sorted(p.name for p in tmp_path.iterdir()) == ["empty", "out"]
