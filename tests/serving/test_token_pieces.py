"""Tokens as pieces that can be shown: whole characters, blanks where they stand, and every token counted once."""

from __future__ import annotations

import pytest
from small_base import write_base
from transformers import AutoTokenizer

from perfit.serving.token_pieces import token_pieces

TEXTS = (
    "river stone lamp",
    " two  blanks",
    "今天天气很好，我们去公园。",
    "สวัสดีครับ ไปไหนมา",
    "a👩‍👩‍👧 b",
    "naïve ﬁre\n\tend",
)


@pytest.fixture(scope="module")
def bytes_alone(tmp_path_factory: pytest.TempPathFactory) -> object:
    return AutoTokenizer.from_pretrained(write_base(tmp_path_factory.mktemp("base")))


@pytest.mark.parametrize("text", TEXTS)
def test_pieces_joined_are_the_text_and_no_character_is_torn(bytes_alone: object, text: str) -> None:
    ids = bytes_alone.encode(text)  # type: ignore[attr-defined]
    pieces = token_pieces(bytes_alone, ids)
    assert "".join(piece.text for piece in pieces) == text
    assert sum(piece.tokens for piece in pieces) == len(ids)
    assert all(piece.text and "\ufffd" not in piece.text for piece in pieces)


def test_special_tokens_are_shown_and_half_a_character_at_the_end_too(bytes_alone: object) -> None:
    ids = [0, *bytes_alone.encode("好")[:1], 1, *bytes_alone.encode("好")[:2]]  # type: ignore[attr-defined]
    pieces = token_pieces(bytes_alone, ids)
    assert pieces[0].text == "<s>"
    assert "</s>" in "".join(piece.text for piece in pieces)
    assert sum(piece.tokens for piece in pieces) == len(ids)


def test_a_blank_that_a_token_has_only_behind_another_is_there() -> None:
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers
    from transformers import PreTrainedTokenizerFast

    made = Tokenizer(models.WordLevel({"▁river": 0, "▁stone": 1}, unk_token="▁river"))
    made.pre_tokenizer = pre_tokenizers.Metaspace()  # type: ignore[assignment]
    made.decoder = decoders.Metaspace()  # type: ignore[assignment]
    pieces = token_pieces(PreTrainedTokenizerFast(tokenizer_object=made), [0, 1, 1])
    assert [piece.text for piece in pieces] == ["river", " stone", " stone"]
