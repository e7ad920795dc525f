"""Pieces of a growing text: joined they are the whole, whatever was held back on the way."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tokenizers import Tokenizer, decoders, models, pre_tokenizers
from transformers import PreTrainedTokenizerFast

from perfit.inference.growing_text import GrowingText, text_of
from perfit.stop_strings import begun, stops, until_stop

WORDS = ("a", "b", "ab", " ", "\n", "c ")


def _wrapped(tokenizer: Tokenizer, decoder: decoders.Decoder, **more: bool) -> PreTrainedTokenizerFast:
    tokenizer.decoder = decoder
    return PreTrainedTokenizerFast(tokenizer_object=tokenizer, **more)


@cache
def bytes_in_letters() -> PreTrainedTokenizerFast:
    """GPT-2's kind: each token is some bytes, written as letters."""
    letters = sorted(pre_tokenizers.ByteLevel.alphabet())
    return _wrapped(Tokenizer(models.BPE({letter: n for n, letter in enumerate(letters)}, [])), decoders.ByteLevel())


@cache
def bytes_by_name() -> PreTrainedTokenizerFast:
    """Llama 2's kind: words, and bytes that are whole characters only together."""
    names = [*(f"<0x{byte:02X}>" for byte in range(256)), *(word.replace(" ", "▁") for word in WORDS)]
    decoder = decoders.Sequence([decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse()])
    return _wrapped(Tokenizer(models.BPE({name: n for n, name in enumerate(names)}, [])), decoder)


@cache
def tidied() -> PreTrainedTokenizerFast:
    """A tokenizer that takes blanks away before signs."""
    names = ["it", " '", "s", " ", ".", " n", "'t"]
    model = models.WordLevel({name: n for n, name in enumerate(names)}, unk_token="it")
    return _wrapped(Tokenizer(model), decoders.Fuse(), clean_up_tokenization_spaces=True)


TOKENIZERS = {"letters": bytes_in_letters, "names": bytes_by_name, "tidied": tidied}


def tokens_of(text: str) -> list[int]:
    """Of bytes in letters."""
    splits = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False).pre_tokenize_str(text)
    return [bytes_in_letters().get_vocab()[letter] for letters, _ in splits for letter in letters]


def pieces_of(kind: str, tokens: Sequence[int], stop: Sequence[str]) -> tuple[list[str], list[int]]:
    """What each token shows, the rest last; and the tokens up to the end."""
    growing = GrowingText(TOKENIZERS[kind](), stop)
    pieces = []
    for token in tokens:
        pieces.append(growing.take(token))
        if growing.ended:
            break
    return [*pieces, growing.rest()], growing.tokens


STOPS = st.lists(st.text("ab \n日🙂\ufffd", min_size=1, max_size=3), max_size=3)
TEXTS = st.lists(st.sampled_from(["a", "b", "ab", " ", "\n", "日本", "🙂", "é"]), max_size=12).map("".join)


@pytest.mark.parametrize("kind", TOKENIZERS)
@given(st.data())
def test_pieces_of_any_tokens_are_the_whole(kind: str, data: st.DataObject) -> None:
    # Most of the byte sequences that are drawn here are no text at all.
    tokenizer = TOKENIZERS[kind]()
    named = data.draw(st.booleans())
    some = st.integers(len(tokenizer) - len(WORDS) if named else 0, len(tokenizer) - 1)
    tokens = data.draw(st.lists(some, max_size=12))
    check(kind, tokens, data.draw(STOPS))


@given(TEXTS, STOPS)
def test_pieces_of_texts_are_the_whole(text: str, stop: list[str]) -> None:
    check("letters", tokens_of(text), stop)
    vocabulary = bytes_by_name().get_vocab()
    check("names", [vocabulary[f"<0x{byte:02X}>"] for byte in text.encode()], stop)
    # Bytes and words by turns: "日" in bytes, "a" as a word.
    mixed = [
        vocabulary[name]
        for character in text
        for name in ([character] if character in "ab" else [f"<0x{byte:02X}>" for byte in character.encode()])
    ]
    check("names", mixed, stop)


def check(kind: str, tokens: Sequence[int], stop: Sequence[str]) -> None:
    pieces, taken = pieces_of(kind, tokens, stop)
    tokenizer = TOKENIZERS[kind]()
    ends = [n for n in range(1, len(tokens) + 1) if stops(text_of(tokenizer, tokens[:n]), stop)]
    assert taken == list(tokens[: ends[0] if ends else len(tokens)])
    assert "".join(pieces) == until_stop(text_of(tokenizer, taken), stop)


def test_a_character_of_several_tokens_comes_whole_and_at_once() -> None:
    pieces, _ = pieces_of("letters", tokens_of("né日🙂x"), ())
    assert pieces == ["n", "", "é", "", "", "日", "", "", "", "🙂", "x", ""]


def test_bytes_with_names_wait_for_what_is_no_byte() -> None:
    vocabulary = bytes_by_name().get_vocab()
    tokens = [vocabulary[name] for name in ("a", "<0xC3>", "<0xA9>", "<0xE6>", "b", "ab")]
    # "é" was whole for a moment, and is no character any more beside half of another.
    assert pieces_of("names", tokens, ())[0] == ["a", "", "", "", "\ufffd\ufffd\ufffdb", "ab", ""]
    assert pieces_of("names", tokens[:3], ())[0] == ["a", "", "", "é"]


def test_what_may_begin_a_stop_string_waits_and_comes_when_it_does_not() -> None:
    pieces, taken = pieces_of("letters", tokens_of("xabayabab!"), ["abab", "yb"])
    assert pieces == ["x", "", "", "", "aba", "y", "", "", "", ""]
    assert text_of(bytes_in_letters(), taken) == "xabayabab"


def test_text_that_is_written_anew_comes_at_the_end() -> None:
    vocabulary = tidied().get_vocab()
    tokens = [vocabulary[name] for name in ("it", " ", ".", " '", "s")]
    assert pieces_of("tidied", tokens, ())[0] == ["", "", "", "", "", "it.'s"]


@pytest.mark.parametrize(
    ("text", "stop", "count"),
    [("xab", ["abc"], 2), ("xab", ["b", "bcd", "xabc"], 3), ("xab", ["ac"], 0), ("", ["a"], 0), ("aa", ["aaa"], 2)],
)
def test_the_longest_beginning_counts(text: str, stop: list[str], count: int) -> None:
    assert begun(text, stop) == count
