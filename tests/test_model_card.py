"""A run's README.md says what the run is: counts and settings, never who or what; scores come with evaluation and go with erasing."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
from small_base import CONFIG, TASK, dataset

from perfit import model_card
from perfit.belonging import parts_of
from perfit.erasure import erase_user
from perfit.model_card import card, shows_scores, write_first_card
from perfit.personalizer import PerFit
from perfit.run import RunDirectory


@pytest.fixture
def run(scored: Path, tmp_path: Path) -> RunDirectory:
    shutil.copytree(scored / "run", tmp_path / "run")
    return RunDirectory(tmp_path / "run")


def text_of(run: RunDirectory) -> str:
    return (run.path / "README.md").read_text(encoding="utf-8")


def test_it_says_what_the_run_is(run: RunDirectory) -> None:
    text = text_of(run)
    for fact in (
        *("base, LlamaForCausalLM, 3 layers of 32", "folders (label, 3 labels)", "3 users, 3 others for stage 1"),
        *("layers 0, 1, tokens l3 of the prompt", "910 shared (rank 4 and 3), 390 a user", "| seed | 0 |"),
        *("stage 1: 2 epochs of batches of 4 at 0.02", "PerFit.from_pretrained", "| personal "),
    ):
        assert fact in text, fact


def test_it_names_nobody_and_quotes_nothing(run: RunDirectory) -> None:
    text, data = text_of(run), dataset()
    secret = [user.id for user in (*data.users, *data.others)]
    secret += [item.fields["text"] for user in data.users for item in user.history]
    secret += [query.input for user in data.users for query in user.queries]
    assert [one for one in secret if one in text] == []
    assert TASK.prompt not in text
    assert str(run.path.parent) not in text


def test_training_again_leaves_the_scores_and_a_run_without_a_card_gets_one(run: RunDirectory) -> None:
    told = text_of(run)
    write_first_card(run)
    assert text_of(run) == told == card(run, (run.path / "metrics.md").read_text(encoding="utf-8"))
    run.create(run.manifest())
    write_first_card(run)
    assert "Nothing yet" in text_of(run)


def test_scores_that_an_erased_user_had_a_part_in_go(run: RunDirectory) -> None:
    assert shows_scores(run)
    told = {deed.path.name: deed.what for deed in erase_user("ben", run.path).deeds}
    assert told["README.md"] == "scores taken out"
    assert "Nothing yet" in text_of(run)
    assert card(run) == text_of(run)


def test_an_erasure_killed_between_scores_and_card_ends_with_a_card_without(run: RunDirectory) -> None:
    for name in ("metrics.md", "metrics.json"):
        (run.path / name).unlink()
    erase_user("ben", run.path)
    assert "Nothing yet" in text_of(run)


def test_a_copy_has_one(run: RunDirectory, tmp_path: Path) -> None:
    PerFit.from_pretrained(run.path).save_pretrained(tmp_path / "copy")
    text = text_of(RunDirectory(tmp_path / "copy"))
    assert "| trained on | not kept here |" in text
    assert "Nothing yet" in text


def test_strengths_by_the_own_history_are_not_told_as_one_for_all(
    run: RunDirectory, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert "| strength | 1 |" in card(run)
    config, *rest = parts_of(run)
    tried = config.with_options(strength=0.75, held_out=0.2, strength_prior=-0.5)
    monkeypatch.setattr(model_card, "parts_of", lambda run: (tried, *rest))
    assert "at most 0.75: a trial on the newest 0.2 of the history, prior -0.5 nats" in card(run)


def test_training_alone_writes_one(scored: Path, tmp_path: Path) -> None:
    perfit = PerFit.from_pretrained(scored / "base", CONFIG, task=TASK)
    perfit.fit(dataset(), run=tmp_path / "new", listener=lambda event: None)
    assert text_of(RunDirectory(tmp_path / "new")) == card(RunDirectory(tmp_path / "new"))
