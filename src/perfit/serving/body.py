"""The fields of a request: read one by one, each with its bounds; what is unknown, or would be ignored, is refused."""

from __future__ import annotations

import json
import re
from collections.abc import Collection, Mapping, Sequence
from typing import Any

from perfit.durable.records import NotAsWrittenError, parse_object
from perfit.serving.faults import RefusedError
from perfit.shown import shown

MOST_STOPS, MOST_STOP_LETTERS = 16, 256
_MISSING = object()
# An escaped half of a surrogate pair, one in bytes, or a zero, as in UTF-16.
_MAYBE_HALF = re.compile(rb"\\u[dD][89a-fA-F]|\xed[\xa0-\xbf]|\0")


def _has_half(value: Any) -> bool:
    """Whether a text in it, a name or a value, is none that can be written."""
    try:
        json.dumps(value, ensure_ascii=False).encode()
    except UnicodeEncodeError:
        return True
    return False


class Body:
    """A JSON object of a client.

    Args:
        content: The bytes.

    Raises:
        RefusedError: They are no JSON object of bounded depth.
    """

    def __init__(self, content: bytes):
        try:
            self.fields = parse_object(content)
        except NotAsWrittenError as error:
            raise RefusedError(400, f"the body {error}; send a JSON object", code="invalid_json") from None
        if _MAYBE_HALF.search(content) and _has_half(self.fields):
            raise RefusedError(
                400,
                "the body has half a surrogate pair, which is no character; send whole characters",
                code="invalid_json",
            )

    def only(self, known: Collection[str], *, ignored: Collection[str] = (), neutral: Mapping[str, Any] = {}) -> None:
        """Refuse fields that nobody reads.

        Args:
            known: Fields that are read.
            ignored: Fields that change no answer.
            neutral: Fields that may be there with a value that asks for nothing.
        """
        for name, value in self.fields.items():
            if name in known or name in ignored or value is None:
                continue
            if name in neutral:
                if value in neutral[name]:
                    continue
                raise RefusedError(
                    400, f"{name}: is not supported here; leave it out", param=name, code="unsupported_parameter"
                )
            raise RefusedError(
                400,
                f"{shown(name, 40)}: is not a field of this request; leave it out",
                param=shown(name, 40),
                code="unknown_parameter",
            )

    def text(self, name: str, default: str | None = None, *, most: int | None = None) -> str:
        """A text; needed where there is no default."""
        value = self._value(name, default)
        if not isinstance(value, str):
            raise self._wrong(name, "give a text")
        if most is not None and len(value) > most:
            raise self._wrong(name, f"give at most {most:,} characters")
        return value

    def optional_text(self, name: str) -> str | None:
        """A text, or None where it is not given."""
        return None if self.fields.get(name) is None else self.text(name)

    def whole(self, name: str, default: int | None, least: int, most: int) -> int | None:
        """A whole number within bounds; None where it is not given and has no default."""
        value = self.fields.get(name)
        if value is None:
            return default
        if not isinstance(value, int) or isinstance(value, bool) or not least <= value <= most:
            raise self._wrong(name, f"give a whole number from {least} to {most}")
        return value

    def number(self, name: str, default: float, least: float, most: float, *, above: bool = False) -> float:
        """A number within bounds; ``above``: the lower one does not belong to them."""
        value = self.fields.get(name)
        if value is None:
            return default
        # Compared before it is made a float: a whole number may be too large for one, and NaN is between no bounds.
        ok = isinstance(value, int | float) and not isinstance(value, bool) and least <= value <= most
        if not ok or (above and value == least):
            raise self._wrong(
                name,
                f"give a number {'above' if above else 'from'} {least:g}{', at most' if above else ' to'} {most:g}",
            )
        return float(value)

    def flag(self, name: str, default: bool) -> bool:
        """True or false."""
        value = self.fields.get(name)
        if value is None:
            return default
        if not isinstance(value, bool):
            raise self._wrong(name, "give true or false")
        return value

    def listed(self, name: str, *, most: int) -> Sequence[Any]:
        """A list that is not empty."""
        value = self._value(name, None)
        if not isinstance(value, list) or not value or len(value) > most:
            raise self._wrong(name, f"give a list of 1 to {most:,} entries")
        return value

    def mapping(self, name: str) -> Mapping[str, Any]:
        """An object; empty where it is not given."""
        value = self.fields.get(name)
        if value is None:
            return {}
        if not isinstance(value, dict):
            raise self._wrong(name, "give an object")
        return value

    def stops(self) -> tuple[str, ...] | None:
        """Texts that end an answer; None where nothing is said of them."""
        value = self.fields.get("stop")
        if value is None:
            return None
        given = [value] if isinstance(value, str) else value
        if (
            not isinstance(given, list)
            or len(given) > MOST_STOPS
            or not all(isinstance(one, str) and 0 < len(one) <= MOST_STOP_LETTERS for one in given)
        ):
            raise self._wrong(
                "stop", f"give a text, or up to {MOST_STOPS} texts of 1 to {MOST_STOP_LETTERS} characters"
            )
        return tuple(given)

    def _value(self, name: str, default: Any) -> Any:
        value = self.fields.get(name, _MISSING)
        if value is _MISSING or value is None:
            if default is None:
                raise RefusedError(400, f"{name}: is missing; give it", param=name, code="missing_parameter")
            return default
        return value

    def _wrong(self, name: str, way_out: str) -> RefusedError:
        return RefusedError(400, f"{name}: is not possible; {way_out}", param=name, code="invalid_value")
