"""From decoded JSON (or Parquet) values to ``User`` records: every rule about what a record must hold.

Rules, the same for all formats:

* Whole numbers and decimals become text, because every field is text to a language model; a whole decimal loses its
  ``.0``, so that a rating of 4.0 is the label "4".
* A null value counts as absent.
* A field of an item that is no text (a list, true/false, ...) is left out and remembered in ``HistoryItem.unread``: it
  does not matter until a task asks for it.
* A list under the name ``messages`` is a conversation: its last message and the reply to it are the texts, and what was
  said before goes with them (``perfit.data.conversation``).
* An *empty* history is kept (training reports such a user and skips it); a *missing* history is an error, because it
  is nearly always a misspelt field.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field

from perfit.data.conversation import MESSAGE, MESSAGES, REPLY, Conversation, conversation
from perfit.data.saying import kind_of, shown_name
from perfit.data.schema import HistoryItem, Query, Turn, User
from perfit.errors import DataError

MAX_ITEM_BYTES = 10 * 1024 * 1024
"""Largest history item or query, all its texts in UTF-8 together."""


@dataclass(frozen=True, slots=True)
class Layout:
    """How a format spells a user record.

    Attributes:
        user / history / queries: Names of the three fields.
        ids_needed: Whether items and queries must carry an id; if not, a missing id is made from the position.
        closed: Whether an unknown field of a user or query is an error (in one's own files it is a typing slip).
    """

    user: str
    history: str
    queries: str
    ids_needed: bool
    closed: bool


OPPU = Layout("user_id", "profile", "query", ids_needed=True, closed=False)
OWN = Layout("user", "history", "queries", ids_needed=False, closed=True)


@dataclass(frozen=True, slots=True)
class NotText:
    """Stands for a value that a reader did not decode, because it is no text. ``kind`` says what it is, in words."""

    kind: str


@dataclass(frozen=True, slots=True)
class Place:
    """A record's position, for messages: the file and a path such as ``line 3.history[7]``."""

    file: str
    record: str

    def inside(self, step: str) -> Place:
        """The place of a part of this record."""
        return Place(self.file, f"{self.record}.{step}")

    def error(self, message: str, remedy: str) -> DataError:
        """A ``DataError`` that names this place."""
        return DataError(message, file=self.file, record=self.record, remedy=remedy)


@dataclass
class UserList:
    """Users of one group in file order; refuses a user id or a query id that comes twice."""

    users: list[User] = field(default_factory=list)
    _user_places: dict[str, str] = field(default_factory=dict)
    _query_places: dict[str, str] = field(default_factory=dict)

    def add(self, user: User, place: Place) -> None:
        """Appends a user.

        Raises:
            DataError: When the user's id, or the id of one of its queries, was seen before.
        """
        first = self._user_places.setdefault(user.id, place.record)
        if first != place.record:
            raise place.error(f"the user id was used before, at {first}", "merge the two records or rename one")
        for index, query in enumerate(user.queries):
            here = place.inside(f"queries[{index}]")
            first = self._query_places.setdefault(query.id, here.record)
            if first != here.record:
                raise here.error(f"the query id was used before, at {first}", "give every query an id of its own")
        self.users.append(user)


def parse_user(raw: object, layout: Layout, place: Place) -> User:
    """Checks one user record.

    Args:
        raw: The decoded record.
        layout: Names of its fields.
        place: Where it stands, for messages.

    Raises:
        DataError: When a field is missing, of a wrong type, too large, or an item id comes twice.
    """
    record = as_object(raw, place)
    if layout.closed:
        _refuse_unknown(record, {layout.user, layout.history, layout.queries, "split"}, place)
    user_id = needed_text(record, layout.user, place)
    history = []
    seen: dict[str, int] = {}
    for index, raw_item in enumerate(_needed_list(record, layout.history, place)):
        here = place.inside(f"{layout.history}[{index}]")
        item = parse_item(raw_item, here, default_id=None if layout.ids_needed else str(index))
        first = seen.setdefault(item.id, index)
        if first != index:
            raise here.error(
                f"the item id was used before, at {layout.history}[{first}]",
                "give every item of a user an id of its own",
            )
        history.append(item)
    # One's own users may come without queries: a shift can be trained for them all the same.
    raw_queries = (
        _needed_list(record, layout.queries, place)
        if layout.ids_needed or record.get(layout.queries) is not None
        else []
    )
    queries = []
    for index, raw_query in enumerate(raw_queries):
        here = place.inside(f"{layout.queries}[{index}]")
        queries.append(parse_query(raw_query, here, layout, default_id=f"{user_id}/q{index}"))
    return User(user_id, tuple(history), tuple(queries))


def parse_item(raw: object, place: Place, *, default_id: str | None) -> HistoryItem:
    """Checks one history item; every field besides ``id`` and ``date`` is one of its texts.

    Args:
        raw: The decoded item.
        place: Where it stands.
        default_id: Id to take when the item has none; None makes the id a must.

    Raises:
        DataError: When the item has no text field, no id although it needs one, or a value that is not text.
    """
    record = as_object(raw, place)
    item_id = _id(record, place, default_id)
    said = _conversation(record, place)
    fields: dict[str, str] = {}
    unread: list[tuple[str, str]] = []
    if said is not None:
        if said.reply is None:
            raise place.error("the messages end with no reply of the assistant", "leave the item out or add the reply")
        fields = {MESSAGE: said.message, REPLY: said.reply}
    for name, value in record.items():
        if name in ("id", "date") or value is None or (said is not None and name == MESSAGES):
            continue
        if name in fields:
            raise place.error(f"the field {name!r} stands beside messages, which bring it", "leave out one of them")
        if (text := as_text(value, place, name)) is not None:
            fields[checked_text(name, place, name)] = text
        else:
            unread.append((name, _kind(value)))
    if not fields:
        others = f"; it has {unread[0][1]}, which is no text" if unread else ""
        raise place.error(f"the item has no text field{others}", "give it at least one field besides id and date")
    date = optional_text(record, "date", place)
    turns = said.turns if said is not None else ()
    _check_size([item_id, *fields.values(), date or "", *_contents(turns)], place)
    return HistoryItem(item_id, fields, date, tuple(unread), turns)


def parse_query(raw: object, place: Place, layout: Layout, *, default_id: str) -> Query:
    """Checks one query.

    Raises:
        DataError: When the input is missing, the layout knows no such field, or a value is not text.
    """
    record = as_object(raw, place)
    said = _conversation(record, place)
    if layout.closed:
        _refuse_unknown(record, {"id", "input", "gold", "date", *([] if said is None else [MESSAGES])}, place)
    query_id = _id(record, place, None if layout.ids_needed else default_id)
    gold, date = optional_text(record, "gold", place), optional_text(record, "date", place)
    if said is None:
        text = needed_text(record, "input", place, may_be_empty=True)
        turns: tuple[Turn, ...] = ()
    else:
        for name, doubled in (("input", "input" in record), ("gold", None not in (gold, said.reply))):
            if doubled:
                raise place.error(f"the field {name!r} stands beside messages, which bring it", "leave out one of them")
        text, turns, gold = said.message, said.turns, gold if gold is not None else said.reply
    _check_size([query_id, text, gold or "", date or "", *_contents(turns)], place)
    return Query(query_id, text, gold, date, turns)


def as_object(raw: object, place: Place) -> Mapping[str, object]:
    """The record as a mapping.

    Raises:
        DataError: When it is anything else.
    """
    if not isinstance(raw, dict):
        raise place.error(f"expected an object, found {_kind(raw)}", "write a record with named fields")
    return raw


def needed_text(record: Mapping[str, object], name: str, place: Place, *, may_be_empty: bool = False) -> str:
    """A text field that must be there.

    Raises:
        DataError: When it is missing, null, empty (unless allowed) or not text.
    """
    text = optional_text(record, name, place)
    if text is None:
        raise place.error(f"the field {name!r} is missing", "add it")
    if not text and not may_be_empty:
        raise place.error(f"the field {name!r} is empty", "fill it")
    return text


def optional_text(record: Mapping[str, object], name: str, place: Place) -> str | None:
    """A text or number field as text; None when it is missing or null.

    Raises:
        DataError: When the value is of another type, or cannot be written as UTF-8.
    """
    value = record.get(name)
    if value is None:
        return None
    text = as_text(value, place, name)
    if text is None:
        raise place.error(f"the field {shown_name(name)} is {_kind(value)}, not text", "write it as text")
    return text


def as_text(value: object, place: Place, name: str) -> str | None:
    """A value as text; None when it is neither text nor a number.

    Raises:
        DataError: When it is text that cannot be written as UTF-8, or a number that Python does not write out.
    """
    if isinstance(value, float):
        if not math.isfinite(value):
            return None
        return str(int(value)) if value.is_integer() else repr(value)
    if isinstance(value, int) and not isinstance(value, bool):
        try:
            return str(value)
        except ValueError:
            raise place.error(f"the field {name!r} is a number of thousands of digits", "give it as text") from None
    return checked_text(value, place, name) if isinstance(value, str) else None


def checked_text(text: str, place: Place, name: str | None) -> str:
    """A text as it is; every text of a user, from a file or a command line, passes here.

    Args:
        text: The text.
        place: Where it stands.
        name: The field it is of, if any.

    Raises:
        DataError: When it cannot be written as UTF-8: half a surrogate pair, or bytes that were no UTF-8.
    """
    if not text.isascii():
        try:
            text.encode()
        except UnicodeEncodeError as error:
            what = "it" if name is None else f"the field {shown_name(name)}"
            raise place.error(
                f"{what} has half a surrogate pair at character {error.start}",
                "the text was cut inside an escaped character, or is not UTF-8; write it again",
            ) from None
    return text


def _needed_list(record: Mapping[str, object], name: str, place: Place) -> list[object]:
    value = record.get(name)
    if value is None:
        raise place.error(f"the field {name!r} is missing", "add it; an empty list is allowed")
    if not isinstance(value, list):
        raise place.error(f"the field {name!r} is {_kind(value)}, not a list", "write it as a list")
    return value


def _id(record: Mapping[str, object], place: Place, default: str | None) -> str:
    if default is not None and record.get("id") is None:
        return default
    return needed_text(record, "id", place)


def _refuse_unknown(record: Mapping[str, object], known: set[str], place: Place) -> None:
    for name in record:
        if name not in known:
            raise place.error(f"the field {shown_name(name)} is unknown", f"known here: {', '.join(sorted(known))}")


def _conversation(record: Mapping[str, object], place: Place) -> Conversation | None:
    """The conversation a record holds, if it does: under that name a text is only a text."""
    if not isinstance(record.get(MESSAGES), list):
        return None
    said = conversation(record[MESSAGES], place.error)
    for turn in (*said.turns, Turn("user", said.message), Turn("assistant", said.reply or "")):
        checked_text(turn.content, place, MESSAGES)
    return said


def _contents(turns: tuple[Turn, ...]) -> list[str]:
    return [turn.content for turn in turns]


def _check_size(texts: list[str], place: Place) -> None:
    # Counting characters is enough while even four bytes for each could not reach the limit.
    if sum(map(len, texts)) * 4 > MAX_ITEM_BYTES:
        size = sum(len(text.encode()) for text in texts)
        if size > MAX_ITEM_BYTES:
            raise place.error(f"the record has {size} bytes, the limit is {MAX_ITEM_BYTES}", "shorten or split it")


def _kind(value: object) -> str:
    if isinstance(value, float) and not math.isfinite(value):
        return "no number (NaN or infinite)"
    return value.kind if isinstance(value, NotText) else kind_of(value)
