"""The command line: parse, call the library, print. Heavy imports wait until a verb runs."""

from __future__ import annotations

import sys
from typing import Annotated

import typer

from perfit.cli import data, ending, users
from perfit.cli.analyze import analyze
from perfit.cli.compare import compare
from perfit.cli.evaluate import evaluate
from perfit.cli.generate import generate
from perfit.cli.info import info
from perfit.cli.quickstart import quickstart
from perfit.cli.report import report
from perfit.cli.search import search
from perfit.cli.show import say
from perfit.cli.train import train

app = typer.Typer(
    name="perfit",
    help="Personalise one frozen language model for many users, with kilobytes a user.",
    epilog="Start here: perfit quickstart",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
    context_settings={"help_option_names": ["-h", "--help"]},
)


def _version(wanted: bool) -> None:
    if wanted:
        from importlib.metadata import version

        say(f"perfit {version('perfit')}")
        raise typer.Exit


@app.callback()
def options(
    version: Annotated[
        bool, typer.Option("--version", help="Print the version and stop.", callback=_version, is_eager=True)
    ] = False,
) -> None:
    """Personalise one frozen language model for many users, with kilobytes a user."""


app.command(epilog="Example: perfit quickstart --run runs/first")(quickstart)
app.command(epilog="Example: perfit train my_users.jsonl --task my_task.yaml --run runs/mine")(train)
app.command(epilog="Example: perfit evaluate my_users.jsonl --run runs/mine")(evaluate)
app.command(
    epilog="Example: perfit compare my_users.jsonl --methods base,oppu,perfit --seeds 0,1,2 --out runs/compare"
)(compare)
app.command(epilog="Example: perfit report runs/compare")(report)
app.command(epilog='Example: perfit generate "A storm closed the harbour." --user demo-0 --run runs/first')(generate)
app.command(epilog="Example: perfit analyze my_users.jsonl --out runs/analysis --users 40 --queries 8")(analyze)
app.command(epilog="Example: perfit search my_users.jsonl --task my_task.yaml --out searches/mine")(search)
app.command(epilog="Example: perfit info runs/mine")(info)
app.add_typer(users.app, name="users")
app.add_typer(data.app, name="data")


def main() -> None:
    """Run the command line; a fault the user can mend is one line on stderr and an exit code (docs/cli.md)."""
    sys.exit(ending.run(app))


if __name__ == "__main__":
    main()
