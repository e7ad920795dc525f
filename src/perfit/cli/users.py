"""``perfit users``: who is in a run's store."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from perfit.cli.given import form_of_dates
from perfit.cli.options import BASE_OF_RUN, DATES, FROZEN_CACHE, JSON, RUN, VERBOSE, opens_a_base
from perfit.cli.show import Screen, as_json, no_loading_bars, say, show_facts
from perfit.errors import ConfigError, PerfitError, UnknownUserError
from perfit.events import Event, Warned
from perfit.how_to_open import USUAL, HowToOpen

if TYPE_CHECKING:
    from perfit.data.schema import User
    from perfit.personalizer import PerFit
    from perfit.store.shifts import ShiftStore
    from perfit.training.learner import Trained

app = typer.Typer(help="List, show, add, export, import and delete users' shifts.", no_args_is_help=True)
USER = Annotated[str, typer.Argument(help="The user's id.")]


def _store(run: Path, readonly: bool = True) -> ShiftStore:
    from perfit.belonging import open_store
    from perfit.run import RunDirectory

    return open_store(RunDirectory(run), readonly=readonly)


@app.command("list", epilog="Example: perfit users list --run runs/quickstart")
def list_(run: RUN, json: JSON = False) -> None:
    """All users with a personal shift."""
    with _store(run) as store:
        names = store.users()
    if json:
        as_json(names)
    else:
        for name in names:
            say(name)


@app.command(epilog="Example: perfit users show demo-user-000 --run runs/quickstart")
def show(user: USER, run: RUN, json: JSON = False) -> None:
    """One user's shift: size, distance from the shared one, and how it was trained."""
    import torch

    from perfit.edits.shift import from_stored
    from perfit.run import RunDirectory

    with _store(run) as store:
        stored = store.get(user)
    shared = RunDirectory(run).collective().shifts[1]
    own = from_stored(stored.tensors)
    layers, rank, width = own.R.shape
    facts = {
        "user": user,
        "layers": layers,
        "rank": rank,
        "hidden_size": width,
        "parameters": own.numel(),
        "bytes": sum(t.numel() * t.element_size() for t in stored.tensors.values()),
        "change_of_weights": round(float(torch.linalg.vector_norm(own.D - shared.D)), 4),
        "change_of_bias": round(float(torch.linalg.vector_norm(own.b - shared.b)), 4),
        **stored.meta,
    }
    if json:
        as_json(facts)
    else:
        show_facts(facts)


@app.command(epilog="Example: perfit users add demo-user-001 --run runs/quickstart --data demo.jsonl")
@opens_a_base
def add(
    run: RUN,
    data: Annotated[Path, typer.Option(help="File or folder that holds the users' histories.")],
    user: Annotated[str | None, typer.Argument(help="One user's id; without it all users of DATA who are new.")] = None,
    refresh: Annotated[
        bool,
        typer.Option("--refresh", help="Without USER: train known users again too, on the histories they have now."),
    ] = False,
    dates: DATES = "iso",
    base: BASE_OF_RUN = None,
    how: HowToOpen = USUAL,
    allow_leaks: Annotated[bool, typer.Option(help="Train although a user's queries stand in the history.")] = False,
    frozen_cache: FROZEN_CACHE = None,
    verbose: VERBOSE = False,
    json: JSON = False,
) -> None:
    """Train a personal shift for one more user (or again for a known one), or for all new ones; nobody else is touched."""
    from perfit.data import read_dataset
    from perfit.run import RunDirectory

    if user is not None and refresh:
        raise ConfigError("--refresh: a user who is named is trained again anyway; leave it out, or leave out the user")
    RunDirectory(run).manifest()  # a folder that is no run must not be taken for a base
    dataset = read_dataset(data, dates=form_of_dates(dates))
    people = dataset.users
    if user is not None:
        people = tuple(one for one in (*dataset.users, *dataset.others) if one.id == user)[:1]
        if not people:
            raise UnknownUserError(f"user {user!r} is not in {data}")
    elif not refresh:
        with _store(run) as store:
            known = set(store.users())
        people = tuple(one for one in dataset.users if one.id not in known)
    screen = Screen(quiet=json, verbose=verbose)
    for note in dataset.notes:
        screen(Warned(note))

    def opened() -> PerFit:
        from perfit.personalizer import PerFit

        no_loading_bars()
        return PerFit.from_pretrained(run, base_at=base, verify=True, **how.given())

    if user is not None:
        _add_one(opened(), people[0], allow_leaks, frozen_cache, screen, json)
        return
    results: list[Trained] = []
    try:
        if people:  # else the base need not be loaded
            perfit = opened()
            results = perfit.personalize_all(
                people, allow_leaks=allow_leaks, frozen_cache=frozen_cache, listener=screen
            )
    finally:
        screen.close()
    skipped = [{"user": one.name, "problem": one.problem} for one in results if one.problem is not None]
    trained, known_users = len(results) - len(skipped), len(dataset.users) - len(people)
    if json:
        as_json({"run": str(run), "trained": trained, "skipped": skipped, "known": known_users})
        return
    left = f", {known_users} known and left as they are (--refresh trains them again)" if known_users else ""
    say(f"{trained} users trained, {len(skipped)} skipped{left}")


def _add_one(
    perfit: PerFit, user: User, allow_leaks: bool, frozen_cache: Path | None, screen: Screen, json: bool
) -> None:
    def show_event(event: Event) -> None:
        if event.kind != "skipped":  # said below, as the fault of this command
            screen(event)

    try:
        trained = perfit.personalize(user, allow_leaks=allow_leaks, frozen_cache=frozen_cache, listener=show_event)
    finally:
        screen.close()
    if trained.problem is not None:
        raise PerfitError(f"user {user.id!r} was not trained: {trained.problem}")
    if json:
        as_json({"user": user.id, "steps": trained.steps, "losses": list(trained.losses)})
    else:
        say(f"{user.id}: {trained.steps} steps, loss {trained.losses[0]:.3f} -> {trained.losses[-1]:.3f}")


@app.command(epilog="Example: perfit users export demo-user-000 exported.safetensors --run runs/quickstart")
def export(user: USER, file: Annotated[Path, typer.Argument(help="File to write.")], run: RUN) -> None:
    """Write one user's shift to a safetensors file."""
    with _store(run) as store:
        store.export_user(user, file)
    say(f"{user} -> {file}")


@app.command(
    "import", epilog="Example: perfit users import exported.safetensors --user demo-twin --run runs/quickstart"
)
def import_(
    file: Annotated[Path, typer.Argument(help="A file that export wrote.")],
    run: RUN,
    user: Annotated[str | None, typer.Option(help="Store it under another id.")] = None,
    overwrite: Annotated[bool, typer.Option(help="Replace a shift that is there.")] = False,
) -> None:
    """Take a user's shift from a file into this run; one of another base is refused."""
    from perfit.pseudo_users import check_id
    from perfit.run import RunDirectory
    from perfit.store.export import read_export
    from perfit.tombstones import Tombstones

    with _store(run, readonly=False) as store:
        check_id(user if user is not None else read_export(file)[0])
        name = store.import_user(file, user=user, overwrite=overwrite)
    if name in Tombstones(run):
        with RunDirectory(run).locked():
            Tombstones(run).lift(name)
    say(f"{file} -> {name}")


@app.command(epilog="Example: perfit users delete demo-twin --run runs/quickstart")
def delete(
    user: USER,
    run: RUN,
    also: Annotated[
        list[Path],
        typer.Option("--also", help="Another run, comparison, analysis, search or frozen cache; may be repeated."),
    ] = [],  # noqa: B006
    json: JSON = False,
) -> None:
    """Erase one user from the run and what was made of it, and say what was done and what is out of reach."""
    from perfit.erasure import erase_user

    done = erase_user(user, run, also)
    if json:
        as_json(done.as_dict())
        return
    if done.went_on:
        say("an erasure of this user was interrupted; it is finished now")
    for deed in done.deeds:
        say(f"{deed.path}: {deed.what}")
    say(f"{user} deleted; not reached:")
    for left in done.unreached:
        say(f"  {left.what}: {left.why}")
