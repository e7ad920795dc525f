"""``perfit keys``: who may ask a server."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from perfit.cli.options import JSON
from perfit.cli.show import as_json, say

app = typer.Typer(help="Make and list keys for perfit serve --keys.", no_args_is_help=True)
FILE = Annotated[Path, typer.Argument(help="File of keys; made where there is none.")]


@app.command(epilog="Example: perfit keys add keys.json --tenant demo --user demo-user-000")
def add(
    file: FILE,
    tenant: Annotated[str, typer.Option("--tenant", help="Whose key.")],
    user: Annotated[
        list[str], typer.Option("--user", help="Whom it may act for: an id, or a beginning with * behind. Repeatable.")
    ] = [],  # noqa: B006
    may: Annotated[
        list[str], typer.Option("--may", help="answer, learn, operate; a new tenant may answer and learn. Repeatable.")
    ] = [],  # noqa: B006
    per_minute: Annotated[int | None, typer.Option("--per-minute", help="Requests a minute.")] = None,
) -> None:
    """Print a new key once; the file keeps its hash alone. A running server takes it from the next request on."""
    from perfit.serving.keys import ANSWER, LEARN, add_key

    say(add_key(file, tenant, user, may or [ANSWER, LEARN], per_minute))


@app.command("list", epilog="Example: perfit keys list keys.json")
def list_(file: FILE, json: JSON = False) -> None:
    """Tenants with their users, rights and number of keys."""
    from perfit.serving.keys import read_keys

    rows = [
        {"tenant": one.name, "keys": len(one.keys), "users": list(one.users), "may": list(one.may)}
        for one in read_keys(file).tenants
    ]
    if json:
        as_json(rows)
        return
    for one in read_keys(file).tenants:
        count = "1 key" if len(one.keys) == 1 else f"{len(one.keys)} keys"
        say(f"{one.name}: {count}, may {', '.join(one.may)}, for {', '.join(one.users) or 'nobody'}")
