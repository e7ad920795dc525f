"""``perfit generate``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from perfit.cli.show import Screen, as_json, no_loading_bars, one_line, say
from perfit.cli.train import DEVICE, JSON, REVISION, at_revision
from perfit.errors import ConfigError


def generate(
    texts: Annotated[
        list[str] | None, typer.Argument(help="Texts to answer; the task's prompt goes around each.")
    ] = None,
    run: Annotated[Path, typer.Option("--run", help="Run directory of perfit train.")] = Path("runs/quickstart"),
    user: Annotated[
        list[str] | None,
        typer.Option("--user", help="Whose shift: an id, base or collective (the default). Several answer each text."),
    ] = None,
    input: Annotated[
        Path | None, typer.Option("--input", help='JSON Lines of {"user": ..., "input": ...} instead of TEXTS.')
    ] = None,
    histories: Annotated[
        Path | None,
        typer.Option(
            "--histories", help="Users' data, where past items go before prompts (runs with retrieved above 0)."
        ),
    ] = None,
    max_new_tokens: Annotated[int | None, typer.Option(help="Limit per answer; the task's own if not given.")] = None,
    sample: Annotated[bool, typer.Option(help="The paper's sampling instead of greedy.")] = False,
    seed: Annotated[int, typer.Option(help="Seed of sampling.")] = 0,
    device: DEVICE = "cpu",
    revision: REVISION = None,
    json: JSON = False,
) -> None:
    """Answer texts for users; rows of different users run in one batch."""
    if (input is None) == (not texts):
        raise ConfigError("generate: give texts to answer, or --input with a JSON Lines file")
    if input is not None and user:
        raise ConfigError("generate: --input names a user on every line; leave --user out")
    from perfit.data.asked import checked_arguments, read_asked

    if input is not None:
        pairs = read_asked(input)
    else:
        names = checked_arguments(user or ["collective"], "user")
        pairs = [(name, text) for text in checked_arguments(texts or [], "text") for name in names]
    from dataclasses import replace

    from perfit.backbone.generate import Decoding
    from perfit.personalizer import PerFit
    from perfit.run import RunDirectory

    askers = None
    if histories is not None:
        from perfit.data import read_dataset
        from perfit.data.schema import User

        known = {one.id: one for one in read_dataset(histories).users}
        askers = [known.get(name, User(name)) for name, _ in pairs]  # who is not there has no past items
    RunDirectory(run).manifest()  # a folder that is no run must not be taken for a base
    no_loading_bars()
    perfit = PerFit.from_pretrained(run, device=device, **at_revision(revision))
    decoding = Decoding(sample=sample, seed=seed)
    limit = perfit.answer_limit() if max_new_tokens is None else max_new_tokens
    decoding = replace(decoding, max_new_tokens=limit)
    screen = Screen(quiet=json)
    with screen.counting("answering", len(pairs), "texts") as advance:
        answers = perfit.generate(
            [t for _, t in pairs], [u for u, _ in pairs], askers=askers, decoding=decoding, done=advance, emit=screen
        )
    if json:
        as_json([{"user": u, "answer": a.strip()} for (u, _), a in zip(pairs, answers, strict=True)])
        return
    names = [one_line(name) for name, _ in pairs]
    width = max(map(len, names))
    for name, answer in zip(names, answers, strict=True):
        say(f"{name:<{width}}  {answer.strip()}")
