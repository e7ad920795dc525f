"""The command line: parse, call the library, print. Heavy imports wait until a verb runs."""

from __future__ import annotations

import sys
from typing import Annotated

import typer

from perfit.cli import data, ending, keys, store, users
from perfit.cli.analyze import analyze
from perfit.cli.client import client
from perfit.cli.compare import compare
from perfit.cli.evaluate import evaluate
from perfit.cli.generate import generate
from perfit.cli.info import info
from perfit.cli.quickstart import quickstart
from perfit.cli.report import report
from perfit.cli.reproduce import reproduce
from perfit.cli.search import search
from perfit.cli.serve import serve
from perfit.cli.show import say
from perfit.cli.train import train
from perfit.cli.verify import verify

app = typer.Typer(
    name="perfit",
    help="Personalise one frozen language model for many users, with kilobytes a user.",
    epilog="Start here: perfit quickstart. The examples use its run, and the file of: perfit data demo demo.jsonl",
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


app.command(epilog="Example: perfit quickstart")(quickstart)
app.command(epilog="Example: perfit train demo.jsonl --task news_categorize --run runs/demo")(train)
app.command(epilog="Example: perfit evaluate demo.jsonl --run runs/quickstart")(evaluate)
app.command(
    epilog="Example: perfit compare demo.jsonl --task news_categorize --methods base,perfit --against base --out runs/compare"
)(compare)
app.command(epilog="Example: perfit report runs/quickstart")(report)
app.command(epilog='Example: perfit generate "A storm closed the harbour." --user demo-user-000 --run runs/quickstart')(
    generate
)
app.command(epilog="Example: perfit analyze demo.jsonl --task news_categorize --out runs/analysis --queries 4")(analyze)
app.command(epilog="Example: perfit search demo.jsonl --task news_categorize --out runs/search --trials 4")(search)
app.command(epilog="Example: perfit reproduce table4 --scale smoke --out runs/reproduce")(reproduce)
app.command(epilog="Example: perfit info runs/quickstart")(info)
app.command(epilog="Example: perfit serve runs/quickstart")(serve)
app.command(epilog='Example: perfit client "A storm closed the harbour." --user demo-user-000')(client)
app.command(epilog="Example: perfit verify RECEIPT --run runs/quickstart")(verify)
app.add_typer(users.app, name="users")
app.add_typer(store.app, name="store")
app.add_typer(data.app, name="data")
app.add_typer(keys.app, name="keys")


def main() -> None:
    """Run the command line; a fault the user can mend is one line on stderr and an exit code (docs/cli.md)."""
    sys.exit(ending.run(app))


if __name__ == "__main__":
    main()
