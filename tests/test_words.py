"""Words in scripts with and without blanks: counts, cuts, shuffles, search words and what is taken for the same text."""

from __future__ import annotations

import random
import unicodedata

import pytest
from hypothesis import given
from hypothesis import strategies as st

from perfit import words as w

CHINESE = "河边老茶馆里的陶艺展览，今天开幕"
JAPANESE = "春のラーメン祭りが始まりました"
THAI = "วันนี้อากาศดีมากเราไปเดินเล่นกัน"
LATIN = st.text("abcxyzé .,-'\n\t", max_size=60)


@given(LATIN)
def test_where_blanks_separate_words_they_are_what_blanks_separate(text: str) -> None:
    assert w.words(text) == text.split()
    assert w.count_words(text) == len(text.split())
    assert w.terms(text) == text.split(" ")


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("河边老茶馆", ["河边", "老茶", "馆"]),
        ("今天，see the 茶馆!", ["今天，", "see", "the", "茶馆!"]),
        ("ラーメン屋", ["ラー", "メン", "屋"]),
        ("สวัสดีครับ", ["สวั", "สดี", "ครั", "บ"]),  # a mark is no character of its own
        ("봄 도자기 전시회", ["봄", "도자기", "전시회"]),
        ("معرض الربيع", ["معرض", "الربيع"]),
    ],
)
def test_two_characters_stand_for_a_word_where_no_blanks_do(text: str, expected: list[str]) -> None:
    assert w.words(text) == expected


@pytest.mark.parametrize("text", [CHINESE, JAPANESE, THAI, f"{CHINESE} and {THAI}"])
def test_a_cut_loses_the_end_and_nothing_else(text: str) -> None:
    total = w.count_words(text)
    assert total > 6
    for limit in range(1, total):
        cut = w.first_words(text, limit)
        assert text.startswith(cut)
        assert w.count_words(cut) == limit
    assert w.first_words(text, total) == w.first_words(text, None) == text


@pytest.mark.parametrize("text", [CHINESE, JAPANESE, THAI, "one two three four five six"])
def test_a_shuffled_text_has_the_same_words_in_another_order(text: str) -> None:
    mixed = w.shuffled(text, random.Random(3))
    assert mixed != text
    assert sorted(mixed.replace(" ", "")) == sorted(text.replace(" ", ""))
    assert (" " in mixed) == (" " in text)


def test_blanks_stand_between_shuffled_words_that_had_them() -> None:
    assert sorted(w.shuffled("b a  c", random.Random(0)).split(" ")) == ["a", "b", "c"]


def test_search_words_are_overlapping_pairs_without_punctuation() -> None:
    assert w.terms("note: 老茶馆，开幕 a.b\n") == ["note:", "老茶", "茶馆", "开幕", "a.b\n"]
    assert w.terms("茶") == ["茶"]


def test_tokens_are_words_of_any_script() -> None:
    assert w.tokens("The Cat's naïve x²!") == ["the", "cat", "s", "naïve", "x²"]
    assert w.tokens("हिन्दी में") == ["हिन्दी", "में"]
    assert w.tokens("Go茶馆") == ["go", "茶", "馆"]
    assert w.tokens("老茶馆", pairs=True) == ["老茶", "茶馆"]
    assert w.tokens("?! 🙂") == []
    assert w.visible("🙂 👍🏽") == ["🙂", "👍🏽"]


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("  The QUICK\n fox ", "the quick fox"),
        (unicodedata.normalize("NFD", "Café été"), "café été"),
        ("ＡＢＣ茶馆", "abc茶馆"),
        ("老 茶馆\n开幕", "老茶馆开幕"),
        ("วันนี้\u200bอากาศดี", "วันนี้อากาศดี"),
        ("straße", "STRASSE"),
    ],
)
def test_what_a_reader_takes_for_the_same_has_one_key(one: str, other: str) -> None:
    assert w.matching_key(one) == w.matching_key(other)


def test_other_words_have_other_keys() -> None:
    assert w.matching_key("a bc") != w.matching_key("ab c")
    assert w.matching_key("茶馆") != w.matching_key("馆茶")


def test_the_script_of_a_text() -> None:
    assert [w.mostly_latin(text) for text in ("Ünïcode ω", "iPhone 河边老茶馆里的", "🙂", "Привет", "")] == [
        True,
        False,
        True,
        False,
        True,
    ]
    assert w.other_letters("αβ and ˆ") == 2
