"""Texts that somebody else has answered, and new ones."""

from __future__ import annotations

from small_base import TASK

from perfit.data.schema import Dataset, HistoryItem, Query, User
from perfit.evaluation.evaluate import evaluate
from perfit.evaluation.seen import by_seen, seen_by_others


def wrote(user: str, texts: tuple[str, ...], asked: dict[str, str]) -> User:
    history = tuple(HistoryItem(str(n), {"text": text, "folder": "work"}) for n, text in enumerate(texts))
    return User(user, history, tuple(Query(name, text, "work") for name, text in asked.items()))


ANNA = wrote("anna", ("a river", "own words"), {"a1": "a  river ", "a2": "own words", "a3": "new"})
BEN = wrote("ben", ("a river", "bens"), {"b1": "asked elsewhere", "b2": "a1's neighbour"})
OTHER = wrote("pool", ("pools",), {"p1": "asked elsewhere"})


def test_a_text_counts_as_seen_where_another_person_has_answered_it() -> None:
    data = Dataset((ANNA, BEN), (OTHER,))
    assert seen_by_others(TASK, data, data.users) == {"a1", "b1"}  # one's own history is no other's
    assert seen_by_others(TASK, Dataset((ANNA, BEN)), (ANNA, BEN)) == {"a1"}
    # What is asked of a user is known of nobody.
    twin = wrote("twin", ("else",), {"t1": "new"})
    assert seen_by_others(TASK, Dataset((ANNA, twin)), (ANNA, twin)) == set()


def test_each_method_s_mean_on_both_parts() -> None:
    values = {"floor: linear": {"a": 1.0, "b": 0.0, "c": 1.0}, "personal": {"a": 0.0, "b": 1.0, "c": 1.0}}
    found = by_seen("accuracy", values, {"a", "unasked"})
    assert found is not None
    assert (found.seen, found.new) == (1, 2)
    assert found.on_seen == {"floor: linear": 1.0, "personal": 0.0}
    assert found.on_new == {"floor: linear": 0.5, "personal": 1.0}
    assert found.lines() == [
        "accuracy on 1 queries whose text somebody else has answered: linear 1.000, personal 0.000",
        "accuracy on 2 queries whose text nobody else has: linear 0.500, personal 1.000",
    ]
    assert by_seen("accuracy", values, set()) is None
    assert by_seen("accuracy", values, {"a", "b", "c"}) is None


def test_an_evaluation_says_both() -> None:
    class Told:
        task = TASK

        def users(self) -> list[str]:
            return ["anna", "ben"]

        def answer_limit(self) -> int:
            return 3

        def generate(self, queries: list[Query], owners: list[str], **options: object) -> list[str]:
            return ["work" if query.id in ("a1", "a2") else "family" for query in queries]

    result = evaluate(Told(), (ANNA, BEN), others=(OTHER,), methods=["base"], with_nll=False)  # type: ignore[arg-type]
    assert "accuracy on 2 queries whose text somebody else has answered" in "\n".join(result.summary())
    told = result.as_dict()["by_seen"]
    assert (told["seen"], told["new"]) == (2, 3)
    assert told["on_seen"]["base"] == 0.5
    assert told["on_new"]["base"] == 1 / 3
    assert told["on_new"]["floor_majority"] == 1.0
    bare = evaluate(Told(), (ANNA, BEN), methods=["base"], with_nll=False, with_floors=False)  # type: ignore[arg-type]
    assert bare.as_dict()["by_seen"] is None
