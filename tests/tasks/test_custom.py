"""A task of one's own, from YAML."""

from __future__ import annotations

from pathlib import Path

import pytest

from perfit.data.schema import HistoryItem, Query
from perfit.errors import ConfigError
from perfit.tasks import custom as custom_module
from perfit.tasks import get_task

FULL = """
name: support_queue
kind: label
prompt: "Which queue? [billing, bugs]\\n ticket: {input} queue:"
input_field: ticket
answer_field: queue
labels: [billing, bugs]
max_new_tokens: 8
"""


def write(tmp_path: Path, text: str) -> Path:
    path = tmp_path / "task.yaml"
    path.write_text(text, encoding="utf-8")
    return path


def test_a_full_task(tmp_path: Path) -> None:
    task = get_task(str(write(tmp_path, FULL)))
    assert (task.name, task.lamp_id, task.labels, task.max_new_tokens) == (
        "support_queue",
        None,
        ("billing", "bugs"),
        8,
    )
    query = task.query_example(Query("q", "it broke", "bugs"))
    item = task.history_example(HistoryItem("h", {"ticket": "it broke", "queue": "bugs"}))
    assert query.prompt == item.prompt == "Which queue? [billing, bugs]\n ticket: it broke queue:"
    assert query.answer == item.answer == "bugs"


def test_the_examples_of_the_docstring_work(tmp_path: Path) -> None:
    doc = custom_module.__doc__ or ""
    blocks = [block for block in doc.split("\n\n") if block.startswith("    name:")]
    tasks = [get_task(write(tmp_path, "\n".join(line[4:] for line in block.splitlines()))) for block in blocks]
    assert [task.name for task in tasks] == ["support_queue", "subject_line"]
    assert tasks[1].primary_metric == "rougeL"


def test_rating_labels_may_be_numbers(tmp_path: Path) -> None:
    text = FULL.replace("kind: label", "kind: rating").replace("[billing, bugs]\nmax", "[1, 2, 2.5]\nmax")
    assert get_task(write(tmp_path, text)).labels == ("1", "2", "2.5")


def test_a_history_prompt_without_field_is_for_text_only(tmp_path: Path) -> None:
    text = FULL.replace("kind: label", "kind: text").replace("labels: [billing, bugs]", 'history_prompt: "queue:"')
    assert get_task(write(tmp_path, text)).body_field is None


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("name: support_queue", "", "name is missing"),
        ("name: support_queue", "name: 7", r"name is 7 \(int\)"),
        ("name: support_queue", "name: ''", "name is empty"),
        ("max_new_tokens: 8", "max_tokens: 8", "'max_tokens' is not a key.*max_new_tokens"),
        ("max_new_tokens: 8", "max_new_tokens: many", "max_new_tokens is 'many'"),
        ("kind: label", "kind: labels", "kind is 'labels'"),
        ("{input}", "{text}", "prompt is"),
        ("input_field: ticket", "input_field: my field", "input_field is 'my field'"),
        ("answer_field: queue", "answer_field: ticket", "shows the model the answer"),
        ("labels: [billing, bugs]", "labels: [yes, no]", r"labels\[0\] is True \(bool\); put it in quotes"),
        ("labels: [billing, bugs]", "labels: billing", "use a list"),
        ("labels: [billing, bugs]", "labels: [1, 2]", r"labels\[0\] is 1"),
        ("labels: [billing, bugs]", "", "needs at least two"),
        ("labels: [billing, bugs]", "labels: [a, b]\nhistory_prompt: '{other}:'", "lacks {ticket}"),
        ("labels: [billing, bugs]", "labels: [a, b]\nmetric: f1", "metric is 'f1'"),
        ("labels: [billing, bugs]", "labels: [a, b", "not YAML at line"),
    ],
)
def test_faults_name_file_field_and_way_out(tmp_path: Path, old: str, new: str, message: str) -> None:
    path = write(tmp_path, FULL.replace(old, new))
    with pytest.raises(ConfigError, match=message) as caught:
        get_task(path)
    assert "task.yaml" in str(caught.value)


def test_a_file_that_is_no_mapping_or_not_there(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="not a list of 'key: value' lines"):
        get_task(write(tmp_path, "- 1"))
    with pytest.raises(ConfigError, match="cannot be read"):
        get_task(tmp_path / "none.yaml")


def test_stop_strings_are_one_text_or_several(tmp_path: Path) -> None:
    assert get_task(write(tmp_path, FULL)).stop == ()
    assert get_task(write(tmp_path, FULL + 'stop: "\\n"\n')).stop == ("\n",)
    assert get_task(write(tmp_path, FULL + 'stop: ["\\n", "ticket:"]\n')).stop == ("\n", "ticket:")


def test_repetition_control_is_off_unless_the_file_names_it(tmp_path: Path) -> None:
    task = get_task(write(tmp_path, FULL))
    assert (task.repetition_penalty, task.no_repeat_ngram) == (1.0, 0)
    task = get_task(write(tmp_path, FULL + "repetition_penalty: 1.3\nno_repeat_ngram: 3\n"))
    assert (task.repetition_penalty, task.no_repeat_ngram) == (1.3, 3)
    with pytest.raises(ConfigError, match=r"task file .*: repetition_penalty: 'much' is not possible"):
        get_task(write(tmp_path, FULL + "repetition_penalty: much\n"))
    with pytest.raises(ConfigError, match=r"task file .*: no_repeat_ngram: 2.5 is not possible"):
        get_task(write(tmp_path, FULL + "no_repeat_ngram: 2.5\n"))


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ("stop: 7", "stop: an object of type int is not possible"),
        ("stop: [yes]", r"stop\[0\]: an object of type bool is no text"),
        ('stop: ""', r"stop\[0\]: '' is empty"),
        ("stop: bug", "the label 'bugs' holds one and could never be answered"),
    ],
)
def test_stop_strings_that_cannot_be_are_refused(line: str, said: str, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=rf"task\.yaml: .*{said}"):
        get_task(write(tmp_path, FULL + line))
