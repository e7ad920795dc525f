"""evaluate() on users whose answers are known beforehand: scores by hand, files, what is left out."""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from small_base import CONFIG, TASK, dataset, write_base

from perfit.data.schema import HistoryItem, Query, User
from perfit.errors import ConfigError, DataError, UnknownUserError
from perfit.evaluation.evaluate import METHODS, evaluate
from perfit.evaluation.evaluation import Evaluation
from perfit.evaluation.lamp_format import read_lamp
from perfit.evaluation.written import read_metrics
from perfit.events import Warned
from perfit.inference.answer_scores import AnswerScore
from perfit.inference.decoding import Decoding
from perfit.personalizer import PerFit
from perfit.run import RunDirectory
from perfit.tasks import get_task
from perfit.tombstones import Tombstones


def past(*folders: str) -> tuple[HistoryItem, ...]:
    return tuple(HistoryItem(str(n), {"text": "t", "folder": folder}) for n, folder in enumerate(folders))


USERS = (
    User(
        "anna",
        past("work", "work", "family"),
        (Query("a1", "x", "work"), Query("a2", "y", "family"), Query("a3", "z", "travel")),
    ),
    User("ben", past("travel", "travel"), (Query("b1", "x", "travel"), Query("b2", "y"))),
    User("cleo", past("work"), (Query("c1", "x", "family"),)),
    User("stranger", past("work"), (Query("s1", "x", "work"),)),
)
# What each owner answers to each query; blanks around an answer do not count, other texts are format failures.
TOLD = {
    "base": {"a1": "dunno", "a2": "family", "a3": "work", "b1": "work", "c1": "work"},
    "collective": {"a1": "work", "a2": "work", "a3": "work", "b1": "travel", "c1": "family"},
    "anna": {"a1": " work ", "a2": "family", "a3": "work"},
    "ben": {"b1": "travel"},
    "cleo": {"c1": "work"},
}


# Minus log-probability of each known answer, by owner; an answer has as many tokens as its query's id says.
LOSSES = {
    "base": {"a1": 9.0, "a2": 9.0, "a3": 9.0, "b1": 9.0, "c1": 9.0},
    "collective": {"a1": 2.0, "a2": 2.0, "a3": 2.0, "b1": 1.0, "c1": 3.0},
    "anna": {"a1": 1.0, "a2": 2.0, "a3": 2.0},
    "ben": {"b1": 1.0},
    "cleo": {"c1": 3.5},
}


class Told:
    """Stands for a trained PerFit: answers from the table."""

    task = TASK

    def __init__(self) -> None:
        self.asked: list[tuple[str, str]] = []
        self.decodings: list[Decoding] = []

    def users(self) -> list[str]:
        return ["anna", "ben", "cleo", "silent"]

    def answer_limit(self) -> int:
        return 5

    def generate(
        self,
        queries: Sequence[Query],
        owners: Sequence[str],
        *,
        askers: Sequence[User],
        decoding: Decoding,
        done: Any,
        listener: Any,
    ) -> list[str]:
        assert all(query in asker.queries for query, asker in zip(queries, askers, strict=True))
        self.asked += [(owner, query.id) for owner, query in zip(owners, queries, strict=True)]
        self.decodings.append(decoding)
        done(len(queries))
        listener(Warned("3 shortened prompts"))
        return [TOLD[owner][query.id] for owner, query in zip(owners, queries, strict=True)]

    def score_answers(
        self, queries: Sequence[Query], owners: Sequence[str], *, askers: Sequence[User], done: Any
    ) -> list[AnswerScore]:
        assert all(query in asker.queries for query, asker in zip(queries, askers, strict=True))
        done(len(queries))
        return [
            AnswerScore(-LOSSES[owner].get(query.id, 1.0), 1 + int(query.id[-1]))
            for owner, query in zip(owners, queries, strict=True)
        ]

    def strength_of(self, user: str) -> float:
        return {"ben": 0.0, "cleo": 0.25}.get(user, 1.0)


def run_it(**options: Any) -> Evaluation:
    return evaluate(Told(), USERS, **options)  # type: ignore[arg-type]


def test_scores_are_those_computed_by_hand() -> None:
    result = run_it()
    floors = ["floor: majority", "floor: user_majority", "floor: nearest", "floor: linear"]
    assert list(result.methods) == [*floors, "base", "collective", "personal"]
    accuracy = {name: found.scores.metrics["accuracy"] for name, found in result.methods.items()}
    # 5 queries: a1 work, a2 family, a3 travel, b1 travel, c1 family
    assert accuracy == {
        "floor: majority": pytest.approx(1 / 5),  # work, 3 of 6 past items
        "floor: user_majority": pytest.approx(2 / 5),  # a1 and b1
        "floor: nearest": pytest.approx(2 / 5),  # no word in common: the last item, right for a2 and b1
        "floor: linear": pytest.approx(2 / 5),  # texts are all the same: who asks decides, as in the user's majority
        "base": pytest.approx(1 / 5),
        "collective": pytest.approx(3 / 5),
        "personal": pytest.approx(3 / 5),
    }
    of_users = {name: found.users.mean_of_users for name, found in result.methods.items()}
    assert of_users["personal"] == pytest.approx((2 / 3 + 1 + 0) / 3)
    assert of_users["collective"] == pytest.approx((1 / 3 + 1 + 1) / 3)
    assert result.methods["base"].scores.format_failure_rate == pytest.approx(1 / 5)
    assert result.methods["personal"].predictions["a1"] == "work"


def test_helped_and_harmed_users_are_counted() -> None:
    helped = run_it().helped
    assert helped is not None
    assert (helped.helped, helped.harmed, helped.equal) == (1, 1, 1)  # anna, cleo, ben
    assert helped.gain.value == pytest.approx(0)
    assert run_it(methods=["personal"]).helped is None
    assert run_it(methods=["base", "personal"]).helped is None


def test_the_gain_is_personal_over_collective_and_not_the_other_way(monkeypatch: pytest.MonkeyPatch) -> None:
    # anna gains a2 and loses nothing, cleo stays: helped 1, harmed 0, and 4 of 5 right against 3 of 5.
    monkeypatch.setitem(TOLD, "cleo", {"c1": "family"})
    monkeypatch.setitem(LOSSES, "cleo", {"c1": 3.0})
    result = run_it()
    helped = result.helped
    assert helped is not None
    assert (helped.helped, helped.harmed, helped.equal) == (1, 0, 2)
    assert helped.gain.value == pytest.approx(1 / 5)
    assert helped.gain.low is not None
    assert 0 <= helped.gain.low <= 1 / 5
    (line,) = [line for line in result.summary() if line.startswith("personal against collective")]
    assert "helps 1 users, harms 0, leaves 2; gain in accuracy +0.200" in line


def test_the_effect_counts_answers_users_and_strengths_as_by_hand() -> None:
    result = run_it()
    effect, nll = result.effects["personal"], result.nll
    assert effect is not None
    assert nll is not None
    # a2: work, then family; c1: family, then work; the other three answers stay (" work " is "work").
    assert effect.answers_changed == pytest.approx(2 / 5)
    assert [(one.user, one.outcome, one.worse) for one in effect.users] == [
        ("anna", "helped", False),
        ("ben", "left_alone", False),
        ("cleo", "harmed", True),
    ]
    assert [(one.history, one.strength) for one in effect.users] == [(3, 1.0), (2, 0.0), (1, 0.25)]
    assert effect.strength_zero == 1
    # Tokens: a1 2, a2 3, a3 4, b1 2, c1 2.
    assert {name: nll.mean(name) for name in METHODS} == pytest.approx(
        {"base": 45 / 13, "collective": 10 / 13, "personal": 9.5 / 13}
    )
    assert (effect.users[0].nll_reference, effect.users[0].nll) == pytest.approx((6 / 9, 5 / 9))
    gain = nll.gain()
    assert gain is not None
    assert gain.value == pytest.approx(0.5 / 13)
    assert (gain.low, gain.high) == pytest.approx((-0.5 / 2, 1 / 9))  # cleo alone, anna alone
    lines = result.summary()
    assert "answers that changed: 40.0% of 5; 1 users have strength 0" in lines
    (line,) = [line for line in lines if line.startswith("NLL")]
    assert line.startswith(
        "NLL per answer token of the known answers: base 3.462, collective 0.769, personal 0.731; personal is better by +0.038"
    )
    told = json.loads(json.dumps(result.as_dict()))
    assert told["nll"]["methods"]["personal"] == pytest.approx(9.5 / 13)
    assert (told["nll"]["unit"], told["nll"]["n"]) == ("answer_token", 13)
    assert told["effect"]["harmed"]["share"] == pytest.approx(1 / 3)
    assert told["effect"]["users"][2]["user"] == "cleo"


def test_without_nll_harm_is_by_the_metric_and_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    def never(*_: Any, **__: Any) -> None:
        raise AssertionError

    monkeypatch.setattr(Told, "score_answers", never)
    result = run_it(with_nll=False)
    assert result.nll is None
    assert result.as_dict()["nll"] is None
    assert not any("NLL" in line for line in result.summary())
    assert any(line.startswith("harmed (accuracy worse): 33.3% of users") for line in result.summary())


def test_without_both_methods_there_is_no_effect_but_nll() -> None:
    result = run_it(methods=["base", "personal"])
    assert not result.effects
    assert result.nll is not None
    assert result.nll.gain() is None
    assert list(result.nll.users) == ["base", "personal"]


def test_where_lower_is_better_a_smaller_error_is_a_gain(monkeypatch: pytest.MonkeyPatch) -> None:
    golds = {"anna": ("5", "4"), "ben": ("1",)}
    told = {"collective": {"anna0": "3", "anna1": "3", "ben0": "1"}, "anna": {"anna0": "5", "anna1": "3"}}
    told["ben"] = {"ben0": "2"}
    monkeypatch.setattr(Told, "task", get_task("product_rating"))
    for owner, answers in told.items():
        monkeypatch.setitem(TOLD, owner, answers)
    users = [
        User(name, (), tuple(Query(f"{name}{n}", "score: ? review: x", gold) for n, gold in enumerate(answers)))
        for name, answers in golds.items()
    ]
    result = evaluate(Told(), users, methods=["collective", "personal"])  # type: ignore[arg-type]
    helped = result.helped
    assert helped is not None
    assert (helped.helped, helped.harmed, helped.equal) == (1, 1, 0)
    # Absolute errors: collective 2 + 1 + 0, personal 0 + 1 + 1; over three queries.
    assert helped.gain.value == pytest.approx(1 / 3)
    effect = result.effects["personal"]
    assert effect is not None
    assert {one.user: (one.outcome, one.gain) for one in effect.users} == {
        "anna": ("helped", 1.0),
        "ben": ("harmed", -1.0),
    }
    assert effect.worst_tenth == -1.0


def test_expected_ratings_are_medians_and_means_of_exact_probabilities(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    task = get_task("product_rating")
    chances = {"collective": (0.1, 0.1, 0.1, 0.3, 0.4), "anna": (0.6, 0.1, 0.1, 0.1, 0.1), "ben": (0, 0.55, 0, 0, 0.45)}
    monkeypatch.setattr(Told, "task", task)

    def score_labels(self: Told, queries: Any, owners: Sequence[str], **options: Any) -> Any:
        return torch.tensor([[math.log(p or 1e-30) for p in chances[owner]] for owner in owners])

    monkeypatch.setattr(Told, "score_labels", score_labels, raising=False)
    users = [
        User(name, (), (Query(name, "score: ? without further explanation. review: x", gold),))
        for name, gold in (("anna", "2"), ("ben", "4"))
    ]
    run, options = RunDirectory(tmp_path), {"answers": "expected", "with_nll": False}
    result = evaluate(Told(), users, methods=["collective", "personal"], run=run, **options)  # type: ignore[arg-type]
    personal = result.methods["personal"]
    assert personal.predictions == {"anna": "median 1 mean 2", "ben": "median 2 mean 3.35"}
    assert personal.scores.metrics["mae"] == pytest.approx((1 + 2) / 2)
    assert personal.scores.metrics["rmse"] == pytest.approx(math.sqrt((0 + 0.65**2) / 2))
    assert any(line.startswith("answers are the median (mae) and the mean (rmse)") for line in result.summary())
    # The evaluator of LaMP reads one number.
    assert read_lamp(tmp_path / "predictions" / "personal.lamp.json").outputs == {"anna": "1", "ben": "2"}


def test_expected_answers_are_for_ratings() -> None:
    with pytest.raises(ConfigError, match="answers: 'expected' is for ratings, and task 'folders' is of kind 'label'"):
        run_it(answers="expected")


def test_users_of_another_run_are_told_so() -> None:
    with pytest.raises(ConfigError, match="1 users without a personal shift") as refused:
        evaluate(Told(), USERS[3:])  # type: ignore[arg-type]
    assert "none of these users is in the run, it has 4 other users such as 'anna'" in str(refused.value)
    unanswered = [replace(USERS[0], queries=(Query("a9", "x"),))]
    with pytest.raises(ConfigError, match=r"\(1 queries without a known answer\); give users with queries"):
        evaluate(Told(), unanswered)  # type: ignore[arg-type]


def test_users_and_queries_that_cannot_be_evaluated_are_left_out_of_every_method_and_counted() -> None:
    result = run_it()
    assert result.left_out == {"users without a personal shift": 1, "queries without a known answer": 1}
    assert {frozenset(found.predictions) for found in result.methods.values()} == {
        frozenset({"a1", "a2", "a3", "b1", "c1"})
    }
    assert "left out: 1 users without a personal shift" in result.summary()


def test_without_the_personal_method_strangers_take_part(monkeypatch: pytest.MonkeyPatch) -> None:
    for owner in ("base", "collective"):
        monkeypatch.setitem(TOLD[owner], "s1", "work")
    result = run_it(methods=["base", "collective"], with_floors=False)
    assert list(result.methods) == ["base", "collective"]
    assert result.left_out["users without a personal shift"] == 0
    assert "s1" in result.methods["base"].predictions


def test_each_method_asks_its_own_owner_with_the_tasks_limit() -> None:
    told = Told()
    counted: list[tuple[str, int]] = []
    warned: list[dict[str, Any]] = []
    evaluate(
        told,  # type: ignore[arg-type]
        USERS,
        decoding=Decoding(max_new_tokens=99, sample=True, seed=3),
        done=lambda method, rows: counted.append((method, rows)),
        listener=warned.append,
    )
    own = [("anna", "a1"), ("anna", "a2"), ("anna", "a3"), ("ben", "b1"), ("cleo", "c1")]
    assert told.asked == [(o, q) for o in ("base", "collective") for _, q in own] + own
    assert counted == [("NLL", 15), ("base, collective, personal", 15)]
    assert {(d.max_new_tokens, d.sample, d.seed) for d in told.decodings} == {(5, True, 3)}
    assert len(warned) == 1  # the methods' prompts are the same


def test_files_hold_predictions_scores_and_a_table(tmp_path: Path) -> None:
    run = RunDirectory(tmp_path)
    result = run_it(run=run)
    stems = {"floor_majority", "floor_user_majority", "floor_nearest", "floor_linear", *METHODS}
    assert {path.name for path in (tmp_path / "predictions").iterdir()} == {f"{stem}.jsonl" for stem in stems}
    lines = [json.loads(line) for line in (tmp_path / "predictions" / "personal.jsonl").read_text().splitlines()]
    assert {"user": "anna", "query": "a1", "prediction": "work"}.items() < lines[0].items()
    assert [(line["user"], line["query"]) for line in lines] == [
        (user.id, query.id) for user in USERS[:3] for query in user.queries if query.gold is not None
    ]
    scores = read_metrics(run)
    assert set(scores.pop("of")["predictions"]) == stems
    assert scores == json.loads(json.dumps(result.as_dict()))
    assert (tmp_path / "metrics.md").read_text() == result.markdown()


def test_lamp_tasks_also_get_files_for_lamps_evaluator(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Told, "task", replace(TASK, lamp_id="LaMP_2N"))
    run_it(run=RunDirectory(tmp_path))
    found = read_lamp(tmp_path / "predictions" / "personal.lamp.json")
    assert found.task == "LaMP_2N"
    assert found.outputs == {"a1": "work", "a2": "family", "a3": "work", "b1": "travel", "c1": "work"}


def test_the_tables_columns_line_up() -> None:
    lines = run_it().markdown().splitlines()
    table = lines[: lines.index("")]
    assert len(table) == 2 + 7
    bars = [[place for place, sign in enumerate(line) if sign == "|"] for line in table]
    assert all(place == bars[0] for place in bars)
    assert [cell.strip() for cell in table[0].strip("|").split("|")][:2] == ["method", "accuracy"]
    assert any(line.startswith("personal against collective: helps 1 users, harms 1") for line in lines)


def test_no_cell_of_the_table_is_more_than_text(monkeypatch: pytest.MonkeyPatch) -> None:
    evil = "<img src=x> | `c`"
    monkeypatch.setattr(Evaluation, "rows", lambda result: (["method", evil], [[evil, "0.500"]]))
    header, _, row = run_it().markdown().splitlines()[:3]
    for line in (header, row):
        assert r"\<img src=x> \| \`c\`" in line
        assert line.replace(r"\|", "").count("|") == 3


def test_the_best_floor_is_named_with_how_far_the_last_method_is_above_it(monkeypatch: pytest.MonkeyPatch) -> None:
    lines = [line for line in run_it().summary() if line.startswith("best floor")]
    assert lines == [
        "best floor in accuracy: user_majority 0.400; personal is 0.200 better",
        "best floor in mean of users: user_majority 0.444; personal is 0.111 better",
    ]
    monkeypatch.setitem(TOLD, "anna", {"a1": "no", "a2": "no", "a3": "no"})
    worse = run_it()
    assert "best floor in accuracy: user_majority 0.400; personal is 0.200 worse" in worse.summary()
    assert worse.as_dict()["best_floors"][0] == {
        "metric": "accuracy",
        "floor": "floor_user_majority",
        "floor_value": pytest.approx(2 / 5),
        "method": "personal",
        "value": pytest.approx(1 / 5),
        "gain": pytest.approx(-1 / 5),
    }
    assert run_it(with_floors=False).above_floors() == []


def test_floors_learn_from_the_others_who_were_not_erased(tmp_path: Path) -> None:
    others = [User("o", past(*["family"] * 4)), User("gone", past(*["travel"] * 9))]
    assert set(run_it(others=others).methods["floor: majority"].predictions.values()) == {"travel"}
    run = RunDirectory(tmp_path)
    with run.locked():
        Tombstones(run.path).put("gone", "erased")
    found = run_it(others=others, run=run)
    assert set(found.methods["floor: majority"].predictions.values()) == {"family"}


def test_users_without_a_history_do_not_stop_the_evaluation_and_are_counted() -> None:
    left = "personal floors of users without a history"
    some = [USERS[0], replace(USERS[1], history=()), *USERS[2:]]
    with pytest.warns(UserWarning, match="1 users have no history"):
        result = evaluate(Told(), some)  # type: ignore[arg-type]
    assert result.left_out[left] == 1
    assert result.methods["floor: user_majority"].predictions["b1"] == "work"
    none = [replace(user, history=()) for user in USERS]
    result = evaluate(Told(), none)  # type: ignore[arg-type]
    assert list(result.methods) == list(METHODS)
    assert result.left_out[left] == 3
    assert left not in evaluate(Told(), none, with_floors=False).left_out  # type: ignore[arg-type]


@pytest.mark.parametrize("methods", [[], ["best"], ["base", "Personal"]])
def test_unknown_methods_are_refused(methods: list[str]) -> None:
    with pytest.raises(ConfigError, match="methods: "):
        run_it(methods=methods)


def test_nothing_to_evaluate_is_an_error() -> None:
    asked = (Query("q", "x", "work"),)
    with pytest.raises(
        ConfigError, match=r"nothing to evaluate \(1 users without .* none of these users is in the run"
    ):
        evaluate(Told(), [User("stranger", (), asked)])  # type: ignore[arg-type]
    with pytest.raises(ConfigError, match=r"nothing to evaluate \(.*give users with queries whose answers are known"):
        evaluate(Told(), [User("anna", past("work"), (Query("q", "x"),))])  # type: ignore[arg-type]
    films = (HistoryItem("1", {"plot": "x", "tag": "y"}),)
    with pytest.raises(
        ConfigError, match="the data are of another task: past items have the fields 'plot', 'tag', the"
    ):
        evaluate(Told(), [User("stranger", films, asked)])  # type: ignore[arg-type]


def test_a_trained_perfit_is_evaluated_with_the_answers_it_generates(tmp_path: Path) -> None:
    perfit = PerFit.from_pretrained(write_base(tmp_path / "base"), CONFIG, task=TASK)
    data = dataset()
    perfit.fit(data)
    result = evaluate(perfit, data.users)
    decoding = Decoding(max_new_tokens=perfit.answer_limit())
    for user in data.users:
        for owner, method in ((user.id, "personal"), ("collective", "collective"), ("base", "base")):
            answers = perfit.generate(user.queries, [owner] * len(user.queries), decoding=decoding)
            found = [result.methods[method].predictions[query.id] for query in user.queries]
            assert found == [answer.strip() for answer in answers]
    with pytest.raises(UnknownUserError):
        perfit.generate(["x"], ["personal"])


def test_what_cannot_be_answered_is_refused_before_anybody_is_asked() -> None:
    class Brief(Told):
        def answer_limit(self) -> int:
            raise ConfigError("max_new_tokens is 1, but the longest label has 4 tokens")

    perfit = Brief()
    with pytest.raises(ConfigError, match="max_new_tokens"):
        evaluate(perfit, USERS)  # type: ignore[arg-type]
    odd = User("anna", USERS[0].history, (Query("q9", "a note", "no label"),))
    with pytest.raises(DataError, match="query q9"):
        evaluate(perfit := Told(), [odd, *USERS[1:]])  # type: ignore[arg-type]
    assert perfit.asked == []
