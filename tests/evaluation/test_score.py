"""The LaMP evaluator's semantics, against hand-made values and scikit-learn itself."""

from __future__ import annotations

import json
import math
from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from perfit import extras
from perfit.errors import ConfigError, DataError, MissingExtraError
from perfit.evaluation import score as score_module
from perfit.evaluation.score import HIGHER_IS_BETTER, higher_is_better, is_format_failure, per_query, score
from perfit.tasks import get_task
from perfit.tasks.task import METRICS

NEWS, RATING, TITLE = get_task("2N"), get_task("3"), get_task("5")


def test_labels_match_exactly_after_stripping_and_nothing_else_is_repaired() -> None:
    golds = {"a": "politics", "b": "politics", "c": "sports ", "d": "crime"}
    predictions = {"a": " politics\n", "b": "Politics", "c": "sports", "d": "crime and more"}
    scores = score(NEWS, predictions, golds)
    assert scores.per_query == {"a": 1.0, "b": 0.0, "c": 1.0, "d": 0.0}
    assert scores.metrics["accuracy"] == 0.5
    assert scores.format_failure_rate == 0.5
    assert (scores.primary, scores.higher_is_better, scores.n) == ("accuracy", True, 4)


def test_macro_f1_counts_every_label_of_the_list() -> None:
    golds = {"a": "politics", "b": "sports"}
    assert score(NEWS, golds, golds).metrics["macro_f1"] == pytest.approx(2 / 15)


@settings(max_examples=50, deadline=None)
@given(st.lists(st.tuples(st.sampled_from(NEWS.labels), st.sampled_from([*NEWS.labels, "no label"])), min_size=1))
def test_macro_f1_is_the_mean_of_the_labels_f1(pairs: list[tuple[str, str]]) -> None:
    from sklearn.metrics import f1_score

    golds = {str(i): gold for i, (gold, _) in enumerate(pairs)}
    predictions = {str(i): found for i, (_, found) in enumerate(pairs)}
    each = f1_score(
        list(golds.values()), list(predictions.values()), labels=list(NEWS.labels), average=None, zero_division=0
    )
    assert score(NEWS, predictions, golds).metrics["macro_f1"] == pytest.approx(sum(each) / 15)


def test_the_order_of_the_predictions_does_not_matter() -> None:
    golds = {"a": "politics", "b": "sports"}
    assert score(NEWS, {"b": "sports", "a": "politics"}, golds) == score(NEWS, golds, golds)


@pytest.mark.parametrize(
    ("prediction", "gold", "error", "failure"),
    [
        ("4", "5", 1.0, False),
        ("5", "5", 0.0, False),
        ("1", "5", 4.0, False),
        (" 4.0 ", "5", 1.0, False),
        ("3.5", "5", 1.5, False),
        ("five", "5", 4.0, True),  # 1 is farther
        ("five", "4", 3.0, True),
        ("five", "2", 3.0, True),  # 5 is farther
        ("five", "3", 2.0, True),
        ("", "1", 4.0, True),
        ("nan", "1", 4.0, True),
        ("inf", "1", 4.0, True),
        ("9", "5", 4.0, True),  # a number, but off the scale: scored as it stands
        ("-2", "1", 3.0, True),
    ],
)
def test_ratings(prediction: str, gold: str, error: float, failure: bool) -> None:
    assert per_query(RATING, prediction, gold) == error
    assert is_format_failure(RATING, prediction) is failure


def test_mae_and_rmse() -> None:
    scores = score(RATING, {"a": "1", "b": "5"}, {"a": "4", "b": "4"})
    assert scores.metrics == {"mae": 2.0, "rmse": pytest.approx(math.sqrt(5))}
    assert scores.higher_is_better is False


def test_a_huge_number_does_not_overflow() -> None:
    assert math.isfinite(score(RATING, {"a": "1e308", "b": "1"}, {"a": "4", "b": "4"}).metrics["rmse"])


def test_rouge_f_measure_and_recall_by_hand() -> None:
    # gold: 4 words, prediction: 2; both words occur, but only one in order.
    scores = score(TITLE, {"a": "mat cat"}, {"a": "The cat, the mat"})
    assert scores.metrics["rouge1"] == pytest.approx(2 * 1 * 0.5 / 1.5)
    assert scores.metrics["rouge1_recall"] == pytest.approx(0.5)
    assert scores.metrics["rougeL"] == pytest.approx(2 * 0.5 * 0.25 / 0.75)
    assert scores.metrics["rougeL_recall"] == pytest.approx(0.25)
    assert scores.per_query == {"a": scores.metrics["rougeL"]}


def test_rouge_uses_no_stemmer() -> None:
    assert score(TITLE, {"a": "learning"}, {"a": "learn"}).metrics["rouge1"] == 0.0


def test_empty_text_is_a_format_failure() -> None:
    scores = score(TITLE, {"a": " \n", "b": "x"}, {"a": "x", "b": "x"})
    assert scores.format_failure_rate == 0.5
    assert scores.metrics["exact_match"] == 0.5


def test_the_task_chooses_what_counts_per_query() -> None:
    task = replace(TITLE, metric="exact_match")
    assert score(task, {"a": "a b"}, {"a": "a c"}).per_query == {"a": 0.0}
    assert per_query(task, "a c ", "a c") == 1.0


def test_ids_must_agree() -> None:
    with pytest.raises(DataError, match=r"1 queries without prediction \(b\); 2 predictions without gold \(c, d\)"):
        score(NEWS, {"a": "crime", "c": "crime", "d": "crime"}, {"a": "crime", "b": "crime"})
    with pytest.raises(DataError, match="nothing to score"):
        score(NEWS, {}, {})


def test_a_gold_outside_the_labels_is_named_by_its_query_only() -> None:
    with pytest.raises(DataError, match="query q9") as caught:
        score(NEWS, {"q9": "crime"}, {"q9": "private words"})
    assert "private" not in str(caught.value)


def test_every_metric_has_a_direction() -> None:
    for kind, (task, gold) in {"label": (NEWS, "crime"), "rating": (RATING, "3"), "text": (TITLE, "t")}.items():
        scores = score(task, {"a": gold}, {"a": gold})
        assert set(scores.metrics) | set(METRICS[kind]) <= set(HIGHER_IS_BETTER)
    assert higher_is_better("accuracy")
    assert not higher_is_better("rmse")
    with pytest.raises(ConfigError, match=r"metric is 'f2'.*accuracy"):
        higher_is_better("f2")


def test_scores_are_ready_for_json() -> None:
    scores = score(NEWS, {"a": "crime"}, {"a": "crime"})
    assert json.loads(json.dumps(scores.as_dict()))["metrics"]["accuracy"] == 1.0


def test_a_missing_extra_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(name: str, *args: object) -> object:
        raise ImportError(name)

    score_module._rouge_scorer.cache_clear()
    monkeypatch.setattr(extras.importlib, "import_module", refuse)
    with pytest.raises(MissingExtraError, match=r"rouge_score.*perfit\[eval\]"):
        score(TITLE, {"a": "x"}, {"a": "x"})
    with pytest.raises(MissingExtraError, match="scikit-learn"):
        score(NEWS, {"a": "crime"}, {"a": "crime"})
    assert per_query(NEWS, "crime", "crime") == 1.0


SCRIPTS = {
    "Весенняя выставка керамики": "Весенняя выставка кошек",
    "معرض الربيع للفخار": "معرض الربيع للكتب",
    "봄 도자기 전시회": "봄 고양이 전시회",
    "Εαρινή έκθεση κεραμικής": "Εαρινή έκθεση βιβλίων",
    "वसंत मिट्टी प्रदर्शनी": "वसंत किताब प्रदर्शनी",
}


@pytest.mark.parametrize(("gold", "near"), list(SCRIPTS.items()))
def test_words_of_every_script_are_seen(gold: str, near: str) -> None:
    scores = score(TITLE, {"a": gold, "b": near, "c": "nothing of it"}, dict.fromkeys("abc", gold))
    assert scores.per_query["a"] == 1.0
    assert scores.per_query["b"] == pytest.approx(2 / 3)
    assert scores.per_query["c"] == 0.0


@pytest.mark.parametrize("gold", ["河边老茶馆", "陶芸展です", "นิทรรศการ"])
def test_scripts_without_blanks_are_compared_character_by_character(gold: str) -> None:
    assert score(TITLE, {"a": gold}, {"a": gold}).metrics["rouge1"] == 1.0
    assert 0.3 < score(TITLE, {"a": gold[:3]}, {"a": gold}).metrics["rougeL"] < 1.0


@pytest.mark.parametrize("gold", ["🙂🙂👍", "?!", "É à"])
def test_a_gold_without_the_protocol_s_words_is_compared_by_what_it_has(gold: str) -> None:
    scores = score(TITLE, {"a": gold, "b": "x"}, {"a": gold, "b": gold})
    assert scores.per_query == {"a": 1.0, "b": 0.0}


def test_latin_text_keeps_the_protocol_s_own_words() -> None:
    # "naïve" is "na" and "ve" to rouge_score: of 2 + 1 words of the gold, the answer has one, and one of its own.
    assert score(TITLE, {"a": "ve x"}, {"a": "naïve cat"}).metrics["rouge1"] == pytest.approx(0.4)


def test_letters_the_protocol_does_not_see_in_a_latin_gold_are_counted_in_a_warning() -> None:
    with pytest.warns(UserWarning, match="^1 gold answers have letters of other scripts"):
        score(TITLE, {"a": "x", "b": "y"}, {"a": "HowNet 动词 study", "b": "plain"})


@pytest.mark.filterwarnings("error")
def test_no_warning_where_all_is_seen() -> None:
    score(TITLE, {"a": "x", "b": "y", "c": "z"}, {"a": "naïve", "b": "Весна", "c": "🙂"})


@pytest.mark.parametrize(("gold", "found"), [("cafe\u0301", "caf\u00e9"), ("caf\u00e9", "cafe\u0301")])
def test_accents_of_either_form_are_equal(gold: str, found: str) -> None:
    assert score(TITLE, {"a": found}, {"a": gold}).metrics["exact_match"] == 1.0
    task = replace(NEWS, labels=("crime", gold))
    scores = score(task, {"a": found}, {"a": found})
    assert scores.metrics == {"accuracy": 1.0, "macro_f1": 0.5}
    assert scores.format_failure_rate == 0.0
    assert per_query(task, found, gold) == 1.0


def test_a_rating_gold_may_be_spelled_as_any_number() -> None:
    task = replace(RATING, labels=("1.0", "2.0"))
    assert score(task, {"a": "1", "b": "2.00"}, {"a": "1.00", "b": "2"}).metrics["mae"] == 0.0


def test_of_an_expected_rating_mae_takes_the_median_and_rmse_the_mean() -> None:
    golds = {"a": "5", "b": "2", "c": "4"}
    found = score(RATING, {"a": "median 4 mean 3.5", "b": "median 2 mean 2.25", "c": "3"}, golds)
    assert found.metrics["mae"] == pytest.approx((1 + 0 + 1) / 3)
    assert found.metrics["rmse"] == pytest.approx(math.sqrt((1.5**2 + 0.25**2 + 1) / 3))
    assert found.per_query == {"a": 1, "b": 0, "c": 1}
    assert found.format_failure_rate == 0
    assert is_format_failure(RATING, "median 6 mean 5.5")
    assert per_query(NEWS, "median 4 mean 3", "sports") == 0  # only ratings are read so
