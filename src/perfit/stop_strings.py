"""Texts that end an answer, and are no part of it."""

from __future__ import annotations

from collections.abc import Sequence

from perfit.errors import ConfigError


def checked_stop(stop: object) -> tuple[str, ...]:
    """Stop strings as a tuple; a single text is one of them.

    Raises:
        ConfigError: They are no texts, or one is empty.
    """
    given = (stop,) if isinstance(stop, str) else stop
    if not isinstance(given, Sequence) or isinstance(given, bytes):
        raise ConfigError(f"stop: an object of type {type(stop).__name__} is not possible; give texts such as ['\\n']")
    for place, text in enumerate(given):
        if not isinstance(text, str):
            raise ConfigError(
                f"stop[{place}]: an object of type {type(text).__name__} is no text; give one such as '\\n'"
            )
        if not text:
            raise ConfigError(f"stop[{place}]: '' is empty and would end every answer at once; leave it out")
    return tuple(given)


def until_stop(text: str, stop: Sequence[str]) -> str:
    """The text before the stop string that is complete first.

    That one ends the answer, however many characters come at a time: nothing after its end can change the result.
    """
    found = [(begin + len(one), begin) for one in stop if (begin := text.find(one)) >= 0]
    return text[: min(found)[1]] if found else text


def stops(text: str, stop: Sequence[str]) -> bool:
    """Whether the text holds a stop string."""
    return any(one in text for one in stop)


def begun(text: str, stop: Sequence[str]) -> int:
    """Characters at the end of a text without stop string that may turn out to begin one."""
    return max(
        (n for one in stop for n in range(1, min(len(one) - 1, len(text)) + 1) if text.endswith(one[:n])), default=0
    )
