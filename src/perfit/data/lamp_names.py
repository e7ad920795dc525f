"""Names of the LaMP tasks, right and wrong."""

from __future__ import annotations

from collections.abc import Mapping

TASK_LAMP_IDS: Mapping[str, str] = {
    "movie_tagging": "LaMP_2M",
    "news_categorize": "LaMP_2N",
    "product_rating": "LaMP_3",
    "news_headline": "LaMP_4",
    "scholarly_title": "LaMP_5",
    "tweet_paraphrase": "LaMP_7",
}
"""Task name -> the evaluator's name."""

_TASK_BY_ID = {lamp_id: task for task, lamp_id in TASK_LAMP_IDS.items()} | {
    # The gold files that OPPU ships carry these two wrong names.
    "LaMP_8": "movie_tagging",
    "LaMP_2": "news_categorize",
}


def task_from_lamp_id(lamp_id: str, item_fields: frozenset[str] = frozenset()) -> str | None:
    """The task a gold file's ``task`` value means; None for a LaMP id that is not supported.

    Args:
        lamp_id: e.g. "LaMP_4", or a name of one's own, which is returned as it is.
        item_fields: Fields of a history item; LaMP's own files say "LaMP_2" for movies and for news.
    """
    if lamp_id == "LaMP_2" and "tag" in item_fields:
        return "movie_tagging"
    return _TASK_BY_ID.get(lamp_id, None if lamp_id.startswith("LaMP") else lamp_id)
