"""The past item most like a query, by words alone."""

from __future__ import annotations

from collections.abc import Sequence

from perfit.extras import import_extra
from perfit.words import tokens


def nearest(documents: Sequence[str], questions: Sequence[str]) -> list[int | None]:
    """For each question the index of the most similar document (TF-IDF cosine); the last one of equals.

    With no word in common the last document is taken; without documents the result is None.

    Raises:
        MissingExtraError: scikit-learn is not installed (extra "eval").
    """
    last = len(documents) - 1
    if last < 0:
        return [None] * len(questions)
    text = import_extra("sklearn.feature_extraction.text", "scikit-learn")
    if not any(map(_terms, documents)):
        return [last] * len(questions)
    vectorizer = text.TfidfVectorizer(analyzer=_terms)
    # Rows have length 1, so the product is the cosine. Sparse products may differ in the last bit between equals.
    weights = vectorizer.fit_transform(documents)
    similarity = (vectorizer.transform(questions) @ weights.T).toarray().round(12)
    return [last - int(row[::-1].argmax()) for row in similarity]


def _terms(text: str) -> list[str]:
    return tokens(text, pairs=True)
