"""What CI runs, by name: ``nox -l`` lists it, ``nox -s tests -- -k shift`` runs a part."""

from __future__ import annotations

import nox
from nox.virtualenv import PassthroughEnv

nox.options.sessions = ["lint", "types", "tests", "docs"]
nox.options.reuse_existing_virtualenvs = True


def install(session: nox.Session, *what: str) -> None:
    """At the versions everything was measured with; with ``--no-venv`` what is there must do."""
    if not isinstance(session.virtualenv, PassthroughEnv):
        session.install("-q", "-c", "constraints.txt", *what)


@nox.session
def lint(session: nox.Session) -> None:
    """Faults and format."""
    install(session, "ruff")
    session.run("ruff", "check", ".")
    session.run("ruff", "format", "--check", ".")


@nox.session
def types(session: nox.Session) -> None:
    """Types, strict on src."""
    install(session, "-e", ".[dev]")
    session.run("mypy")


@nox.session
def tests(session: nox.Session) -> None:
    """All but the slow tests."""
    install(session, "-e", ".[dev]")
    session.run("python", "-m", "pytest", "-n", "2", "--dist", "loadgroup", *session.posargs)


@nox.session
def reproduce(session: nox.Session) -> None:
    """Every table and figure of the paper at the smoke scale: about a minute of one core."""
    install(session, "-e", ".[dev]")
    session.run("perfit", "reproduce", "all", "--scale", "smoke", "--out", "build/reproduce")


@nox.session
def slow(session: nox.Session) -> None:
    """Tests of minutes, on real bases."""
    install(session, "-e", ".[dev]")
    session.run("python", "-m", "pytest", "-m", "slow", *session.posargs)


@nox.session
def docs(session: nox.Session) -> None:
    """The site; a broken link or anchor fails."""
    install(session, "-e", ".[docs]")
    session.run("mkdocs", "build", "--strict", "--site-dir", "build/site")


@nox.session
def minimal(session: nox.Session) -> None:
    """An install without extras imports everything, and names what it lacks."""
    install(session, ".")
    session.run("python", "tests/without_extras.py")
