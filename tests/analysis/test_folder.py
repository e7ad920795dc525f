"""Names, excerpts and a trained run in the folder of an analysis."""

from __future__ import annotations

from pathlib import Path

import pytest
import small_base
from made import deltas_of
from planted import noise

from perfit.analysis.excerpts import read_texts, save_texts
from perfit.analysis.extract import extract
from perfit.analysis.folder import measured, task_folder, write_report
from perfit.analysis.recipe import Recipe
from perfit.analysis.runs import gains_of, tables_of_run
from perfit.backbone.model import Backbone
from perfit.errors import ConfigError, DamagedError, StoreError
from perfit.evaluation.evaluate import evaluate
from perfit.personalizer import PerFit
from perfit.run import RunDirectory
from perfit.tasks import get_task

USERS = small_base.dataset(("anna", "ben", "cleo", "dora"), queries=4).users


@pytest.mark.parametrize(("name", "folder"), [("../my task", "_my_task"), ("..", "_"), (".", "_")])
def test_a_tasks_name_stays_inside_the_folder(tmp_path: Path, name: str, folder: str) -> None:
    assert task_folder(tmp_path, name, "test").parent == tmp_path / folder


def test_damaged_and_missing_parts_are_said(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="no δ-vectors"):
        write_report(tmp_path)
    one = deltas_of({0: {"history": noise()}}, variants=("history",))
    one.save(task_folder(tmp_path, one.task, one.group))
    assert [found.task for found in measured(tmp_path)] == ["folders"]
    with pytest.raises(ConfigError, match="layer: 7 was not measured"):
        write_report(tmp_path, layer=7)
    (tmp_path / "folders" / "test" / "texts.json").write_text("[]")
    with pytest.raises(DamagedError, match=r"texts\.json: is not a JSON object; delete it"):
        write_report(tmp_path)


def test_excerpts_are_answers_of_free_text_and_text_with_answer_elsewhere(tmp_path: Path) -> None:
    from perfit.data.schema import HistoryItem, User

    item = HistoryItem("0", {"text": "long  text " * 40, "category": "travel", "title": "A title"})
    user = User("anna", (item,) * 9)
    save_texts(tmp_path, get_task("news_headline"), [user])
    assert read_texts(tmp_path) == {"anna": ["A title"] * 6}
    save_texts(tmp_path, get_task("news_categorize"), [user])
    text = read_texts(tmp_path)["anna"][0]
    assert text.startswith("travel: long text long")
    assert (len(text), text[-1]) == (160, "…")
    path = tmp_path / "texts.json"
    path.write_text(path.read_text().replace("travel", "Travel"))
    with pytest.raises(DamagedError, match="checksum differs"):
        read_texts(tmp_path)


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory, backbone: Backbone) -> RunDirectory:
    path = tmp_path_factory.mktemp("trained") / "run"
    base = str(tmp_path_factory.mktemp("base"))
    small_base.write_base(Path(base))
    perfit = PerFit.from_pretrained(base, small_base.CONFIG, task=small_base.TASK)
    perfit.fit(small_base.dataset(("anna", "ben", "cleo", "dora"), queries=4), run=path)
    return RunDirectory(path)


def test_a_run_is_compared_layer_by_layer_and_user_by_user(run: RunDirectory, backbone: Backbone) -> None:
    deltas = extract(backbone, small_base.TASK, USERS, Recipe(layers=(0, 1, 2), items=2))
    tables = tables_of_run(run.path, [deltas])
    assert [row["layer"] for row in tables["overlaps"]] == [0, 1]
    assert all(row["users"] == 4 for row in tables["overlaps"])
    assert "gains" not in tables
    result = evaluate(PerFit.from_pretrained(run.path), USERS, run=run)
    tables = tables_of_run(run.path, [deltas])
    assert result.helped is not None
    gains = {row["user"]: row["gain"] for row in tables["gains"]}
    assert sum(gains.values()) / 4 == pytest.approx(result.helped.gain_of_users.value)
    told = [(row["layer"], row["kind"], row["edited"], row["users"]) for row in tables["gain_correlation"]]
    assert told == [(n, kind, n < 2, 4) for n in range(3) for kind in ("history", "other")]
    (run.path / "metrics.json").write_text('{"methods": {"personal": {}, "collective": {}}}')
    with pytest.raises(StoreError, match="run perfit evaluate again"):
        gains_of(run)


def test_a_run_of_another_base_or_task_is_refused(run: RunDirectory) -> None:
    with pytest.raises(ConfigError, match="trained folders on another base"):
        tables_of_run(run.path, [deltas_of({0: {"history": noise()}})])
