"""``perfit evaluate`` of a run is a comparison of its base, its collective shift, its users' own shifts and the floors."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
from small_base import CONFIG, LABELS, TASK, TASK_RECORD, dataset

from perfit.comparison.bench import Bench
from perfit.comparison.folder import ComparisonFolder
from perfit.comparison.plan import Plan
from perfit.comparison.results import Results, load_results
from perfit.comparison.runner import run as compare
from perfit.comparison.sections import Section, sections
from perfit.comparison.table import Table, make_table
from perfit.data.schema import HistoryItem, User
from perfit.evaluation.best_floor import above_floors, headline_metrics
from perfit.evaluation.evaluate import evaluate
from perfit.evaluation.evaluation import Evaluation
from perfit.personalizer import PerFit
from perfit.run import RunDirectory
from perfit.tasks.custom import task_from_mapping
from perfit.tasks.task import Task

# What evaluate calls by the names of owners, compare calls by the names of methods.
SAME = {
    "floor: majority": "floor-majority",
    "floor: user_majority": "floor-user-majority",
    "floor: nearest": "floor-nearest",
    "floor: linear": "floor-linear",
    "floor: mean": "floor-mean",
    "floor: user_mean": "floor-user-mean",
    "base": "base",
    "collective": "perfit-stage-1",
    "personal": "perfit",
}


STARS = task_from_mapping(
    {**TASK_RECORD, "name": "stars", "kind": "rating", "answer_field": "stars", "labels": ["1", "2", "3", "4", "5"]}
)
Both = tuple[Task, Evaluation, Results, Table]


def rated(user: User) -> User:
    """The same person, who gives stars."""
    stars = {label: str(2 * number + 1) for number, label in enumerate(LABELS)}
    items = tuple(
        HistoryItem(item.id, {"text": item.fields["text"], "stars": stars[item.fields["folder"]]})
        for item in user.history
    )
    return replace(user, history=items, queries=tuple(replace(q, gold=stars[q.gold or ""]) for q in user.queries))


@pytest.fixture(scope="module", params=["free", "expected"])
def both(scored: Path, tmp_path_factory: pytest.TempPathFactory, request: pytest.FixtureRequest) -> Both:
    """One run evaluated, and the comparison of the same methods on the same data: labels in free text, and ratings that
    are expected, where the tiny base's scores are none of them 0."""
    folder, data, task = tmp_path_factory.mktemp("both"), dataset(), TASK
    if request.param == "expected":
        task, users, others = STARS, tuple(map(rated, data.users)), tuple(map(rated, data.others))
        data = replace(data, users=users, others=others, task="stars")
    perfit = PerFit.from_pretrained(scored / "base", CONFIG, task=task)
    perfit.fit(data, run=folder / "run", listener=lambda event: None)
    evaluation = evaluate(
        PerFit.from_pretrained(folder / "run"),
        data.users,
        others=data.others,
        answers=request.param,
        with_nll=False,
        run=RunDirectory(folder / "run"),
    )
    bench = Bench(data, task, perfit.backbone, perfit.identity, CONFIG, answers=request.param)
    # By the reverse order, so that nothing is equal for its place.
    methods = tuple(SAME[name] for name in reversed(evaluation.methods))
    compare(bench, Plan(methods, against="perfit-stage-1"), folder / "out")
    results = load_results(ComparisonFolder(folder / "out"))
    return task, evaluation, results, make_table(results)


def test_answers_and_scores_are_the_same_query_for_query_and_user_for_user(
    both: Both,
) -> None:
    task, evaluation, results, _ = both
    assert len({tuple(found.predictions.values()) for found in evaluation.methods.values()}) == len(evaluation.methods)
    for name in evaluation.methods:
        mine, (theirs,) = evaluation.methods[name], results.scored[SAME[name]]
        if task is TASK:
            assert dict(mine.predictions) == dict(theirs.predictions), name
            assert (mine.scores, mine.by_query, mine.users) == (theirs.scores, theirs.by_query, theirs.users), name
        else:  # evaluate asks all owners in one batch: the last digit of a probability is another
            assert mine.scores.metrics == pytest.approx(theirs.scores.metrics, abs=1e-4), name
            assert mine.scores.per_query == pytest.approx(theirs.scores.per_query, abs=1e-4), name
            assert mine.users.mean_of_users == pytest.approx(theirs.users.mean_of_users, abs=1e-4), name


def test_what_both_print_of_a_score_is_the_same_text(both: Both) -> None:
    _, evaluation, _, table = both
    header, rows = evaluation.rows()
    printed: Section = sections(table)[0]
    assert header[1:-1] == list(printed.header[1:])
    cells = {row.name: [cell.text for cell in line] for row, line in zip(table.rows, printed.rows, strict=True)}
    for name, *mine, _ in rows:
        assert mine == cells[SAME[name]][1:], name
    assert any(text != "0.000" for _, *mine, _ in rows for text in mine)


def test_what_was_done_to_users_is_the_same(both: Both) -> None:
    task, evaluation, _, table = both
    effect = evaluation.effects["personal"]
    theirs = next(row for row in table.rows if row.name == "perfit")
    assert theirs.effect is not None
    # Whose the numbers are, and their strengths, are told of a run alone.
    assert effect.answers_changed > 0
    assert task is TASK or (effect.helped, effect.harmed.users) == (1, 1)
    assert replace(effect, against="", users=(), strength_zero=None) == replace(theirs.effect, against="")
    gain, difference = evaluation.helped, theirs.differences[task.primary_metric]
    assert gain is not None
    assert (gain.gain.value, gain.gain.low, gain.gain.high) == pytest.approx(
        (difference.gain, difference.low, difference.high), abs=1e-12
    )
    assert theirs.wins is not None
    assert (gain.helped, gain.harmed, gain.equal) == (theirs.wins.better, theirs.wins.worse, theirs.wins.equal)


def test_the_best_floor_is_the_same_and_as_far_away(both: Both) -> None:
    task, evaluation, _, table = both
    means = {row.name: {name: value.mean for name, value in row.metrics.items()} for row in table.rows}
    floors = [SAME[name] for name in evaluation.methods if name.startswith("floor")]  # of equals the first
    told = above_floors(means, floors, "perfit", task.primary_metric, headline_metrics(task))
    mine = evaluation.above_floors()
    assert [(one.metric, SAME[one.floor], one.value, one.gain) for one in mine] == [
        (one.metric, one.floor, one.value, one.gain) for one in told
    ]
