"""RAG: the k past items nearest to the query by BM25, before its prompt; nothing is trained (paper, D.3)."""

from __future__ import annotations

from dataclasses import dataclass

from perfit.inference.batches import Tokens
from perfit.methods.answer import answer
from perfit.methods.history_as_text import HistoryAsText
from perfit.methods.method import Ask, Setting
from perfit.methods.options import check_counts
from perfit.methods.prompts import Prompts


@dataclass(frozen=True)
class Options:
    """Options of RAG.

    Attributes:
        k: Past items before each prompt; the paper has 1, 2 and 4.
    """

    k: int = 1

    def __post_init__(self) -> None:
        check_counts(self, "k")


def make(name: str, label: str, setting: Setting, options: Options) -> HistoryAsText[Tokens]:
    """The base's answers after each user's nearest past items."""

    def asked(prompts: Prompts, ask: Ask) -> Tokens:
        return prompts.retrieved(ask, options.k)

    return HistoryAsText(name, label, setting, asked, answer, "has no history to retrieve from")
