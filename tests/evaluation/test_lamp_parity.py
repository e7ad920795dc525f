"""Our scores against the published semantics of LaMP's evaluator, case by case and by a twin written from them.

The semantics: outputs are stripped and nothing else; a label outside the list is wrong, and macro-F1 averages over the whole
list; a rating that is no number becomes whichever of 1.0 and 5.0 is farther from the gold (5.0 from 3); texts are scored
by rouge_score's F-measure without stemming; ids must agree; all queries are pooled.
"""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from perfit.errors import DataError
from perfit.evaluation.lamp_format import score_lamp_files
from perfit.evaluation.score import score
from perfit.tasks import get_task
from perfit.tasks.task import Task

CASES = [
    # task, [(prediction, gold)], metrics by hand
    ("LaMP_2N", [("politics", "politics")], {"accuracy": 1, "macro_f1": 1 / 15}),
    ("LaMP_2N", [(" politics\n", "politics")], {"accuracy": 1, "macro_f1": 1 / 15}),
    ("LaMP_2N", [("Politics", "politics")], {"accuracy": 0, "macro_f1": 0}),
    ("LaMP_2N", [("politics.", "politics")], {"accuracy": 0, "macro_f1": 0}),
    ("LaMP_2N", [("category: politics", "politics")], {"accuracy": 0, "macro_f1": 0}),
    ("LaMP_2N", [("", "politics")], {"accuracy": 0, "macro_f1": 0}),
    # politics: 1 hit, 2 answers, 1 gold: F1 2/3; sports: 1 hit, 1 answer, 2 golds: 2/3.
    (
        "LaMP_2N",
        [("politics", "politics"), ("politics", "sports"), ("sports", "sports")],
        {"accuracy": 2 / 3, "macro_f1": (2 / 3 + 2 / 3) / 15},
    ),
    # An answer outside the list costs recall of its gold only: F1 of politics 2 · 1 · ½ / 1½.
    ("LaMP_2N", [("politics", "politics"), ("pop music", "politics")], {"accuracy": 0.5, "macro_f1": (2 / 3) / 15}),
    ("LaMP_2M", [("sci-fi", "sci-fi"), ("comedy", "action")], {"accuracy": 0.5, "macro_f1": 1 / 15}),
    ("LaMP_3", [("4", "5"), ("1", "1")], {"mae": 0.5, "rmse": 0.5**0.5}),
    ("LaMP_3", [("4.0", "4"), (" 3\n", "4")], {"mae": 0.5, "rmse": 0.5**0.5}),
    ("LaMP_3", [("good", "5")], {"mae": 4, "rmse": 4}),
    ("LaMP_3", [("good", "1")], {"mae": 4, "rmse": 4}),
    ("LaMP_3", [("good", "3")], {"mae": 2, "rmse": 2}),
    ("LaMP_3", [("4 stars", "4")], {"mae": 3, "rmse": 3}),
    ("LaMP_3", [("", "2")], {"mae": 3, "rmse": 3}),
    ("LaMP_3", [("200", "5"), ("5", "5")], {"mae": 97.5, "rmse": (195**2 / 2) ** 0.5}),
    ("LaMP_4", [("The cat sat", "the cat sat!")], {"rouge1": 1, "rougeL": 1}),
    # 2 of 3 words of the answer and 2 of 4 of the gold: F 2·(2/3)(1/2)/(7/6) = 4/7; in order only one: 2·(1/3)(1/4)/(7/12).
    ("LaMP_4", [("cat the dog", "the big cat sat")], {"rouge1": 4 / 7, "rougeL": 2 / 7}),
    ("LaMP_4", [("", "the cat")], {"rouge1": 0, "rougeL": 0}),
    ("LaMP_5", [("learn models", "learning model")], {"rouge1": 0, "rougeL": 0}),
    # Runs on: recall 1, precision 2/8.
    ("LaMP_5", [("deep nets and then it goes on and", "Deep nets")], {"rouge1": 0.4, "rougeL": 0.4}),
    ("LaMP_7", [("a a a", "a b")], {"rouge1": 2 * (1 / 3) * 0.5 / (5 / 6), "rougeL": 0.4}),
]


def files(folder: Path, task: str, pairs: list[tuple[str, str]]) -> tuple[Path, Path]:
    for name, side in (("predictions.json", 0), ("gold.json", 1)):
        golds = [{"id": str(n), "output": pair[side]} for n, pair in enumerate(pairs)]
        (folder / name).write_text(json.dumps({"task": task, "golds": golds}))
    return folder / "predictions.json", folder / "gold.json"


@pytest.mark.parametrize(("task", "pairs", "wanted"), CASES)
def test_files_of_the_public_format_score_as_by_hand(
    tmp_path: Path, task: str, pairs: list[tuple[str, str]], wanted: dict[str, float]
) -> None:
    scores = score_lamp_files(*files(tmp_path, task, pairs))
    assert {name: scores.metrics[name] for name in wanted} == pytest.approx(wanted)


def test_ids_must_agree(tmp_path: Path) -> None:
    predictions, golds = files(tmp_path, "LaMP_3", [("4", "5"), ("1", "1")])
    record = json.loads(predictions.read_text())
    record["golds"][1]["id"] = "7"
    predictions.write_text(json.dumps(record))
    with pytest.raises(DataError, match=r"1 queries without prediction \(1\); 1 predictions without gold \(7\)"):
        score_lamp_files(predictions, golds)


def published(task: Task, predictions: list[str], golds: list[str]) -> dict[str, float]:
    """The evaluator, written anew from its description, with the libraries it uses."""
    from sklearn.metrics import accuracy_score, f1_score, mean_absolute_error, mean_squared_error

    if task.kind == "label":
        index = {label: place for place, label in enumerate(task.labels)}
        found = [index.get(text.strip(), -1) for text in predictions]
        wanted = [index[text.strip()] for text in golds]
        f1 = f1_score(wanted, found, average="macro", labels=list(range(len(index))), zero_division=0)
        return {"accuracy": float(accuracy_score(wanted, found)), "macro_f1": float(f1)}
    numbers = []
    for text, gold in zip(predictions, golds, strict=True):
        try:
            numbers.append(float(text.strip()))
        except ValueError:
            numbers.append(1.0 if abs(1 - float(gold)) > abs(5 - float(gold)) else 5.0)
    wanted = [float(gold) for gold in golds]
    return {
        "mae": float(mean_absolute_error(wanted, numbers)),
        "rmse": float(np.sqrt(mean_squared_error(wanted, numbers))),
    }


ANSWERS = {
    "LaMP_2N": st.sampled_from(["politics", " sports ", "Sports", "crime\n", "", "a crime", "music"]),
    "LaMP_3": st.sampled_from(["1", "5", " 3.5\n", "1e1", "-2", "five", "", "4/5", "5."]),
}
GOLDS = {"LaMP_2N": ("politics", "sports", "crime"), "LaMP_3": ("1", "2", "3", "4", "5")}


@pytest.mark.parametrize("name", list(ANSWERS))
@settings(max_examples=30)
@given(data=st.data())
def test_scores_are_the_twins(name: str, data: st.DataObject) -> None:
    pairs = data.draw(st.lists(st.tuples(ANSWERS[name], st.sampled_from(GOLDS[name])), min_size=1, max_size=8))
    task = get_task(name)
    predictions, golds = [pair[0] for pair in pairs], [pair[1] for pair in pairs]
    ids = [str(n) for n in range(len(pairs))]
    scores = score(task, dict(zip(ids, predictions, strict=True)), dict(zip(ids, golds, strict=True)))
    assert dict(scores.metrics) == pytest.approx(published(task, predictions, golds))


def test_where_we_mean_to_differ() -> None:
    """Python reads "nan" and "inf" as numbers, which would make the whole table NaN or infinite: no number to us."""
    for text in ("nan", "inf", "-Infinity"):
        assert score(get_task("LaMP_3"), {"1": text}, {"1": "5"}).metrics["mae"] == 4
