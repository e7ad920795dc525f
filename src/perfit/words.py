"""Words of a text in any script: what cuts, counts, search, the leak audit and scores take for a word.

Where blanks separate words, words are what blanks separate, as in the papers' code. Chinese, Japanese, Thai, Lao, Khmer,
Burmese and a few other scripts write none: there, two neighbouring characters (as readers count them, marks included)
stand for a word. That needs no dictionary, is the same everywhere, and is near the mean length of Chinese words.
"""

from __future__ import annotations

import random
import re
import unicodedata
from collections.abc import Iterator

import regex

_SCRIPTS = (
    "Han Hiragana Katakana Bopomofo Yi Thai Lao Khmer Myanmar Tibetan Javanese Balinese Tai_Tham Tai_Le New_Tai_Lue "
    "Tai_Viet"
)
# The long vowel of Japanese belongs to two scripts and thus, in Unicode, to none.
_UNSPACED = "".join(rf"\p{{{script}}}" for script in _SCRIPTS.split()) + "\u30fc\uff70"
_CHARACTER = rf"(?:(?=[{_UNSPACED}])\X)"
_ANY = regex.compile(rf"[{_UNSPACED}]")
_BLANK_WORD = re.compile(r"\S+")
# Punctuation stays with the word before it, as it does where blanks separate words.
_WORD = regex.compile(rf"{_CHARACTER}{{1,2}}[^\s\w{_UNSPACED}]*|[^\s{_UNSPACED}]+")
_TERM = regex.compile(rf"(?P<unspaced>{_CHARACTER}+)|[^\s\p{{P}}\p{{S}}{_UNSPACED}]+")
_TOKEN = regex.compile(rf"(?P<unspaced>{_CHARACTER}+)|[[\w\p{{N}}\p{{M}}]--[{_UNSPACED}]]+", flags=regex.V1)
_INNER_BLANK = regex.compile(rf"(?<=[{_UNSPACED}])\s+|\s+(?=[{_UNSPACED}])")
_LATIN = regex.compile(r"[\p{L}&&\p{Latin}]", flags=regex.V1)
_OTHER_LETTER = regex.compile(r"[\p{L}--\p{Lm}--\p{Latin}]", flags=regex.V1)
_INVISIBLE = regex.compile(r"\p{Cf}+")


def composed(text: str) -> str:
    """The text in Unicode's composed form (NFC): one spelling of "é", whatever the source wrote."""
    return text if text.isascii() else unicodedata.normalize("NFC", text)


def words(text: str) -> list[str]:
    """The words of a text, punctuation included, in order."""
    return [text[begin:end] for begin, end in _spans(text)]


def count_words(text: str) -> int:
    """How many words a text has."""
    return sum(1 for _ in _spans(text))


def first_words(text: str, limit: int | None) -> str:
    """The text up to the end of its ``limit``-th word; unchanged, spaces included, when it has no more.

    The reference rejoins words with single blanks even when nothing is cut, in training only; keeping the user's
    spacing makes training and evaluation prompts the same.
    """
    if limit is None:
        return text
    kept = 0
    for count, (_, end) in enumerate(_spans(text)):
        if count == limit:
            return text[:kept]
        kept = end
    return text


def shuffled(text: str, chance: random.Random) -> str:
    """The words of a text in another order, with a blank between those that blanks separate."""
    mixed = chance.sample(own := words(text), len(own))
    result = ""
    for word in mixed:
        blank = result and not (_ANY.match(word) and _ANY.search(result[-4:]))
        result += f" {word}" if blank else word
    return result


def terms(text: str) -> list[str]:
    """What BM25 searches by: what blanks separate, case kept (the protocol's words); overlapping pairs of characters
    in scripts without blanks, where punctuation is left out."""
    pieces = text.split(" ")
    if not _ANY.search(text):
        return pieces
    found: list[str] = []
    for piece in pieces:
        if not _ANY.search(piece):
            found.append(piece)
            continue
        for match in _TERM.finditer(piece):
            found += _pairs(match[0]) if match["unspaced"] else [match[0]]
    return found


def tokens(text: str, *, pairs: bool = False) -> list[str]:
    """Lower-case words without punctuation; in scripts without blanks each character, or with ``pairs`` overlapping
    pairs of them."""
    found: list[str] = []
    for match in _TOKEN.finditer(text.lower()):
        if not match["unspaced"]:
            found.append(match[0])
        else:
            found += _pairs(match[0]) if pairs else _characters(match[0])
    return found


def visible(text: str) -> list[str]:
    """The characters of a text as readers count them, blanks left out."""
    return [character for character in _characters(text) if character.strip()]


def matching_key(text: str) -> str:
    """What is equal for two texts that a reader takes for the same: case, width, spacing and invisible signs aside."""
    if text.isascii():
        return " ".join(text.casefold().split())
    plain = _INVISIBLE.sub("", unicodedata.normalize("NFKC", unicodedata.normalize("NFKC", text).casefold()))
    joined: str = _INNER_BLANK.sub("", " ".join(plain.split()))
    return joined


def mostly_latin(text: str) -> bool:
    """Whether at least half of a text's letters are Latin, or it has none."""
    return other_letters(text) <= len(_LATIN.findall(text))


def other_letters(text: str) -> int:
    """How many letters of other scripts than Latin a text has."""
    return 0 if text.isascii() else len(_OTHER_LETTER.findall(text))


def _spans(text: str) -> Iterator[tuple[int, int]]:
    pattern = _WORD if _ANY.search(text) else _BLANK_WORD
    return (match.span() for match in pattern.finditer(text))


def _characters(text: str) -> list[str]:
    return list(regex.findall(r"\X", text))


def _pairs(text: str) -> list[str]:
    own = _characters(text)
    return own if len(own) < 2 else ["".join(own[i : i + 2]) for i in range(len(own) - 1)]
