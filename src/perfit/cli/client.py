"""``perfit client``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from perfit.cli.show import say, say_pieces
from perfit.errors import ConfigError


def client(
    text: Annotated[str, typer.Argument(help="What is asked.")],
    user: Annotated[str, typer.Option("--user", help="Whose shift answers, or base, or collective.")],
    url: Annotated[str, typer.Option("--url", help="A running perfit serve.")] = "http://127.0.0.1:8000",
    key_file: Annotated[Path | None, typer.Option("--key-file", help="File with a key of the server.")] = None,
    stream: Annotated[
        bool,
        typer.Option("--stream/--no-stream", help="Ask as a message of a chat, and print the answer as it comes."),
    ] = False,
) -> None:
    """Ask a running server: the run's task, or with --stream a conversation (docs/serving.md)."""
    from perfit.serving.client import answer, pieces

    key = None if key_file is None else _key(key_file)
    if not stream:
        say(answer(url, text, user, key))
        return
    say_pieces(pieces(url, text, user, key))


def _key(path: Path) -> str:
    """The key in a file, which is never in a message.

    Raises:
        ConfigError: There is none.
    """
    try:
        key = path.read_text(encoding="ascii").strip()
    except (OSError, UnicodeDecodeError):
        raise ConfigError(f"--key-file: {path} cannot be read as a key; give the file that holds one") from None
    if not key or len(key.split()) != 1:
        raise ConfigError(f"--key-file: {path} holds no key; write what perfit keys add printed into it, and no more")
    return key
