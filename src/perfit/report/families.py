"""Kinds of methods, and the best of them."""

from __future__ import annotations

from collections.abc import Sequence

from perfit.methods.registry import METHODS, method_of

# By module, and where a module has several kinds by what makes a method there.
_KINDS = {
    "floors": "reference",
    "base": "reference",
    "rag": "prompt",
    "pag": "prompt",
    "full_history": "prompt",
    "cos": "steering",
    "style_vector": "steering",
    "lora_c": "LoRA",
    "lora_p": "LoRA",
    "oppu": "LoRA",
    "lofit": "heads",
    "hybrid": "LoRA + shift",
    "perfit": "shift",
    "perfit_stage_1": "shift",
    "perfit_stage_2": "shift",
    "reft_p": "shift",
    "reft_cp": "shift",
    "perfit_code": "shift",
}
FAMILIES = tuple(dict.fromkeys(["shift", *_KINDS.values()]))
"""In the order of a legend; the first has the first colour, PerFit's blue."""


def family_of(method: str) -> str:
    """The kind of a method or of a variant of one; "other" of what is not known here."""
    maker = METHODS.get(method_of(method))
    if maker is None:
        return "other"
    module = maker.module.rpartition(".")[2]
    return _KINDS.get(module, _KINDS.get(maker.function, "other"))


def front(points: Sequence[tuple[int, float]], higher_is_better: bool) -> list[int]:
    """Places of the points (size, score) that no other beats at the same size or a smaller one, the smallest first.

    Of equal points the first is named.
    """
    sign = -1.0 if higher_is_better else 1.0
    best: list[int] = []
    for place in sorted(range(len(points)), key=lambda place: (points[place][0], sign * points[place][1], place)):
        if not best or sign * points[place][1] < sign * points[best[-1]][1]:
            best.append(place)
    return best
