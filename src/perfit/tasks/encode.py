"""From an example to tokens: prompt and answer apart, joined as tokens, and never a cut answer."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, cast

from perfit.backbone.tokenizer_turn import TURN
from perfit.data.schema import Turn
from perfit.errors import ConfigError, DataError
from perfit.tasks.plain_text import chat_ids, plain_ids
from perfit.tasks.task import Example

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

_PLAIN = {"add_special_tokens": False, "split_special_tokens": True, "verbose": False}


@dataclass(frozen=True, slots=True)
class Encoded:
    """Tokens of one example.

    Attributes:
        prompt_ids: The prompt, with the tokens the tokenizer itself puts in front (BOS).
        answer_ids: The answer and the end-of-sequence token; empty for generation.
        truncated: Whether the user's text was shortened to fit.
    """

    prompt_ids: tuple[int, ...]
    answer_ids: tuple[int, ...]
    truncated: bool


def encode(
    example: Example,
    tokenizer: PreTrainedTokenizerBase,
    *,
    max_length: int,
    chat_template: bool = False,
    with_answer: bool = True,
    answer_room: int = 0,
) -> Encoded:
    """Tokenise an example as ``prompt + " " + answer + eos``.

    Prompt and answer are tokenised apart, so the prompt's tokens do not depend on the answer, and the loss begins
    exactly at the answer. Names of special tokens inside users' text ("</s>") stay text, under a chat template too.

    A tokenizer of the SentencePiece kind puts a blank of its own before every text, which would give two between
    prompt and answer; of ``" " + answer`` and ``answer`` the one is taken that decodes, after the prompt's last
    token, to the blanks asked for.

    Args:
        example: The texts.
        tokenizer: A Hugging Face tokenizer with an end-of-sequence token.
        max_length: Most tokens of prompt and answer together. Beyond it a conversation loses its oldest turns, but for
            the system's, then ``example.body`` its end; nothing else.
        chat_template: Make the prompt the user's turn of the tokenizer's chat template; the answer then follows the
            template directly, without a blank.
        with_answer: False for generation: only the prompt.
        answer_room: Tokens kept free for the answer even when it is shorter or absent. With room for the longest
            answer, over-long prompts too are cut at the same place in training and generation.

    Raises:
        DataError: The answer is missing or empty, or instruction and answer alone exceed ``max_length``; the message
            names the example and the lengths.
        ConfigError: The tokenizer has no end-of-sequence token or no chat template.
    """
    answer_ids: tuple[int, ...] = ()
    body, turns = example.body, example.turns
    if turns and not chat_template:
        raise ConfigError("chat_template is False, and there are conversations; set chat_template: true")
    prompt_ids = text_ids(example.prompt, tokenizer, chat_template, turns)
    if not prompt_ids:
        raise DataError("the prompt has no tokens", record=f"example {example.id}")
    if with_answer:
        answer_ids = _answer_ids(example, tokenizer, prompt_ids[-1], chat_template)
    room = max_length - max(len(answer_ids), answer_room)
    while len(prompt_ids) > room and (fewer := _without_oldest(turns)) is not turns:
        turns = fewer
        prompt_ids = text_ids(example.prompt, tokenizer, chat_template, turns)
    while len(prompt_ids) > room:
        if not body:
            raise DataError(
                f"instruction ({len(prompt_ids)} tokens) and answer ({len(answer_ids)} tokens, room for {answer_room}) "
                f"exceed max_length {max_length} without any of the user's text",
                record=f"example {example.id}",
                remedy="raise max_length or leave the example out",
            )
        body = _shorter(body, len(prompt_ids) - room, tokenizer)
        prompt_ids = text_ids(example.head + body + example.tail, tokenizer, chat_template, turns)
    return Encoded(tuple(prompt_ids), answer_ids, truncated=len(body) < len(example.body) or turns != example.turns)


def label_ids(
    labels: Sequence[str], tokenizer: PreTrainedTokenizerBase, last_prompt_id: int, chat_template: bool = False
) -> tuple[tuple[int, ...], ...]:
    """Tokens of each label, its eos included, as ``encode`` puts them behind a prompt that ends in this token.

    Raises:
        DataError, ConfigError: As ``encode``.
    """
    examples = [Example(label, "", "", "", label) for label in labels]
    return tuple(_answer_ids(example, tokenizer, last_prompt_id, chat_template) for example in examples)


def text_ids(
    prompt: str, tokenizer: PreTrainedTokenizerBase, chat_template: bool = False, turns: Sequence[Turn] = ()
) -> list[int]:
    """Tokens of a whole prompt, exactly those that ``encode`` feeds: what counts lengths counts these.

    Raises:
        ConfigError: There is no chat template, or the tokenizer makes control tokens of users' text.
    """
    return chat_ids(prompt, tokenizer, turns) if chat_template else plain_ids(prompt, tokenizer, front=True)


def longest_label(labels: Sequence[str], prompt: str, tokenizer: PreTrainedTokenizerBase, chat_template: bool) -> int:
    """Tokens of the longest label, without its eos, as they follow this prompt.

    Raises:
        DataError, ConfigError: As ``encode``.
    """
    last = text_ids(prompt, tokenizer, chat_template)[-1]
    return max(len(_said_ids(Example(label, "", "", "", label), tokenizer, last, chat_template)) for label in labels)


def _answer_ids(
    example: Example, tokenizer: PreTrainedTokenizerBase, last_prompt_id: int, chat_template: bool
) -> tuple[int, ...]:
    if tokenizer.eos_token_id is None:
        raise ConfigError("the tokenizer has no eos_token; set one, it ends every answer")
    return (*_said_ids(example, tokenizer, last_prompt_id, chat_template), cast(int, tokenizer.eos_token_id))


def _said_ids(
    example: Example, tokenizer: PreTrainedTokenizerBase, last_prompt_id: int, chat_template: bool
) -> list[int]:
    record = f"example {example.id}"
    if example.answer is None or not example.answer.strip():
        raise DataError("the answer is missing or empty", record=record, remedy="leave the example out of training")
    texts = [example.answer] if chat_template else [" " + example.answer, example.answer]
    variants = [plain_ids(text, tokenizer) for text in texts]
    blanks = _leading_blanks(texts[0])
    before = _decode(tokenizer, [last_prompt_id])
    fitting = (
        ids for ids in variants if _leading_blanks(_decode(tokenizer, [last_prompt_id, *ids])[len(before) :]) == blanks
    )
    ids = next(fitting, variants[0])
    if not ids:
        raise DataError("the answer has no tokens", record=record, remedy="leave the example out of training")
    return ids


def _decode(tokenizer: PreTrainedTokenizerBase, ids: list[int]) -> str:
    return cast(str, tokenizer.decode(ids, skip_special_tokens=False, clean_up_tokenization_spaces=False))


def _leading_blanks(text: str) -> int:
    return len(text) - len(text.lstrip(" "))


def _without_oldest(turns: tuple[Turn, ...]) -> tuple[Turn, ...]:
    """Without the oldest message that is not the system's, and whatever then stands before the next of the user."""
    first = next((place for place, turn in enumerate(turns) if turn.role != "system"), None)
    if first is None:
        return turns
    after = next((p for p in range(first + 1, len(turns)) if turns[p].role == "user"), len(turns))
    return turns[:first] + turns[after:]


def _shorter(body: str, excess: int, tokenizer: PreTrainedTokenizerBase) -> str:
    """``body`` without about its last ``excess`` tokens; always at least one character shorter."""
    if tokenizer.is_fast:
        # Offsets, not decoding: half a character would come back as a replacement sign.
        with TURN:
            offsets = tokenizer(body, return_offsets_mapping=True, **_PLAIN)["offset_mapping"]
        keep = len(offsets) - excess
        cut = offsets[keep][0] if keep > 0 else 0
    else:
        length = len(plain_ids(body, tokenizer))
        keep = length - excess
        cut = len(body) * keep // length if keep > 0 else 0
    return body[: min(cut, len(body) - 1)]
