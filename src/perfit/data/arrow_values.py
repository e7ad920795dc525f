"""Columns of Arrow as Python values: which leaves of a file hold text or numbers, and what those become.

Only these leaves are decoded. Texts are decoded as dictionaries, so that a text that stands in a file once and is
meant a million times is one text in memory too.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from decimal import Decimal
from typing import Any

from perfit.data.saying import shown_name


class TooLargeError(Exception):
    """Texts decode to more characters than was allowed."""


class NamedTwiceError(Exception):
    """Two columns, or two fields of a struct, have one name. The message is the name, fit to be shown."""


@dataclass
class Leaves:
    """Which leaves of a file are read.

    Attributes:
        paths: Dotted paths of the leaves to decode, as Parquet writes them.
        indices: Their positions among all leaves.
        texts: Those of the paths that hold text.
        skipped: What else is there, in words, by column; for lists of structs by column and field.
    """

    paths: list[str] = field(default_factory=list)
    indices: list[int] = field(default_factory=list)
    texts: list[str] = field(default_factory=list)
    skipped: dict[tuple[str, str | None], str] = field(default_factory=dict)


def find_leaves(arrow: Any, schema: Any, paths: list[str], wanted: tuple[str, ...]) -> Leaves:
    """Chooses the leaves to decode: texts, numbers and dates of the wanted columns, alone or in lists of structs.

    Args:
        arrow: The module.
        schema: The file's schema in Arrow's terms.
        paths: All leaves' paths, in the schema's order.
        wanted: Names of columns to read.

    Raises:
        NamedTwiceError: As said.
    """
    found = Leaves()
    position = 0

    def take(kind: Any, column: str, name: str | None) -> None:
        nonlocal position
        count = _count_leaves(kind)
        if column in wanted and count == 1 and _is_read(arrow, kind):
            found.paths.append(paths[position])
            found.indices.append(position)
            if arrow.types.is_string(_value_type(arrow, kind)) or arrow.types.is_large_string(_value_type(arrow, kind)):
                found.texts.append(paths[position])
        else:
            found.skipped[column, name] = _kind(arrow, kind)
        position += count

    _check_names([column.name for column in schema])
    for column in schema:
        kind = column.type
        if _is_list(arrow, kind) and arrow.types.is_struct(kind.value_type):
            parts = [kind.value_type.field(index) for index in range(kind.value_type.num_fields)]
            _check_names([part.name for part in parts])
            for part in parts:
                take(part.type, column.name, part.name)
        elif _is_list(arrow, kind) and _is_read(arrow, kind.value_type):
            take(kind.value_type, column.name, None)
        else:
            take(kind, column.name, None)
    return found


def to_python(arrow: Any, array: Any, budget: list[int]) -> list[Any]:
    """An array's values; dates and timestamps as ISO text (UTC), decimals as whole numbers or text.

    Args:
        arrow: The module.
        array: What was decoded.
        budget: One number: how many characters may still come; it is lowered.

    Raises:
        TooLargeError: More came.
    """
    kind, types = array.type, arrow.types
    if types.is_dictionary(kind):
        places = array.indices.to_pylist()
        used = sorted({place for place in places if place is not None})
        values = dict(
            zip(
                used,
                to_python(arrow, array.dictionary.take(arrow.array(used, arrow.int64())), [budget[0]]),
                strict=True,
            )
        )
        _spend(budget, (values[place] for place in places if place is not None))
        return [None if place is None else values[place] for place in places]
    if types.is_struct(kind):
        names = [kind.field(index).name for index in range(kind.num_fields)]
        columns = [to_python(arrow, column, budget) for column in array.flatten()]
        return [
            dict(zip(names, row, strict=True)) if there else None
            for there, *row in zip(array.is_valid().to_pylist(), *columns, strict=True)
        ]
    if types.is_fixed_size_list(kind):
        return to_python(arrow, array.cast(arrow.list_(kind.value_type)), budget)
    if _is_list(arrow, kind):
        flat = iter(to_python(arrow, array.flatten(), budget))
        return [
            None if length is None else [next(flat) for _ in range(length)]
            for length in array.value_lengths().to_pylist()
        ]
    if types.is_float16(kind):
        array = array.cast(arrow.float32())
    if types.is_float16(kind) or types.is_float32(kind):
        # Through text, so that 4.3 in half the bytes stays 4.3 and does not become 4.300000190734863.
        return [None if text is None else float(text) for text in array.cast(arrow.string()).to_pylist()]
    if types.is_timestamp(kind):
        zone = None if kind.tz is None else "UTC"
        return [_iso(value) for value in array.cast(arrow.timestamp("us", zone), safe=False).to_pylist()]
    values_ = array.to_pylist()
    if types.is_date(kind):
        return [_iso(value) for value in values_]
    if types.is_decimal(kind):
        return [None if value is None else plain_decimal(value) for value in values_]
    _spend(budget, values_)
    return list(values_)


def _spend(budget: list[int], values: Any) -> None:
    budget[0] -= sum(len(value) for value in values if isinstance(value, str))
    if budget[0] < 0:
        raise TooLargeError


def plain_decimal(value: Decimal) -> int | str:
    """A decimal as a whole number or as text, never in powers of ten."""
    return int(value) if value == value.to_integral_value() else format(value.normalize(), "f")


def _iso(value: Any) -> str | None:
    return None if value is None else str(value.isoformat())


def _is_list(arrow: Any, kind: Any) -> bool:
    types = arrow.types
    return bool(types.is_list(kind) or types.is_large_list(kind) or types.is_fixed_size_list(kind))


def _value_type(arrow: Any, kind: Any) -> Any:
    return kind.value_type if arrow.types.is_dictionary(kind) else kind


def _is_read(arrow: Any, kind: Any) -> bool:
    types, kind = arrow.types, _value_type(arrow, kind)
    return any(
        test(kind)
        for test in (
            *(types.is_string, types.is_large_string, types.is_integer, types.is_floating),
            *(types.is_decimal, types.is_date, types.is_timestamp, types.is_null),
        )
    )


def _count_leaves(kind: Any) -> int:
    if kind.num_fields == 0:
        return 1
    return sum(_count_leaves(kind.field(index).type) for index in range(kind.num_fields))


def _kind(arrow: Any, kind: Any) -> str:
    types = arrow.types
    if _is_list(arrow, kind):
        return "a list"
    if types.is_boolean(kind):
        return "true/false"
    if types.is_binary(kind) or types.is_large_binary(kind) or types.is_fixed_size_binary(kind):
        return "binary"
    if types.is_struct(kind) or types.is_map(kind):
        return "an object"
    return f"of the type {str(kind)[:32]}"


def _check_names(names: list[str]) -> None:
    for index, name in enumerate(names):
        if name in names[:index]:
            raise NamedTwiceError(shown_name(name))
