"""The real data sets: sizes, and what the audit finds in them."""

from __future__ import annotations

from pathlib import Path

import pytest

from perfit.data import audit, read_dataset

SIZES = {
    "news_categorize": (47, 4088, 757, 231, 475),
    "news_headline": (54, 5511, 984, 413, 748),
    "scholarly_title": (128, 3378, 835, 405, 2098),
    "product_rating": (172, 16325, 4070, 150, 900),
}
LAYOUT = {
    "news_categorize": ("category", "text", "] article: "),
    "news_headline": ("title", "text", "Generate a headline for the following article: "),
    "scholarly_title": ("title", "abstract", "Generate a title for the following abstract of a paper: "),
    "product_rating": ("score", "text", "without further explanation. review: "),
}
FOUND = {
    "news_categorize": {},
    # A columnist's standing line, under another headline every month.
    "news_headline": {("query_in_own_history", "note"): 2},
    # A paper published twice, with the same title.
    "scholarly_title": {("answer_in_own_history", "leak"): 1},
    # The same films, rated by many.
    "product_rating": {
        ("query_in_test_history", "note"): 3390,
        ("query_in_stage1_history", "note"): 2475,
        ("query_in_stage1_queries", "note"): 1162,
    },
}


@pytest.mark.parametrize("name", SIZES)
def test_sizes(real_data: Path, name: str) -> None:
    data = read_dataset(real_data / name)
    assert data.task == name
    assert data.notes == (), "every answer of the gold file belongs to a query"
    assert (
        len(data.users),
        sum(len(user.history) for user in data.users),
        sum(len(user.queries) for user in data.users),
        len(data.others),
        sum(len(user.queries) for user in data.others),
    ) == SIZES[name]
    assert all(query.gold for user in data.users + data.others for query in user.queries)


@pytest.mark.parametrize("name", SIZES)
def test_audit(real_data: Path, name: str) -> None:
    answer, text, marker = LAYOUT[name]
    data = read_dataset(real_data / name)
    assert all(marker in query.input for user in data.users for query in user.queries)
    report = audit(data, answer_field=answer, text_fields=(text,), free_text=answer == "title", marker=marker)
    assert report.counts == FOUND[name]
