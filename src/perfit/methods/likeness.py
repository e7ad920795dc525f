"""How alike people's words are."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from perfit.extras import import_extra
from perfit.words import tokens


class Likeness:
    """The cosine of people's TF-IDF weights.

    Args:
        texts: What each of some people wrote.

    Raises:
        MissingExtraError: scikit-learn is not installed (extra "eval").
    """

    def __init__(self, texts: Sequence[str]):
        text = import_extra("sklearn.feature_extraction.text", "scikit-learn")
        self._words = text.TfidfVectorizer(analyzer=tokens, sublinear_tf=True)
        self._people = self._words.fit_transform(texts) if any(tokens(one) for one in texts) else None
        self._count = len(texts)

    def to(self, text: str) -> NDArray[np.float64]:
        """To each of the people, [people]."""
        if self._people is None:
            return np.zeros(self._count)
        found: NDArray[np.float64] = (self._people @ self._words.transform([text]).T).toarray()[:, 0]
        return found
