"""The lowest versions that pyproject.toml allows, as constraints: ``python .ci/oldest.py > oldest.txt``."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path

_LEAST = re.compile(r"^([A-Za-z0-9._-]+)(?:\[[^\]]*\])?>=([0-9][0-9.]*)")
_TOOLS = ("mkdocs", "mypy", "pytest", "hypothesis", "ruff", "pip", "types-")


def main() -> None:
    """Print a line for each package."""
    project = tomllib.loads(Path("pyproject.toml").read_text(encoding="utf-8"))["project"]
    least: dict[str, str] = {}
    for needed in [
        *project["dependencies"],
        *(one for extra in project["optional-dependencies"].values() for one in extra),
    ]:
        found = _LEAST.match(needed)
        if found is None or needed.startswith(_TOOLS):
            continue
        name, version = found.groups()
        # Two extras may ask for one package: what both take is the higher of their lowest.
        if _numbers(version) > _numbers(least.get(name, "0")):
            least[name] = version
    for name, version in sorted(least.items()):
        print(f"{name}=={version}{'.*' if version.count('.') < 2 else ''}")


def _numbers(version: str) -> tuple[int, ...]:
    return tuple(map(int, version.split(".")))


if __name__ == "__main__":
    main()
