"""A run keeps what its evaluations found, by what was asked, and says when users were trained again since."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace
from pathlib import Path

import pytest
from small_base import dataset

from perfit.erasure import erase_user
from perfit.errors import DamagedError
from perfit.evaluation.evaluate import evaluate
from perfit.evaluations import FILE, evaluations, line
from perfit.model_card import card
from perfit.personalizer import PerFit
from perfit.run import RunDirectory
from perfit.run_check import verify

MARK = "Users were trained again since: these are scores of their earlier shifts."


@pytest.fixture
def run(scored: Path, tmp_path: Path) -> RunDirectory:
    shutil.copytree(scored / "run", tmp_path / "run")
    return RunDirectory(tmp_path / "run")


def ask(run: RunDirectory, answers: str = "free", users: int = 3) -> None:
    evaluate(PerFit.from_pretrained(run.path), dataset().users[:users], answers=answers, with_nll=False, run=run)


def shown(run: RunDirectory) -> str:
    return (run.path / "README.md").read_text(encoding="utf-8")


def test_each_question_is_kept_once_the_newest_last(run: RunDirectory) -> None:
    ask(run, "trie")
    ask(run, users=2)
    ask(run)  # the question that the run was made with
    kept = evaluations(run)
    assert [(one["asked"]["answers"], one["users"], one["queries"]) for one in kept] == [
        ("trie", 3, 6), ("free", 2, 4), ("free", 3, 6),
    ]  # fmt: skip
    last = json.loads((run.path / "metrics.json").read_text())["methods"]
    assert kept[-1]["methods"]["base"]["accuracy"] == last["base"]["metrics"]["accuracy"]
    assert kept[0]["methods"]["personal"]["mean_of_users"] > 0 == kept[-1]["methods"]["personal"]["mean_of_users"]
    assert "scores" in verify(run)


def test_the_card_shows_the_newest_and_names_the_others(run: RunDirectory) -> None:
    assert "Measured before" not in shown(run)
    ask(run, "trie")
    (free, trie), text = evaluations(run), shown(run)
    assert line(free).startswith(f"{free['at'][:10]}, answers free, 3 users, 6 queries: accuracy floor_majority ")
    assert text.index("answers are the labels of highest probability") < text.index("### Measured before")
    assert line(free)[:40] in text
    assert line(trie)[:40] not in text


def test_it_names_nobody(run: RunDirectory) -> None:
    text = (run.path / FILE).read_text()
    assert [name for user in dataset().users for name in (user.id, *(q.id for q in user.queries)) if name in text] == []


def test_a_user_who_is_trained_again_makes_them_scores_of_earlier_shifts(run: RunDirectory) -> None:
    before, perfit = shown(run), PerFit.from_pretrained(run.path)
    data = dataset(("dora", "anna"))
    perfit.personalize(data.users[0])
    assert shown(run) == before  # a new one changes nobody's score
    assert not evaluations(run)[0]["earlier_shifts"]
    perfit.personalize(replace(data.users[1], history=data.users[1].history[1:]))
    assert shown(run).count(MARK) == 1
    assert shown(run).replace(f"{MARK} ", "") == before
    assert [one["earlier_shifts"] for one in evaluations(run)] == [True]
    ask(run)
    assert MARK not in shown(run)
    assert [one["earlier_shifts"] for one in evaluations(run)] == [True, False]
    assert "(of earlier shifts)" in shown(run)


def test_a_training_that_goes_on_after_an_evaluation_says_so_too(run: RunDirectory) -> None:
    data, perfit = dataset(), PerFit.from_pretrained(run.path)
    perfit.fit(data, run=run.path, listener=lambda event: None)
    assert MARK not in shown(run)  # it was through
    for path in run.path.glob("training.jsonl*"):
        path.unlink()
    perfit.fit(data, run=run.path, listener=lambda event: None)
    assert MARK in shown(run)


def test_erasing_anybody_takes_all_of_them(run: RunDirectory) -> None:
    ask(run, "trie")
    ask(run, users=2)  # cleo is in the earlier ones alone
    told = {deed.path.name: deed.what for deed in erase_user("cleo", run.path).deeds}
    assert not (run.path / FILE).exists()
    assert "Measured before" not in shown(run)
    assert told["README.md"] in {"earlier scores taken out", "scores taken out"}


def test_scores_of_others_stay_on_the_card_when_earlier_ones_go(run: RunDirectory) -> None:
    ask(run, "trie", users=2)
    for path in (run.path / "predictions").iterdir():  # as if the last evaluation were the only one of these users
        if "cleo" in path.read_text():
            path.unlink()
    erase_user("cleo", run.path)
    assert shown(run) == card(run, (run.path / "metrics.md").read_text(encoding="utf-8"))
    assert "answers are the labels of highest probability" in shown(run)


def test_a_changed_byte_is_one_line(run: RunDirectory) -> None:
    whole = (run.path / FILE).read_bytes()
    for place in range(0, len(whole), 40):
        (run.path / FILE).write_bytes(whole[:place] + bytes([whole[place] ^ 1]) + whole[place + 1 :])
        with pytest.raises(DamagedError, match=FILE):
            verify(run)
