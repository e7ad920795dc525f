"""``perfit info``."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from perfit.cli.options import BASE_OF_RUN, JSON
from perfit.cli.show import as_json, show_facts
from perfit.errors import ConfigError, DamagedError

if TYPE_CHECKING:
    from perfit.run import RunDirectory


def info(
    run: Annotated[Path | None, typer.Argument(help="A run directory; without one, the installation.")] = None,
    verify: Annotated[
        bool, typer.Option("--verify", help="Read every byte of the run and of its base, and check it.")
    ] = False,
    base: BASE_OF_RUN = None,
    json: JSON = False,
) -> None:
    """What a run holds, or what is installed on this machine."""
    if verify and run is None:
        raise ConfigError("--verify: checks a run; name its folder")
    if base is not None and not verify:
        raise ConfigError("--base: is where --verify looks for the run's base; give both")
    facts = _installation() if run is None else _run(run)
    if verify and run is not None:
        from perfit.run import RunDirectory
        from perfit.run_check import verify as check

        facts |= {f"verified {what}": result for what, result in check(RunDirectory(run), base_at=base).items()}
    if json:
        as_json(facts)
    else:
        show_facts(facts)


def _installation() -> dict[str, Any]:
    import torch

    from perfit.backbone.cache_folder import cache_dir
    from perfit.device import choose_device
    from perfit.precision import resolve_dtype
    from perfit.run import versions

    device = choose_device()
    return {
        **versions(),
        "device": device,
        "threads": torch.get_num_threads(),
        "base_dtype": str(resolve_dtype("auto", device)).removeprefix("torch."),
        "base_cache": str(cache_dir()),
    }


def _run(run: Path) -> dict[str, Any]:
    from perfit.run import RunDirectory

    directory = RunDirectory(run)
    manifest = directory.manifest()
    try:
        return _facts(directory, manifest)
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise DamagedError(
            f"{directory.manifest_path}: a value is missing or wrong; restore it or train again"
        ) from error


def _facts(directory: RunDirectory, manifest: dict[str, Any]) -> dict[str, Any]:
    from perfit.belonging import open_store
    from perfit.edits.shift import parameter_count
    from perfit.evaluations import evaluations, line

    config, base = manifest["config"], manifest["base"]
    width = base["identity"]["hidden_size"]
    layers = len(config["layers"])
    users = 0
    if directory.store_path.exists():
        with open_store(directory) as store:
            users = len(store)
    data = manifest.get("data") or {}
    return {
        "run": str(directory.path),
        "base": base["name"],
        "task": manifest["task"]["name"],
        "layers": config["layers"],
        "positions": config["positions"],
        "collective_parameters": parameter_count(layers, config["collective_rank"], width)
        + parameter_count(layers, config["personal_rank"], width),
        "personal_parameters_per_user": parameter_count(layers, config["personal_rank"], width),
        "users_with_a_shift": users,
        "collective_shift": "trained" if directory.has_collective() else "not finished",
        "data": f"{data.get('source')} ({data.get('users')} users, {data.get('others')} others)",
        "evaluations": [line(one) for one in reversed(evaluations(directory))],
        "seed": manifest["seed"],
        "versions": manifest["versions"],
    }
