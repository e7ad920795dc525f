"""``perfit verify``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from perfit.cli.options import JSON
from perfit.cli.show import as_json, show_facts


def verify(
    receipt: Annotated[str, typer.Argument(help="The text of an answer's header x-perfit-receipt.")],
    run: Annotated[Path, typer.Option("--run", help="Run directory that answered.")] = Path("runs/quickstart"),
    user: Annotated[str | None, typer.Option("--user", help="Say also whether it is of this user.")] = None,
    json: JSON = False,
) -> None:
    """Check a receipt of perfit serve against a run: signature, base, collective shift, user's shift."""
    from perfit.serving.verifying import verified

    facts = verified(receipt, run, user)
    if json:
        as_json(facts)
    else:
        show_facts(facts)
