"""Tokens: the answer is whole, the prompt never depends on it, and only the user's text is shortened."""

from __future__ import annotations

import copy
from dataclasses import replace
from types import SimpleNamespace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from perfit.errors import ConfigError, DataError
from perfit.tasks import Example, encode

KINDS = ["byte_level", "with_bos", "llama2_like", "metaspace"]
BODY = "the cat sat on the mat and the dog ran to the article"
EXAMPLE = Example("e1", "Which category? article: ", BODY, " category:", "science & technology")

texts = st.text(st.characters(exclude_categories=["Cs"]), max_size=60)
answers = texts.map(str.strip).filter(bool)


def decode(tokenizer, ids) -> str:  # type: ignore[no-untyped-def]
    return str(tokenizer.decode(list(ids), skip_special_tokens=True, clean_up_tokenization_spaces=False))


@pytest.mark.parametrize("kind", KINDS)
def test_prompt_and_answer_decode_to_the_text_with_one_blank_between(toy: SimpleNamespace, kind: str) -> None:
    tokenizer = getattr(toy, kind)()
    encoded = encode(EXAMPLE, tokenizer, max_length=512)
    assert encoded.answer_ids[-1] == tokenizer.eos_token_id
    text = decode(tokenizer, encoded.prompt_ids + encoded.answer_ids[:-1])
    assert text == EXAMPLE.prompt + " science & technology"
    assert not encoded.truncated


@pytest.mark.parametrize("kind", KINDS)
def test_generation_prompts_are_the_training_prompts(toy: SimpleNamespace, kind: str) -> None:
    tokenizer = getattr(toy, kind)()
    training = encode(EXAMPLE, tokenizer, max_length=512)
    generation = encode(replace(EXAMPLE, answer=None), tokenizer, max_length=512, with_answer=False)
    assert generation.prompt_ids == training.prompt_ids
    assert generation.answer_ids == ()


def test_the_tokenizer_s_bos_is_kept_and_its_eos_is_not(toy: SimpleNamespace) -> None:
    plain = encode(EXAMPLE, toy.byte_level(), max_length=512).prompt_ids
    assert encode(EXAMPLE, toy.with_bos(), max_length=512).prompt_ids == (0, *plain)
    both = encode(EXAMPLE, toy.with_bos(append_eos=True), max_length=512)
    assert both.prompt_ids == (0, *plain)
    assert both.answer_ids.count(1) == 1


def test_names_of_special_tokens_in_a_text_stay_text(toy: SimpleNamespace) -> None:
    tokenizer = toy.byte_level()
    example = replace(EXAMPLE, body="an </s> inside", answer="<s> and </s>")
    encoded = encode(example, tokenizer, max_length=512)
    assert tokenizer.eos_token_id not in encoded.prompt_ids + encoded.answer_ids[:-1]
    assert decode(tokenizer, encoded.prompt_ids + encoded.answer_ids[:-1]) == example.prompt + " <s> and </s>"


@settings(max_examples=150, deadline=None)
@given(head=texts, body=texts, tail=texts, answer=answers)
def test_byte_level_round_trip(toy: SimpleNamespace, head: str, body: str, tail: str, answer: str) -> None:
    example = Example("e", "h" + head, body, tail, answer)
    encoded = encode(example, toy.byte_level(), max_length=4096)
    ids = encoded.prompt_ids + encoded.answer_ids[:-1]
    assert decode(toy.byte_level(), ids) == example.prompt + " " + answer


@settings(max_examples=150, deadline=None)
@given(kind=st.sampled_from(KINDS), body=texts, answer=answers, other=answers, max_length=st.integers(8, 200))
def test_the_answer_is_whole_and_the_rest_fits(
    toy: SimpleNamespace, kind: str, body: str, answer: str, other: str, max_length: int
) -> None:
    tokenizer = getattr(toy, kind)()
    example = Example("e", "article: ", body, " category:", answer)
    whole = encode(example, tokenizer, max_length=100_000)
    assert encode(replace(example, answer=other), tokenizer, max_length=100_000).prompt_ids == whole.prompt_ids
    try:
        encoded = encode(example, tokenizer, max_length=max_length)
    except DataError:
        bare = encode(replace(example, body=""), tokenizer, max_length=100_000)
        assert len(bare.prompt_ids) + len(bare.answer_ids) > max_length
        return
    assert encoded.answer_ids == whole.answer_ids
    assert len(encoded.prompt_ids) + len(encoded.answer_ids) <= max_length
    assert encoded.truncated == (len(whole.prompt_ids) + len(whole.answer_ids) > max_length)
    if not encoded.truncated:
        assert encoded.prompt_ids == whole.prompt_ids


@pytest.mark.parametrize("kind", KINDS)
def test_only_the_end_of_the_body_is_lost_and_no_more_than_needed(toy: SimpleNamespace, kind: str) -> None:
    tokenizer = getattr(toy, kind)()
    whole = encode(EXAMPLE, tokenizer, max_length=512)
    limit = len(whole.prompt_ids) + len(whole.answer_ids) - 6
    short = encode(EXAMPLE, tokenizer, max_length=limit)
    text = decode(tokenizer, short.prompt_ids)
    assert short.truncated
    assert limit - 2 <= len(short.prompt_ids) + len(short.answer_ids) <= limit
    assert text.startswith(EXAMPLE.head)
    assert text.endswith(EXAMPLE.tail)
    assert BODY.startswith(text[len(EXAMPLE.head) : -len(EXAMPLE.tail)])


def test_a_slow_tokenizer_is_cut_too(toy: SimpleNamespace) -> None:
    class Slow:
        """Everything of a fast tokenizer except offsets."""

        is_fast = False

        def __getattr__(self, name: str) -> object:
            return getattr(toy.byte_level(), name)

    short = encode(EXAMPLE, Slow(), max_length=18)  # type: ignore[arg-type]
    text = decode(toy.byte_level(), short.prompt_ids)
    assert short.truncated
    assert len(short.prompt_ids) + len(short.answer_ids) <= 18
    assert text.startswith(EXAMPLE.head)
    assert text.endswith(EXAMPLE.tail)


def test_what_is_shortened_is_not_warned_of_as_if_it_ran(toy: SimpleNamespace, monkeypatch: pytest.MonkeyPatch) -> None:
    """Transformers says once that a text too long "will result in indexing errors"; here it is cut before it runs."""
    from transformers import tokenization_utils_base

    def warned(text: str) -> None:
        raise AssertionError(text)

    monkeypatch.setattr(tokenization_utils_base.logger, "warning", warned)
    tokenizer = copy.copy(toy.byte_level())
    tokenizer.model_max_length = 8
    tokenizer.deprecation_warnings = {}
    cut = encode(Example("a", "note: ", "word " * 50, " folder:", "x"), tokenizer, max_length=16)
    assert cut.truncated
    assert len(cut.prompt_ids) > 8


def test_half_characters_are_not_left_behind(toy: SimpleNamespace) -> None:
    example = replace(EXAMPLE, body="日本語🙂" * 20)
    for limit in range(50, 60):
        assert "\ufffd" not in decode(toy.byte_level(), encode(example, toy.byte_level(), max_length=limit).prompt_ids)


def test_room_for_the_answer_makes_cut_prompts_equal_in_training_and_generation(toy: SimpleNamespace) -> None:
    options = {"max_length": 30, "answer_room": 14}
    training = encode(EXAMPLE, toy.byte_level(), **options)
    generation = encode(EXAMPLE, toy.byte_level(), with_answer=False, **options)
    assert training.truncated
    assert training.prompt_ids == generation.prompt_ids


def test_an_example_that_cannot_fit_is_named_with_its_lengths(toy: SimpleNamespace) -> None:
    with pytest.raises(DataError, match=r"example e1: instruction \(\d+ tokens\).*max_length 8") as caught:
        encode(EXAMPLE, toy.byte_level(), max_length=8)
    assert "cat" not in str(caught.value)
    assert "science" not in str(caught.value)


@pytest.mark.parametrize("answer", [None, "", "  "])
def test_an_empty_answer_is_refused(toy: SimpleNamespace, answer: str | None) -> None:
    with pytest.raises(DataError, match="example e1"):
        encode(replace(EXAMPLE, answer=answer), toy.byte_level(), max_length=512)


def test_an_empty_prompt_is_refused(toy: SimpleNamespace) -> None:
    with pytest.raises(DataError, match="no tokens"):
        encode(Example("e1", "", "", "", "a"), toy.byte_level(), max_length=512)


def test_chat_template(toy: SimpleNamespace) -> None:
    tokenizer = copy.deepcopy(toy.with_bos())
    with pytest.raises(ConfigError, match="chat_template is True"):
        encode(EXAMPLE, tokenizer, max_length=512, chat_template=True)
    tokenizer.chat_template = (
        "{{ bos_token }}{% for m in messages %}{{ m.role }}: {{ m.content }}\n{% endfor %}"
        "{% if add_generation_prompt %}assistant: {% endif %}"
    )
    encoded = encode(EXAMPLE, tokenizer, max_length=512, chat_template=True)
    assert encoded.prompt_ids.count(tokenizer.bos_token_id) == 1
    text = decode(tokenizer, encoded.prompt_ids + encoded.answer_ids[:-1])
    assert text == f"user: {EXAMPLE.prompt}\nassistant: science & technology"
    limit = len(encoded.prompt_ids) + len(encoded.answer_ids) - 4
    short = encode(EXAMPLE, tokenizer, max_length=limit, chat_template=True)
    assert short.truncated
    assert decode(tokenizer, short.prompt_ids).endswith(" category:\nassistant: ")


def test_without_an_end_of_sequence_token(toy: SimpleNamespace) -> None:
    tokenizer = copy.deepcopy(toy.byte_level())
    tokenizer.eos_token = None
    with pytest.raises(ConfigError, match="eos_token"):
        encode(EXAMPLE, tokenizer, max_length=512)
