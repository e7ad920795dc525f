"""What users bring themselves: ``package.module:name``, or a name that an installed package gives by an entry point.

Nothing is imported because a file on disk names it: only what is typed, or asked of an installed package, is.
"""

from __future__ import annotations

import re
import sys
from importlib import import_module
from importlib.metadata import entry_points
from pathlib import Path
from typing import Any

from perfit.errors import ConfigError

PLACE = re.compile(r"[A-Za-z_]\w*(\.[A-Za-z_]\w*)*:[A-Za-z_]\w*", re.ASCII)


def address_of(name: str, group: str) -> str | None:
    """Where something of one's own is, as ``package.module:name``; None where nothing has this name.

    Args:
        name: Such a place, or the name of an entry point.
        group: The entry points' group, such as "perfit.methods".
    """
    if PLACE.fullmatch(name):
        return name
    found = [point.value for point in entry_points(group=group, name=name)]
    return next((value for value in found if PLACE.fullmatch(value)), None)


def load(place: str, what: str) -> Any:
    """The object at ``package.module:name``; modules in the working folder are found too.

    Args:
        place: Where it is.
        what: What it is for, such as "methods", for errors.

    Raises:
        ConfigError: It cannot be imported, or the module has nothing of the name.
    """
    module, _, name = place.partition(":")
    here = str(Path.cwd())
    if (
        here not in sys.path
    ):  # the script that starts perfit has its own folder there; last, so that nothing is shadowed
        sys.path.append(here)
    try:
        return getattr(import_module(module), name)
    except AttributeError:
        raise ConfigError(f"{what}: {module} has nothing of the name {name!r}; name what it defines") from None
    except ModuleNotFoundError as error:
        raise ConfigError(
            f"{what}: {place!r} cannot be imported (no module {error.name!r}); install it, or call perfit where it lies"
        ) from error
    except Exception as error:
        raise ConfigError(
            f"{what}: {place!r} cannot be imported ({type(error).__name__}); import it in Python to see why"
        ) from error
