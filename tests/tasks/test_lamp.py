"""The LaMP prompts are protocol: one wrong blank and the numbers are no longer comparable."""

from __future__ import annotations

import json
import subprocess
import sys

import pytest
from needed_data import data_folder, without

from perfit.errors import ConfigError
from perfit.tasks import LAMP_TASKS, Task, get_task

REFERENCE = data_folder().parents[1] / "facts" / "oppu_prompt.json"


@pytest.mark.parametrize("task", LAMP_TASKS, ids=lambda task: task.name)
def test_prompts_equal_the_reference_byte_for_byte(task: Task) -> None:
    if not REFERENCE.exists():
        without("the reference prompts (facts/oppu_prompt.json) are not near the data sets; set PERFIT_DATA")
    reference = json.loads(REFERENCE.read_text(encoding="utf-8"))[task.name]
    answer = f"{{{task.history_answer}}}"
    assert task.prompt.replace("{input}", "{}") == reference["prompt"]
    assert task.prompt.replace("{input}", "{}") + " {}" == reference["full_prompt"]
    assert task.history_prompt == reference["OPPU_input"]
    assert f"{task.history_prompt} {answer}" == reference["OPPU_full"]
    assert task.retrieval_item == reference["retrieval_history"]
    assert task.retrieval_query.replace("{input}", "{}") == reference["retrieval_query_wokey"]


def test_the_oddities_of_the_reference_are_kept() -> None:
    assert get_task("LaMP_4").prompt == "Generate a headline for the following article.\narticle: {input} headline:"
    assert (
        get_task("LaMP_4").history_prompt
        == "Generate a headline for the following article.\n article: {text} headline:"
    )
    assert get_task("LaMP_7").history_prompt == "tweet:"
    assert get_task("LaMP_7").history_answer == "text"
    assert get_task("LaMP_2N").retrieval_query.endswith("categories? arcicle: {input}")
    assert get_task("LaMP_3").prompt.endswith(". review: {input}\n score:")


def test_label_lists_have_the_evaluator_s_order_and_length() -> None:
    news, films, ratings = (get_task(name).labels for name in ("2N", "2M", "3"))
    assert (len(news), news[0], news[-1]) == (15, "travel", "religion")
    assert (len(films), films[0], films[-1]) == (15, "sci-fi", "true story")
    assert ratings == ("1", "2", "3", "4", "5")


@pytest.mark.parametrize(
    ("task", "marker"),
    [
        ("LaMP_2N", "] article: "),
        ("LaMP_2M", "] description: "),
        ("LaMP_3", "without further explanation. review: "),
        ("LaMP_4", "Generate a headline for the following article: "),
        ("LaMP_5", "Generate a title for the following abstract of a paper: "),
        ("LaMP_7", "Paraphrase the following tweet without any explanation before or after it: "),
    ],
)
def test_markers(task: str, marker: str) -> None:
    assert get_task(task).marker == marker


def test_word_limits_and_generation_limit_of_the_protocol() -> None:
    for task in LAMP_TASKS:
        assert (task.query_words, task.history_words, task.retrieval_words, task.max_new_tokens) == (768, 768, 368, 200)


@pytest.mark.parametrize("name", ["news_categorize", "LaMP_2N", "LaMP-2N", "2N", "lamp_2n"])
def test_a_task_is_found_by_any_of_its_names(name: str) -> None:
    assert get_task(name).name == "news_categorize"


@pytest.mark.parametrize("name", ["", "LaMP_1", "LaMP_2", "news", "lamp"])
def test_an_unknown_name_lists_the_known_ones(name: str) -> None:
    with pytest.raises(ConfigError, match=r"movie_tagging \(LaMP_2M\).*tweet_paraphrase"):
        get_task(name)


def test_importing_tasks_imports_nothing_heavy() -> None:
    code = "import sys, perfit.tasks; print({'torch', 'transformers', 'yaml', 'sklearn'} & set(sys.modules))"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True).stdout.strip() == "set()"
