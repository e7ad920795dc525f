"""Users' text as tokens: what it says, never the control tokens it may name ("<|im_end|>", "</s>").

Outside a chat template the tokenizer is told to split the names of its special tokens like any other word. In a rendered
template it cannot be told so of one part alone: there the names in the text are broken up by a sign of no width. Either
way it is looked whether that held.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, cast
from weakref import WeakKeyDictionary

from perfit.backbone.tokenizer_turn import TURN
from perfit.data.conversation import messages_of
from perfit.data.schema import Turn
from perfit.errors import ConfigError, DataError

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

_QUIET: dict[str, Any] = {"verbose": False}  # texts are measured before they are shortened: nothing too long ever runs
_BREAK = "\u200b"
_BYTE = re.compile("<0x[0-9A-F]{2}>")


def plain_ids(text: str, tokenizer: PreTrainedTokenizerBase, *, front: bool = False) -> list[int]:
    """Tokens of a text that holds no control tokens, whatever it names.

    Args:
        text: Anybody's.
        tokenizer: Splits it.
        front: Add the tokens the tokenizer itself puts in front of a sequence (BOS); one it puts behind (EOS) is left
            out, which would tell the model that the text is over.

    Raises:
        ConfigError: The tokenizer makes control tokens of a text all the same.
    """
    ids = _split(text, tokenizer, front)
    if _named(text, tokenizer):
        broken = _split(_broken(text, tokenizer), tokenizer, front)
        if _controls(ids, tokenizer) != _controls(broken, tokenizer):
            ids = broken
        _check(ids, _split("", tokenizer, front), tokenizer)
    while front and len(ids) > 1 and ids[-1] == tokenizer.eos_token_id:
        ids.pop()
    return ids


def chat_ids(text: str, tokenizer: PreTrainedTokenizerBase, turns: Sequence[Turn] = ()) -> list[int]:
    """Tokens of a text as the user's turn of the tokenizer's chat template, up to where the answer begins.

    Args:
        text: What the user says.
        tokenizer: Brings the template.
        turns: What was said before.

    Raises:
        ConfigError: The tokenizer has no chat template, or makes control tokens of the text all the same.
        DataError: The template refuses these roles in this order.
    """
    if not tokenizer.chat_template:
        raise ConfigError("chat_template is True, but this tokenizer has none; set it to False")
    said = (*turns, Turn("user", text))
    if not any(_named(turn.content, tokenizer) for turn in said):
        return _rendered(said, tokenizer)
    ids = _rendered([Turn(turn.role, _broken(turn.content, tokenizer)) for turn in said], tokenizer)
    _check(ids, _rendered([Turn(turn.role, "a") for turn in said], tokenizer), tokenizer)
    return ids


def _rendered(said: Sequence[Turn], tokenizer: PreTrainedTokenizerBase) -> list[int]:
    from jinja2 import TemplateError

    with TURN:
        try:
            rendered = cast(
                str, tokenizer.apply_chat_template(messages_of(said), tokenize=False, add_generation_prompt=True)
            )
        except TemplateError:
            roles = ", ".join(turn.role for turn in said)
            raise DataError(
                f"the base's chat template refuses these turns: {roles}",
                remedy="most take a user's and the assistant's in turn, some no system message",
            ) from None
        return cast("list[int]", tokenizer.encode(rendered, add_special_tokens=False, **_QUIET))


def _split(text: str, tokenizer: PreTrainedTokenizerBase, front: bool) -> list[int]:
    with TURN:
        return cast("list[int]", tokenizer.encode(text, add_special_tokens=front, split_special_tokens=True, **_QUIET))


def _check(ids: list[int], harmless: list[int], tokenizer: PreTrainedTokenizerBase) -> None:
    if _controls(ids, tokenizer) != _controls(harmless, tokenizer):
        raise ConfigError("this tokenizer makes control tokens of a user's text; use a base with another tokenizer")


def _controls(ids: list[int], tokenizer: PreTrainedTokenizerBase) -> list[int]:
    special = _special(tokenizer).ids
    return [token_id for token_id in ids if token_id in special]


def _named(text: str, tokenizer: PreTrainedTokenizerBase) -> bool:
    return _special(tokenizer).names.search(text) is not None


def _broken(text: str, tokenizer: PreTrainedTokenizerBase) -> str:
    """The text with a sign of no width inside each name."""
    return _special(tokenizer).names.sub(lambda match: match[0][0] + _BREAK + match[0][1:], text)


@dataclass(frozen=True)
class _Special:
    """A tokenizer's special tokens: a pattern of their names, and the ids that text alone never gives."""

    names: re.Pattern[str]
    ids: frozenset[int]
    stamp: object


_KNOWN: WeakKeyDictionary[PreTrainedTokenizerBase, _Special] = WeakKeyDictionary()


def _special(tokenizer: PreTrainedTokenizerBase) -> _Special:
    stamp = (tokenizer.__len__(), *tokenizer.all_special_tokens)
    known = _KNOWN.get(tokenizer)
    if known is None or known.stamp != stamp:
        known = _KNOWN[tokenizer] = _read(tokenizer, stamp)
    return known


def _read(tokenizer: PreTrainedTokenizerBase, stamp: object) -> _Special:
    ids = dict(zip(tokenizer.all_special_tokens, tokenizer.all_special_ids, strict=True))
    ids |= {str(token): token_id for token_id, token in tokenizer.added_tokens_decoder.items() if token.special}
    # The longest first: a name may begin with another one.
    names = sorted(filter(None, ids), key=len, reverse=True)
    pattern = re.compile("|".join(map(re.escape, names)) or "(?!)")
    # Bytes, and where a strange sign becomes the token for what is unknown, that one: text gives them without naming them.
    plain = {token_id for name, token_id in ids.items() if _BYTE.fullmatch(name)}
    plain |= set(_split(_BREAK, tokenizer, False)) & {tokenizer.unk_token_id}
    return _Special(pattern, frozenset(set(ids.values()) - plain), stamp)
