"""What docs/footguns.md says happens, happens."""

from __future__ import annotations

import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from small_base import CONFIG, TASK, dataset, write_base

from perfit.config import PerFitConfig, small_preset
from perfit.data import read_dataset
from perfit.data.jsonl import write_jsonl
from perfit.data.schema import Dataset, HistoryItem, Query, User
from perfit.errors import BaseModelError, ConfigError, LeakError, StoreError
from perfit.evaluation.effect import effect_of
from perfit.personalizer import PerFit
from perfit.tasks import get_task


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_base(tmp_path_factory.mktemp("base"))


def trained(base: Path, run: Path | None = None, **settings: Any) -> PerFit:
    perfit = PerFit.from_pretrained(base, CONFIG.with_options(**settings), task=TASK)
    perfit.fit(dataset(), run=run, listener=lambda event: None)
    return perfit


def test_a_prompt_as_text_is_put_into_the_prompt(base: Path) -> None:
    perfit = PerFit.from_pretrained(base, CONFIG, task=TASK)
    whole = TASK.query_example(perfit.query("a note")).prompt
    assert TASK.query_example(perfit.query(whole)).prompt.count("Which folder?") == 2


def test_dates_put_a_history_right_and_without_them_the_file_stands(tmp_path: Path) -> None:
    new, old = {"text": "new", "folder": "work"}, {"text": "old", "folder": "work"}
    for name, items in {
        "none": (HistoryItem("0", new), HistoryItem("1", old)),
        "some": (HistoryItem("0", new, "2020-02-01"), HistoryItem("1", old)),
        "all": (HistoryItem("0", new, "2020-02-01"), HistoryItem("1", old, "2020-01-01")),
    }.items():
        write_jsonl(Dataset((User(name, items),)), tmp_path / "users.jsonl")
        read = read_dataset(tmp_path / "users.jsonl")
        first = "old" if name == "all" else "new"
        assert read.users[0].history[0].fields["text"] == first
        assert bool(read.notes) == (name != "none")


def test_a_leak_stops_the_training(base: Path) -> None:
    text = "seven words that nobody else would write"
    own = User("anna", (HistoryItem("0", {"text": text, "folder": "work"}),), (Query("q", text, "work"),))
    perfit = PerFit.from_pretrained(base, CONFIG, task=TASK)
    with pytest.raises(LeakError, match="leaks of test answers"):
        perfit.fit([own], listener=lambda event: None)


def test_a_config_has_the_presets_values_once_it_meets_a_base_and_a_task(base: Path) -> None:
    plain, preset = PerFitConfig(), small_preset(3, "label", hidden_size=32)
    assert (plain.layers, plain.strength) == ((9, 10), 1.0)
    perfit = PerFit.from_pretrained(base, plain, task=TASK)
    assert perfit.config == preset
    for given in (plain, None):  # made of its parts as well
        assert PerFit(perfit.backbone, TASK, given, perfit.identity).config == preset
    assert PerFit.from_pretrained(base, PerFitConfig(strength=1.0), task=TASK).config == preset.with_options(
        strength=1.0
    )
    assert PerFit.from_pretrained(base, replace(plain, layers=(0,)), task=TASK).config == replace(plain, layers=(0,))


@pytest.mark.parametrize(("setting", "value"), [("dtype", "bfloat16"), ("strength", 0.5)])
def test_what_a_run_was_trained_with_stays(base: Path, tmp_path: Path, setting: str, value: Any) -> None:
    trained(base, tmp_path)
    with pytest.raises(StoreError, match=f"holds another run.*{setting}"):
        trained(base, tmp_path, **{setting: value})
    with pytest.raises(ConfigError, match="brings its own config"):
        PerFit.from_pretrained(tmp_path, CONFIG)
    assert PerFit.from_pretrained(tmp_path).strength_of("anna") == CONFIG.strength


def test_who_shares_a_batch_moves_the_last_digits(base: Path) -> None:
    texts = [query.input for user in dataset().users for query in user.queries]
    for dtype, least, most in (("float32", 0.0, 1e-4), ("bfloat16", 1e-4, 0.1)):
        perfit = trained(base, dtype=dtype)
        alone = torch.cat([perfit.score_labels([text], ["anna"]) for text in texts])
        together = perfit.score_labels(texts, ["anna"] * len(texts))
        assert least <= float((alone - together).abs().max()) <= most


@pytest.mark.parametrize(("users", "high"), [(2, 0.66), (10, 0.28)])
def test_no_harm_among_few_users_says_little(users: int, high: float) -> None:
    people = [User(f"user {n}", (), (Query(f"{n}", "a note", "work"),)) for n in range(users)]
    same = {f"{n}": 1.0 for n in range(users)}
    history = {user.id: 0 for user in people}
    of = {"higher_is_better": True, "metric": "accuracy", "against": "collective"}
    harmed = effect_of(same, same, people, answers_changed=0.0, history=history, **of).harmed  # type: ignore[arg-type]
    assert (harmed.users, harmed.low) == (0, 0.0)
    assert harmed.high == pytest.approx(high, abs=0.005)


def test_past_items_are_needed_when_it_answers(base: Path) -> None:
    perfit = trained(base, retrieved=1)
    with pytest.raises(ConfigError, match="no history was given"):
        perfit.generate(["a note"], ["anna"])
    assert len(perfit.generate(["a note"], ["anna"], askers=[dataset().users[0]])) == 1


@pytest.mark.parametrize(("layers", "said"), [((-1,), "count from 0"), ((3,), "choose from 0 to 2")])
def test_layers_count_from_zero(base: Path, layers: tuple[int, ...], said: str) -> None:
    with pytest.raises(ConfigError, match=said):
        PerFit.from_pretrained(base, CONFIG.with_options(layers=layers), task=TASK)


def test_yes_is_no_text_in_yaml(tmp_path: Path) -> None:
    lines = "name: t\nkind: label\nprompt: 'a {input}'\ninput_field: text\nanswer_field: label\n"
    (tmp_path / "task.yaml").write_text(f"{lines}labels: [yes, no]\n")
    with pytest.raises(ConfigError, match="put it in quotes"):
        get_task(tmp_path / "task.yaml")
    (tmp_path / "task.yaml").write_text(f'{lines}labels: ["yes", "no"]\n')
    assert get_task(tmp_path / "task.yaml").labels == ("yes", "no")


def test_a_long_text_loses_its_end_and_that_is_counted(base: Path) -> None:
    events: list[dict[str, Any]] = []
    perfit = trained(base, max_length=40)
    perfit.generate(["word " * 200], ["anna"], listener=events.append)
    assert [event.text for event in events] == ["1 shortened prompts"]


def test_a_moved_base_is_named_anew(base: Path, tmp_path: Path) -> None:
    shutil.copytree(base, tmp_path / "base")
    trained(tmp_path / "base", tmp_path / "run")
    shutil.move(tmp_path / "base", tmp_path / "moved")
    with pytest.raises(BaseModelError, match="no such folder"):
        PerFit.from_pretrained(tmp_path / "run")
    assert PerFit.from_pretrained(tmp_path / "run", base_at=tmp_path / "moved").users()


def test_nobody_is_told_of_progress_but_of_who_was_skipped(base: Path, capsys: pytest.CaptureFixture[str]) -> None:
    perfit = PerFit.from_pretrained(base, CONFIG, task=TASK)
    results = perfit.fit([*dataset().users, User("empty")])
    assert [result.name for result in results if result.problem] == ["empty"]
    said = capsys.readouterr().err
    assert "empty" in said
    assert "step" not in said
