"""The smoke scale on some tasks."""

from __future__ import annotations

from pathlib import Path

from perfit.experiments.scale import Choices, scale_of
from perfit.how_to_open import HowToOpen


def choices_in(out: Path, *tasks: str) -> Choices:
    """Tiny bases and made-up users of these tasks, of news categories where none is named, in a folder."""
    return Choices(
        scale_of("smoke").with_changes(tasks=tasks or ("news_categorize",)), out, how=HowToOpen(device="cpu")
    )
