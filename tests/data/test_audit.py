"""The audit finds planted leaks, and stays calm where texts repeat by nature."""

from __future__ import annotations

import time
from dataclasses import replace

import pytest

from perfit.data import AuditReport, Dataset, HistoryItem, Query, User, audit, demo_dataset
from perfit.data.dates import is_after, parse_date
from perfit.data.demo import CATEGORIZE_QUESTION, HEADLINE_QUESTION
from perfit.errors import LeakError
from perfit.tasks import get_task
from perfit.tasks.leaks import audit_arguments

TEXT = "The quick brown fox jumps"
GOLD = "A fox that jumps high"
MARKER = "] article: "


def item(text: str, answer: str = "else", n: int = 0, date: str | None = None) -> HistoryItem:
    return HistoryItem(f"i{n}", {"text": text, "title": answer}, date)


def check(
    history: tuple[HistoryItem, ...] = (),
    *,
    test_history: tuple[HistoryItem, ...] = (),
    others: tuple[User, ...] = (),
    query: Query | None = None,
    free_text: bool = True,
    shared_texts: bool | None = None,
) -> AuditReport:
    query = query or Query("q", f"question {MARKER}{TEXT}", GOLD)
    data = Dataset((User("a", history, (query,)), User("b", test_history)), others)
    return audit(
        data,
        answer_field="title",
        text_fields=("text",),
        free_text=free_text,
        marker=MARKER,
        shared_texts=shared_texts,
    )


def kinds(report: AuditReport) -> list[tuple[str, str, str]]:
    return [(finding.kind, finding.severity, finding.where) for finding in report.findings]


def test_clean_data_has_no_findings() -> None:
    report = check((item("something else entirely here"),), others=(User("c", (item("x"),), (Query("p", "x", "y"),)),))
    assert report.findings == ()
    assert report.counts == {}
    assert (report.checked_queries, report.checked_records) == (1, 3)
    report.raise_if_leaky()


def test_query_text_in_own_history_despite_case_and_spaces() -> None:
    report = check((item("other"), item("  the QUICK\n brown  fox JUMPS", GOLD, n=1)), free_text=False)
    assert kinds(report) == [("query_in_own_history", "leak", "users[0].history[1]")]
    with pytest.raises(LeakError, match=r"user a, query q: users\[0\]\.history\[1\]: 1 leaks .*query_in_own_history 1"):
        report.raise_if_leaky()


def test_query_text_without_a_known_answer_there_counts_as_leak() -> None:
    bare = HistoryItem("i", {"text": TEXT})
    assert kinds(check((bare,))) == [("query_in_own_history", "leak", "users[0].history[0]")]
    unknown = Query("q", f"question {MARKER}{TEXT}", None)
    assert kinds(check((item(TEXT),), query=unknown)) == [("query_in_own_history", "leak", "users[0].history[0]")]


def test_query_text_with_another_answer_is_a_note() -> None:
    report = check((item(TEXT, "another headline altogether"),))
    assert kinds(report) == [("query_in_own_history", "note", "users[0].history[0]")]


def test_the_gravest_match_is_the_one_reported() -> None:
    report = check((item(TEXT, "another"), item(TEXT, GOLD, n=1), item(TEXT, "third", n=2)), free_text=False)
    assert kinds(report) == [("query_in_own_history", "leak", "users[0].history[1]")]
    assert report.findings[0].matches == 3


def test_stage_1_history_and_queries_are_searched() -> None:
    other = User("c", (item(TEXT, GOLD),), (Query("p", f"{MARKER}{TEXT}", GOLD),))
    assert kinds(check(others=(other,), free_text=False)) == [
        ("query_in_stage1_history", "leak", "others[0].history[0]"),
        ("query_in_stage1_queries", "leak", "others[0].queries[0]"),
    ]


def test_another_test_users_history_is_a_leak_where_stage_1_trains_on_it() -> None:
    assert kinds(check(test_history=(item(TEXT, GOLD),))) == [
        ("query_in_stage1_history", "leak", "users[1].history[0]"),
        ("answer_in_stage1_history", "leak", "users[1].history[0]"),
    ]


def test_another_test_users_history_is_a_note() -> None:
    assert kinds(check(test_history=(item(TEXT, GOLD),), others=(User("c"),))) == [
        ("query_in_test_history", "note", "users[1].history[0]"),
        ("answer_in_test_history", "note", "users[1].history[0]"),
    ]


def test_free_text_answers_are_searched_everywhere() -> None:
    other = User("c", (item("x", GOLD.upper()),), (Query("p", "y", GOLD),))
    report = check((item("z", GOLD),), others=(other,))
    assert kinds(report) == [
        ("answer_in_own_history", "leak", "users[0].history[0]"),
        ("answer_in_stage1_history", "leak", "others[0].history[0]"),
        ("answer_in_stage1_queries", "leak", "others[0].queries[0]"),
    ]
    assert check((item("z", GOLD),), others=(other,), free_text=False).findings == ()


def test_short_answers_and_texts_are_notes() -> None:
    short = Query("q", f"{MARKER}read it here", "An introduction")
    report = check((item("read it here", "an introduction"),), query=short)
    assert kinds(report) == [
        ("query_in_own_history", "note", "users[0].history[0]"),
        ("answer_in_own_history", "note", "users[0].history[0]"),
    ]


def test_empty_texts_do_not_match() -> None:
    assert check((item("", ""),), query=Query("q", f"x{MARKER}", "")).findings == ()


def test_a_test_user_in_the_stage_1_pool() -> None:
    assert kinds(check(others=(User("x"), User("b")))) == [("test_user_in_stage1", "leak", "others[1]")]


@pytest.mark.parametrize(
    ("item_date", "query_date", "late"),
    [
        ("2020-01-02", "2020-01-01", True),
        ("2020-01-01", "2020-01-01", False),
        ("2020-01-01", "2020-01-02", False),
        ("1600000001", "1600000000", True),
        ("1600000000", "2020-09-13T12:26:39Z", True),
        ("2020-09-13T12:26:41+00:00", "1600000000", True),
        ("2020-09-13", "1600000000", False),
        ("1600000000", "2020-09-13", False),
        ("2020-05-05", "2020", False),
        ("2021", "2020-05-05", True),
        ("2020", "2020-05-05", False),
        ("2020-06", "2020-05-05", True),
        ("yesterday", "2020-01-01", False),
        ("2020-13-45", "2020-01-01", False),
        ("2021-01-01", None, False),
    ],
)
def test_history_after_the_query(item_date: str, query_date: str | None, late: bool) -> None:
    query = Query("q", "x", "y", query_date)
    report = check((item("p", date="2001-01-01"), item("p", n=1, date=item_date)), query=query)
    expected = [("history_after_query", "leak", "users[0].history[1]")] if late else []
    assert kinds(report) == expected


def test_dates() -> None:
    assert parse_date("2020-02-30") is None
    assert parse_date(None) is None
    assert parse_date("99999999999") is not None
    assert parse_date("2020-09-13T14:26:40+02:00") == parse_date("1600000000") == (2020, 9, 13, 44800)
    assert not is_after((2020,), (2020, 1))


def shared_film_data(disagreeing: int, films: int = 40) -> Dataset:
    """Two users ask about each film; in the first ones the answers differ."""
    names = [f"The long film number {n}" for n in range(films)]
    queries = tuple(Query(f"q{n}", name, "5") for n, name in enumerate(names))
    ratings = tuple(
        HistoryItem(str(n), {"text": name, "title": "1" if n < disagreeing else "5"}) for n, name in enumerate(names)
    )
    return Dataset((User("a", (), queries),), (User("c", ratings),))


@pytest.mark.parametrize(("disagreeing", "leaks"), [(0, 40), (9, 31), (10, 0), (40, 0)])
def test_whether_answers_belong_to_the_person_is_seen_from_the_data(disagreeing: int, leaks: int) -> None:
    data = shared_film_data(disagreeing)
    report = audit(data, answer_field="title", text_fields=("text",), free_text=False)
    assert len(report.leaks) == leaks
    assert len(report.findings) == 40
    assert report.notes[0].startswith(f"40 texts occur at two or more users, {disagreeing} with differing answers")


def test_whether_answers_belong_to_the_person_can_be_told() -> None:
    data = shared_film_data(0)
    told = audit(data, answer_field="title", text_fields=("text",), free_text=False, shared_texts=True)
    assert told.leaks == ()
    own = replace(data, users=(replace(data.users[0], history=data.others[0].history),), others=())
    report = audit(own, answer_field="title", text_fields=("text",), free_text=False, shared_texts=True)
    assert len(report.leaks) == 40, "the user's own answer on the same text is a leak all the same"


def test_lines_hold_places_but_no_texts() -> None:
    lines = check((item(TEXT, GOLD),), others=(User("c", (item(TEXT, GOLD),)),)).lines()
    assert lines[0] == "audit: 1 test queries against 2 records: 4 leaks, 0 notes"
    assert "  user a, query q: users[0].history[0] (1 records)" in lines
    assert not any(word in line for word in ("quick", "jumps", "high") for line in lines)
    many = Dataset((User("a", (item(TEXT, GOLD),), tuple(Query(f"q{n}", TEXT, GOLD) for n in range(9))),))
    report = audit(many, answer_field="title", text_fields=("text",), free_text=False)
    assert report.lines()[-1] == "  and 6 more"


@pytest.mark.parametrize(
    ("task", "answer", "marker"),
    [("news_categorize", "category", CATEGORIZE_QUESTION), ("news_headline", "title", HEADLINE_QUESTION)],
)
def test_planted_leaks_in_demo_data_are_found(task: str, answer: str, marker: str) -> None:
    data = demo_dataset(task=task)  # type: ignore[arg-type]
    query = data.users[2].queries[4]
    planted = HistoryItem("leak", {"text": query.input.removeprefix(marker), answer: query.gold or ""})

    def plant(group: tuple[User, ...]) -> tuple[User, ...]:
        return (*group[:2], replace(group[2], history=(*group[2].history, planted)), *group[3:])

    for place, leaky in (
        ("users", replace(data, users=plant(data.users))),
        ("others", replace(data, others=plant(data.others))),
    ):
        report = audit(
            leaky,
            answer_field=answer,
            text_fields=("text",),
            free_text=answer == "title",
            marker=marker,
        )
        assert {(f.user, f.query, f.where) for f in report.leaks} == {
            (data.users[2].id, query.id, f"{place}[2].history[40]")
        }


def test_it_is_linear() -> None:
    data = demo_dataset(users=60, others=60, history=100, queries=50)
    start = time.perf_counter()
    audit(data, answer_field="category", text_fields=("text",), free_text=False, marker=MARKER)
    assert time.perf_counter() - start < 5


PLANTED = [
    "河边老茶馆里的陶艺展览今天开幕",
    "公司预算会议推迟到下周五",
    "川辺の古い茶屋で陶芸展が開かれる",
    "子どもたちが庭でトマトを植えました",
    "นิทรรศการเครื่องปั้นดินเผาริมแม่น้ำ",
    "ປະຊຸມງົບປະມານເລື່ອນໄປວັນສຸກ",
    "ကလေးများသည်ပန်းခြံတွင်စိုက်ပျိုးကြသည်",
]


@pytest.mark.parametrize("text", PLANTED)
@pytest.mark.parametrize("free_text", [True, False])
def test_leaks_are_found_in_scripts_without_blanks(text: str, free_text: bool) -> None:
    halves = text[:5] + "\n" + text[5:]  # a line break inside tells nothing where words have no border
    report = check((item("other"), item(halves, GOLD, n=1)), query=Query("q", text, GOLD), free_text=free_text)
    assert ("query_in_own_history", "leak", "users[0].history[1]") in kinds(report)
    report = check((item("else", text),), query=Query("q", "asked otherwise", text))
    assert kinds(report) == [("answer_in_own_history", "leak", "users[0].history[0]")]


@pytest.mark.parametrize("text", ["简介", "まとめ", "บทนำ", "结论与展"])
def test_short_texts_without_blanks_are_notes_like_short_ones_with(text: str) -> None:
    report = check((item(text, GOLD),), query=Query("q", text, GOLD), free_text=False)
    assert [finding.severity for finding in report.findings] == ["note"]


@pytest.mark.parametrize(("there", "asked"), [("4", "4.0"), ("4.00", "4")])
def test_an_answer_in_another_spelling_is_the_same_answer(there: str, asked: str) -> None:
    task = get_task("product_rating")
    query = Query("q", f"{task.marker}{TEXT}", asked)
    items = (HistoryItem("0", {"text": TEXT, "score": there}),)
    report = audit(Dataset((User("a", items, (query,)),)), **audit_arguments(task))
    assert [(f.kind, f.severity) for f in report.findings] == [("query_in_own_history", "leak")]


def test_forms_of_an_accent_and_of_a_letter_are_the_same_text() -> None:
    report = check(
        (item("Cafe\u0301 au lait ＡＢＣ every day", GOLD),), query=Query("q", "café au lait abc every day", GOLD)
    )
    assert ("query_in_own_history", "leak", "users[0].history[0]") in kinds(report)
