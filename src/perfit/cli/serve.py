"""``perfit serve``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from perfit.cli.options import BASE_OF_RUN, opens_a_base
from perfit.cli.show import Screen, no_loading_bars, say
from perfit.how_to_open import USUAL, HowToOpen


@opens_a_base
def serve(
    run: Annotated[Path, typer.Argument(help="Run directory of perfit train.")] = Path("runs/quickstart"),
    host: Annotated[
        str, typer.Option("--host", help="Address to listen at; one that others can reach needs --keys.")
    ] = "127.0.0.1",
    port: Annotated[int, typer.Option("--port", help="Port; 0 takes a free one.")] = 8000,
    engine: Annotated[
        str, typer.Option("--engine", help="transformers: many at once; reference: one after the other; auto.")
    ] = "auto",
    keys: Annotated[
        Path | None,
        typer.Option("--keys", help="File of tenants and keys (perfit keys add); without, this machine alone."),
    ] = None,
    most: Annotated[int, typer.Option("--most", help="Answers in flight at most; more are told to come again.")] = 64,
    learn: Annotated[
        float, typer.Option("--learn", help="Of one core, what trainings may take; 0: nothing is trained.")
    ] = 0.5,
    traces: Annotated[
        str | None,
        typer.Option(
            "--traces", help="Collector of OpenTelemetry, by OTLP over HTTP (http://127.0.0.1:4318/v1/traces)."
        ),
    ] = None,
    base: BASE_OF_RUN = None,
    how: HowToOpen = USUAL,
) -> None:
    """Serve a run over HTTP, as OpenAI's API does: each request with its own user's shift (docs/serving.md)."""
    from perfit.serving.app import check_extra

    check_extra()  # what is missed is missed before anything is loaded
    from perfit.serving.server import ServeConfig
    from perfit.serving.server import serve as serve_run

    config = ServeConfig(run, host, port, engine, keys, most, learn, traces, base, how)
    no_loading_bars()
    screen = Screen()
    screen.say("loading the base ...")
    serve_run(config, say)
    screen.say("stopped; what was in flight is answered")
