"""The evaluator's files."""

from __future__ import annotations

import gzip
import json
from dataclasses import replace
from pathlib import Path

import pytest

from perfit.errors import DamagedError, DataError, PerfitError
from perfit.evaluation.lamp_format import read_lamp, score_lamp_files, write_lamp
from perfit.tasks import get_task

NEWS, FILMS, TITLE = get_task("2N"), get_task("2M"), get_task("5")


@pytest.mark.parametrize("name", ["golds.json", "golds.json.gz"])
def test_what_is_written_is_read(tmp_path: Path, name: str) -> None:
    outputs = {"1": "crime", "2": "日本語 title"}
    write_lamp(tmp_path / name, NEWS, outputs, model="perfit")
    assert read_lamp(tmp_path / name).outputs == outputs
    assert read_lamp(tmp_path / name).task == "LaMP_2N"
    assert [path.name for path in tmp_path.iterdir()] == [name]


def test_the_form_is_the_evaluator_s(tmp_path: Path) -> None:
    write_lamp(tmp_path / "p.json", NEWS, {"1": "crime"}, model="perfit")
    written = json.loads((tmp_path / "p.json").read_text())
    assert len(written.pop("sha256")) == 64
    assert written == {
        "task": "LaMP_2N",
        "golds": [{"id": "1", "output": "crime"}],
        "model": "perfit",
    }


def test_no_changed_answer_of_ours_is_scored(tmp_path: Path) -> None:
    path = tmp_path / "p.json"
    write_lamp(path, NEWS, {"1": "crime", "2": "日本語 title"}, model="perfit")
    whole, said = path.read_bytes(), []
    for place in range(len(whole)):
        path.write_bytes(whole[:place] + bytes([whole[place] ^ 4]) + whole[place + 1 :])
        try:
            read_lamp(path)
        except PerfitError as error:
            said.append(str(error))
    # A change of the checksum's own name hides it, and nothing else.
    assert len(whole) - len(said) <= len("sha256")
    assert all(len(line.splitlines()) == 1 for line in said)
    path.write_bytes(whole.replace(b"crime", b"grime"))
    with pytest.raises(DamagedError, match="make it again, or remove its 'sha256' if you changed it yourself"):
        read_lamp(path)


def test_scoring_two_files(tmp_path: Path) -> None:
    write_lamp(tmp_path / "gold.json", NEWS, {"1": "crime", "2": "sports"})
    write_lamp(tmp_path / "pred.json", NEWS, {"2": "sports", "1": "sports"})
    assert score_lamp_files(tmp_path / "pred.json", tmp_path / "gold.json").metrics["accuracy"] == 0.5


@pytest.mark.parametrize("published", ["LaMP_2", "LaMP_8"])
@pytest.mark.parametrize(("task", "label"), [(NEWS, "crime"), (FILMS, "comedy")])
def test_ambiguous_published_ids_are_resolved_by_the_labels(tmp_path: Path, published: str, task, label: str) -> None:  # type: ignore[no-untyped-def]
    write_lamp(tmp_path / "gold.json", replace(task, lamp_id=published), {"1": label})
    write_lamp(tmp_path / "pred.json", task, {"1": label})
    assert score_lamp_files(tmp_path / "pred.json", tmp_path / "gold.json").task == task.name


def test_golds_of_two_tasks_are_of_neither(tmp_path: Path) -> None:
    write_lamp(tmp_path / "gold.json", replace(NEWS, lamp_id="LaMP_2"), {"1": "crime", "2": "comedy"})
    with pytest.raises(DataError, match="the labels are of neither"):
        score_lamp_files(tmp_path / "gold.json", tmp_path / "gold.json")


def test_a_task_of_one_s_own(tmp_path: Path) -> None:
    own = replace(TITLE, name="subjects", lamp_id=None)
    write_lamp(tmp_path / "gold.json", own, {"1": "a"})
    write_lamp(tmp_path / "pred.json", own, {"1": "a"})
    assert score_lamp_files(tmp_path / "pred.json", tmp_path / "gold.json", task=own).task == "subjects"
    with pytest.raises(DataError, match="'subjects' is none of LaMP_2N"):
        score_lamp_files(tmp_path / "pred.json", tmp_path / "gold.json")


def test_files_of_two_tasks_are_refused(tmp_path: Path) -> None:
    write_lamp(tmp_path / "gold.json", NEWS, {"1": "crime"})
    write_lamp(tmp_path / "pred.json", TITLE, {"1": "crime"})
    with pytest.raises(DataError, match="the task is 'LaMP_5', but the golds are of 'LaMP_2N'"):
        score_lamp_files(tmp_path / "pred.json", tmp_path / "gold.json")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("<html>", "this is a web page"),
        ("[]", "expected an object, found a list"),
        ('{"golds": []}', "the field 'task' is missing"),
        ('{"task": ["LaMP_2N"], "golds": []}', "the field 'task' is a list, not text"),
        ('{"task": "LaMP_2N"}', "the list 'golds' is missing"),
        ('{"task": "LaMP_2N", "golds": [7]}', r"golds\[0\]: expected an object, found a number"),
        (
            '{"task": "LaMP_2N", "golds": [{"id": [1], "output": "private"}]}',
            r"golds\[0\]: the field 'id' is a list, not",
        ),
        ('{"task": "LaMP_2N", "golds": [{"id": "1"}]}', r"golds\[0\]: the field 'output' is missing"),
        ('{"task": "LaMP_2N", "golds": [{"id": "1", "output": "\\ud83d private"}]}', "half a surrogate pair"),
        ('{"task": "t", "golds": [{"id": "1", "id": "2", "output": "private"}]}', "the field 'id' is named twice"),
        (
            '{"task": "t", "golds": [{"id": "1", "output": ""}, {"id": 1, "output": ""}]}',
            "the query id was used before",
        ),
    ],
)
def test_damaged_files_are_named(tmp_path: Path, text: str, message: str) -> None:
    path = tmp_path / "gold.json"
    path.write_text(text)
    with pytest.raises(DataError, match=message) as caught:
        read_lamp(path)
    assert "gold.json" in str(caught.value)
    assert "private" not in str(caught.value)


def test_damaged_gzip_and_missing_files(tmp_path: Path) -> None:
    (tmp_path / "x.json.gz").write_bytes(b"plain")
    with pytest.raises(DataError, match="the gzip file is cut short or damaged"):
        read_lamp(tmp_path / "x.json.gz")
    (tmp_path / "y.json.gz").write_bytes(b"\x1f\x8b\x08\x00\x00\x00\x00\x00\x00\x03broken data")
    with pytest.raises(DataError, match=r"y\.json\.gz"):
        read_lamp(tmp_path / "y.json.gz")
    with pytest.raises(DataError, match="no such file"):
        read_lamp(tmp_path / "none.json")


def test_answers_are_read_as_users_files_are(tmp_path: Path) -> None:
    path = tmp_path / "GOLD.JSON.GZ"
    path.write_bytes(gzip.compress(b'\xef\xbb\xbf{"task": "LaMP_3", "golds": [{"id": 7, "output": 4.0}]}'))
    assert read_lamp(path).outputs == {"7": "4"}
