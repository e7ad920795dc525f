"""The paper's layers, counted in 32, on a base of another depth."""

from __future__ import annotations

from collections.abc import Sequence

PAPER_DEPTH = 32


def scaled(layers: Sequence[int], depth: int) -> tuple[int, ...]:
    """Layers of 32 at the same share of another depth, the first at 0 and the last at the end; each once, rising.

    Layers that follow each other stay as many and follow each other, as far as the base is deep enough for them.
    """
    if depth == PAPER_DEPTH:
        return tuple(layers)
    places = [_place(layer, depth) for layer in layers]
    if len(layers) > 1 and list(layers) == list(range(layers[0], layers[0] + len(layers))) and len(layers) < depth:
        first = min(places[0], depth - len(layers))
        places = list(range(first, first + len(layers)))
    return tuple(sorted(dict.fromkeys(places)))


def _place(layer: int, depth: int) -> int:
    return (2 * layer * (depth - 1) + PAPER_DEPTH - 1) // (2 * (PAPER_DEPTH - 1))
