"""``perfit store``: what a run keeps of its users, looked through."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from perfit.cli.ending import ERROR, say_error
from perfit.cli.options import JSON
from perfit.cli.show import as_json, say

app = typer.Typer(help="Check and sweep what a run keeps of its users.", no_args_is_help=True)
RUN = Annotated[Path, typer.Argument(help="Run directory of perfit train.")]


@app.command(epilog="Example: perfit store fsck runs/quickstart")
def fsck(run: RUN, json: JSON = False) -> None:
    """Read every row, payload, digest and version of the users; a line per finding, without ids."""
    from perfit.run import RunDirectory
    from perfit.upkeep.fsck import fsck as check

    found = check(RunDirectory(run))
    if json:
        as_json([one.as_dict() for one in found])
    else:
        for one in found:
            say(one.line())
    damaged = sum(one.damage for one in found)
    if damaged:
        say_error(f"{run}: {damaged} damaged; what is not named is as it was written")
        raise typer.Exit(ERROR)
    if not json:
        say(f"{run}: everything is as it was written")


@app.command(epilog="Example: perfit store encrypt runs/quickstart --data-keys quickstart.keys")
def encrypt(
    run: RUN,
    data_keys: Annotated[Path, typer.Option("--data-keys", help="File of the users' keys, outside the run.")],
) -> None:
    """Hide what is kept of users, each with a key of their own: deleting a user destroys the key, and so every backup."""
    from perfit.run import RunDirectory
    from perfit.upkeep.encrypt import encrypt as hide

    keys = hide(RunDirectory(run), data_keys)
    say(f"{run}: encrypted; the users' keys lie in {keys.file}, keep it and the run's key apart from the run's backups")


@app.command(epilog="Example: perfit store move runs/quickstart --payloads s3://perfit/quickstart")
def move(
    run: RUN,
    payloads: Annotated[
        str, typer.Option("--payloads", help="s3://BUCKET/PREFIX, or sqlite: back into the run's own files.")
    ],
) -> None:
    """Move users' shifts to objects in a bucket, or back; what is written from then on goes there too."""
    from perfit.run import RunDirectory
    from perfit.upkeep.move import move as carry

    users = carry(RunDirectory(run), payloads)
    say(f"{run}: the shifts of {users:,} users lie in {payloads}")


@app.command(epilog="Example: perfit store gc runs/quickstart --dry-run")
def gc(
    run: RUN,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only say what would go.")] = False,
    json: JSON = False,
) -> None:
    """Take away what nothing points at; what is live or kept as a version stays."""
    from perfit.run import RunDirectory
    from perfit.upkeep.gc import gc as sweep

    swept = sweep(RunDirectory(run), dry_run=dry_run)
    if json:
        as_json(swept.as_dict())
        return
    for line in swept.removed:
        say(line)
    say(f"{run}: {swept.bytes:,} bytes {'could be freed' if dry_run else 'freed'}")
